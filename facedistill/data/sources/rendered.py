"""The source that renders faces on the fly from a frozen generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from facedistill.data.augment import Augment
from facedistill.data.cache.replay_pool import FacePool
from facedistill.data.sources.base import Compare, Source, TeacherView
from facedistill.distributed.collectives import gather_constant, world_size
from facedistill.models.counter_random import uniform
from facedistill.models.generators import FrozenGenerator, resample
from facedistill.models.generators.directions import Directions
from facedistill.models.latents import draw_latents
from facedistill.types import FaceBatch, Offers

Resampling = Literal["dynamic", "static"]
StepKind = Literal["fresh", "resampled", "replayed"]


@dataclass(frozen=True)
class Step:
    """What optimizer step `number` trains on: `kind` of faces, and how many batches were rendered before it."""

    number: int
    kind: StepKind
    pair: int
    rendered_before: int


class RenderedFaces(Source):
    """Faces that the generator renders for each step; nothing is stored unless `replay` asks for it.

    SynthDistill's stream (methods' section 1.2) alternates a fresh batch, z ~ N(0, I), and a batch resampled
    around it, w' = w + c·rho·n with c = (cos(student, teacher) + 1) / 2 measured on the fresh batch before its
    update: where both agree the noise is large and a new face comes, where they disagree a variation of the
    hard face comes. `resampling="static"` draws a fresh batch instead, at the same number of images.

    Fresh latents are a function of (seed, global sample index): see `facedistill.models.latents`.

    Args:
        generator: Frozen generator.
        seed: The run's seed.
        resampling: "dynamic" needs a method that reports its agreement per image.
        spread: Units of the perturbation, see `facedistill.models.generators.resample`.
        rho: Resampling coefficient of the paper, >= 0.
        replay: Steps on faces rendered earlier in this run per rendered step; 0 in the paper. Rendering is most
            of the cost on a CPU, so a few-step recipe shows each face more than once.
        pool_images: Capacity of the pool that replayed faces are taken from; each process has its own pool.
        augment: See `Source`.
        teacher_view: See `Source`.
        yaw: Turns faces by angles uniform within ± `yaw` degrees, in (0, 60]; None turns none. The angle is a function of
            (seed, global sample index). Identity changes with the angle, which does no harm without labels.
        yaw_share: Share of the faces that are turned, in (0, 1].
        directions: Of this generator; needed for `yaw`.
    """

    offers = Offers(latents=True)

    def __init__(
        self,
        generator: FrozenGenerator,
        *,
        seed: int,
        resampling: Resampling = "dynamic",
        spread: Literal["covariance", "latent", "isotropic"] = "covariance",
        rho: float = 1.0,
        replay: int = 0,
        pool_images: int = 20_000,
        augment: Augment | None = None,
        teacher_view: TeacherView = "same",
        yaw: float | None = None,
        yaw_share: float = 0.5,
        directions: Directions | None = None,
    ) -> None:
        assert resampling in get_args(Resampling)
        assert yaw is None or directions is not None
        self.generator = generator
        self.seed = seed
        self.spread = spread
        self.rho = rho
        self.replay = replay
        self.augment = augment
        self.teacher_view = teacher_view
        self.yaw, self.yaw_share = yaw, yaw_share
        self._per_degree = directions.yaw.to(generator.cholesky_w) if directions and yaw else None
        self.needs_agreement = resampling == "dynamic"
        self.pool = FacePool(pool_images) if replay else None
        if replay:  # the ring's spare half must outlast two checkpoints
            self.state_per_process = "data.source.replay"
            self.checkpoint_within_images = pool_images // 4
        self._agreement: Tensor | None = None
        self._fresh: tuple[Tensor, Tensor] | None = None

    def open(self, folder: Path, *, resume: bool, rank: int = 0) -> None:
        """Opens this process's pool of faces for replay, where there is one.

        Raises:
            UserError: If a resumed run's pool is missing, or a new one cannot be written.
        """
        if self.pool is not None:
            self.pool.open(folder / (f"faces.{rank}.pool" if rank else "faces.pool"), resumes=resume)

    def step(self, number: int) -> Step:
        """Says what optimizer step `number` trains on: fresh, resampled (dynamic only), then the replays."""
        rendered = 2 if self.needs_agreement else 1
        cycle, position = divmod(number, rendered * (1 + self.replay))
        kind: StepKind = "replayed" if position >= rendered else ("fresh", "resampled")[position]
        return Step(number, kind, pair=cycle, rendered_before=cycle * rendered + min(position, rendered))

    def raw(self, number: int, *, batch_size: int, rank: int = 0, world_size: int = 1) -> dict[str, Any]:
        """Prepares step `number` on the CPU: latents, noise and indices of this rank's share of the batch.

        Rank r takes every `world_size`-th sample of the global batch from r on.
        """
        share = torch.arange(rank, batch_size, world_size)
        return {**self.draw(number, share, batch_size), **self.changes(step=number, samples=share)}

    def draw(self, number: int, share: Tensor, batch_size: int) -> dict[str, Any]:
        """Latents, noise and indices of step `number` for the positions `share` (n,) of the global batch."""
        step = self.step(number)
        raw: dict[str, Any] = {"step": number}
        if step.kind == "replayed":
            stream = f"replay/{number}"
            raw["draw"] = draw_latents(self.seed, stream, share, 1).squeeze(1)
            return raw
        samples = step.pair * batch_size + share
        raw["z"] = self._fresh_latents(samples)
        if step.kind == "resampled":
            raw["rows"] = share
            raw["noise"] = draw_latents(self.seed, "resample", samples, self.generator.latent_dim)
        if self.yaw is not None:
            chosen, angle = uniform(self.seed, "yaw", samples, 2).unbind(1)
            raw["degrees"] = torch.where(chosen < self.yaw_share, (2 * angle - 1) * self.yaw, 0.0)
        return raw

    def finish(self, raw: Mapping[str, Any]) -> FaceBatch:
        """Renders (or replays) the batch on the device the tensors are on."""
        images, latents = self.render(raw)
        return FaceBatch(**self.views(images, raw), latents=latents)

    def render(self, raw: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Faces (n, 3, 112, 112) of `draw`, not augmented, and their latents (n, L); None for replayed faces."""
        step = self.step(raw["step"])
        put_before = step.rendered_before * len(raw["draw" if step.kind == "replayed" else "z"])
        if step.kind == "replayed":
            assert self.pool is not None
            return self.pool.take(raw["draw"], put_before), None
        latents = self._latents(step, raw)
        images = self.generator.render(latents)
        if self.pool is not None:
            self.pool.put(images, put_before)
        return images, latents

    def observe(self, raw_step: int, agreement: Tensor) -> None:
        """Keeps the agreement (n,) in [-1, 1] of a fresh batch for the resampled batch that follows it.

        That of the whole global batch is kept, (N,) in the order of samples, so that a checkpoint of one number of
        processes continues on another.
        """
        if self.needs_agreement and self.step(raw_step).kind == "fresh":
            joined = gather_constant(agreement.detach().float())
            self._agreement = joined.view(world_size(), -1).T.flatten()

    def _fresh_latents(self, samples: Tensor) -> Tensor:
        """(n, L) latents of `samples`; the resampled batch needs those of the fresh batch before it again."""
        if self._fresh is None or not torch.equal(self._fresh[0], samples):
            self._fresh = samples, draw_latents(self.seed, "fresh", samples, self.generator.latent_dim)
        return self._fresh[1]

    def _latents(self, step: Step, raw: Mapping[str, Any]) -> Tensor:
        w = self.generator.map(raw["z"])
        if step.kind == "resampled":
            assert self._agreement is not None, (
                "a resampled batch needs the agreement of the fresh batch before it"
            )
            coefficient = (self._agreement.to(raw["z"].device)[raw["rows"]] + 1) / 2
            w = resample(
                self.generator, w, raw["z"], coefficient, raw["noise"], spread=self.spread, rho=self.rho
            )
        return w if self._per_degree is None else w + raw["degrees"][:, None] * self._per_degree

    @torch.no_grad()
    def example_faces(self, compare: Compare, num_faces: int) -> dict[str, Tensor]:
        """Held-out faces and the variations that this student's agreement makes of them.

        Returns:
            `base` and `variation` (K, 3, 112, 112) in [-1, 1], `base_cosine` and `variation_cosine` (K,) of student and
            teacher, `teacher_cosine` (K,) between base and variation.
        """
        generator, device = self.generator, self.generator.cholesky_w.device
        z, noise = (
            draw_latents(0, f"report/{name}", torch.arange(num_faces), generator.latent_dim).to(device)
            for name in ("z", "noise")
        )
        w = generator.map(z)
        base = generator.render(w)
        cosine, of_base = compare(base)
        varied = resample(generator, w, z, (cosine + 1) / 2, noise, spread=self.spread, rho=self.rho)
        variation = generator.render(varied)
        variation_cosine, of_variation = compare(variation)
        return {
            "base": base,
            "variation": variation,
            "base_cosine": cosine,
            "variation_cosine": variation_cosine,
            "teacher_cosine": torch.cosine_similarity(of_base, of_variation),
        }

    def close(self) -> None:
        """Deletes the pool's file."""
        if self.pool is not None:
            self.pool.close()

    def state_dict(self) -> dict[str, Any]:
        """The part of the stream that is not a function of the step: the last agreement."""
        return {"agreement": None if self._agreement is None else self._agreement.cpu()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores `state_dict()`."""
        self._agreement = state["agreement"]
