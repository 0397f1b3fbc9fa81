"""The source of labeled synthetic identities that are rendered for each step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from facedistill.data.augment import Augment
from facedistill.data.sources.base import Source, TeacherView
from facedistill.errors import ConfigError
from facedistill.images import to_float
from facedistill.models.latents import draw_latents
from facedistill.models.synthetic_identities import (
    ChosenIdentities,
    Generator,
    SyntheticIdentities,
    choose_identities,
    render_identity_images,
)
from facedistill.types import FaceBatch, Offers


class SyntheticIdentityStream(Source):
    """Labeled faces without a set on disk: every step renders identities and images drawn from (seed, step).

    Sample i of the stream, i = step·batch_size + position, shows identity floor(u·K) with u uniform of
    (seed, i), and image floor(v·M) of it, or with M = None the image i + 1, which never comes back. Which
    latents are the identities is settled at the first batch, K base faces rendered; where the same faces are
    to be seen often, `facedistill generate` renders them once instead.

    Args:
        generator: Frozen generator.
        teacher: Frozen teacher, which accepts each variation; on the generator's device.
        seed: The run's seed: decides the identities and the order.
        identities: K.
        images_per_identity: M >= 1, or None for ever new variations.
        spread: See `SyntheticIdentities`.
        min_teacher_cosine: See `SyntheticIdentities`.
        max_identity_cosine: See `SyntheticIdentities`.
        augment: See `Source`.
        teacher_view: See `Source`; where the teacher sees the faces as rendered, batches carry its embeddings, known already.

    Raises:
        ConfigError: If a value is outside its range.
    """

    offers = Offers(labels=True, latents=True)

    def __init__(
        self,
        generator: Generator,
        *,
        teacher: nn.Module,
        seed: int,
        identities: int = 500,
        images_per_identity: int | None = None,
        spread: float = 0.35,
        min_teacher_cosine: float = 0.5,
        max_identity_cosine: float = 0.4,
        augment: Augment | None = None,
        teacher_view: TeacherView = "same",
    ) -> None:
        if images_per_identity is not None and images_per_identity < 1:
            raise ConfigError(
                f"data.source.images_per_identity: must be at least 1 or null, got {images_per_identity}"
            )
        self.settings = SyntheticIdentities(
            identities=identities,
            seed=seed,
            spread=spread,
            min_teacher_cosine=min_teacher_cosine,
            max_identity_cosine=max_identity_cosine,
        )
        # A tuple hides the teacher from whatever looks for modules in attributes.
        self._networks = (generator, teacher)
        self.seed = seed
        self.num_identities = identities
        self.images_per_identity = images_per_identity
        self.augment = augment
        self.teacher_view = teacher_view
        self._chosen: ChosenIdentities | None = None

    def raw(self, number: int, *, batch_size: int, rank: int = 0, world_size: int = 1) -> dict[str, Any]:
        """Labels and image numbers of this rank's share: every `world_size`-th sample from `rank` on."""
        share = torch.arange(rank, batch_size, world_size)
        samples = number * batch_size + share
        uniform = torch.special.ndtr(draw_latents(self.seed, "synthetic_stream", samples, 2).double())
        if self.images_per_identity is None:
            images = samples + 1
        else:
            images = _pick(uniform[:, 1], self.images_per_identity)
        labels = _pick(uniform[:, 0], self.settings.identities)
        return {"labels": labels, "image_numbers": images, **self.changes(step=number, samples=share)}

    def finish(self, raw: Mapping[str, Any]) -> FaceBatch:
        """Renders the batch; variations below the teacher cosine are drawn again."""
        generator, teacher = self._networks
        device = generator.cholesky_w.device
        if self._chosen is None:
            self._chosen = choose_identities(generator, teacher, self.settings)
        made = render_identity_images(
            generator, teacher, self._chosen, raw["labels"], raw["image_numbers"], self.settings
        )
        images = to_float(made.faces.to(device))
        known = self.augment is None or self.teacher_view == "clean"
        return FaceBatch(
            **self.views(images, raw),
            labels=raw["labels"].to(device),
            latents=made.styles,
            teacher_embeddings=made.embeddings.to(device) if known else None,
        )


def _pick(uniform: Tensor, count: int) -> Tensor:
    """(N,) whole numbers in [0, count) of uniform numbers in [0, 1]."""
    return (uniform * count).long().clamp(max=count - 1)
