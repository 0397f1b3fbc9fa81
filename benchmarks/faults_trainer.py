"""Runs of a second for the fault campaign: the real trainer, callbacks and files around tiny networks.

What is real: `facedistill.runs.train.train` with its configuration, run folder, sources (a folder of PNG faces, latents
of a generator), DataModule, methods, heads, optimizers, schedules, Lightning, DDP over gloo, callbacks,
checkpoints, interruptions and the export of unfinished students. What is small or left out: the networks; the
teacher's and generator's weights come from a seed instead of a file; ONNX export, evaluation and report.

Each run is a fork of one process that has imported everything: a cold start costs ten seconds.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor, nn

import facedistill.runs.assembly
import facedistill.runs.export
import facedistill.runs.inputs
import facedistill.runs.train
from facedistill.config import compose
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.evaluation.protocols.images import ArrayImages
from facedistill.export import save_student
from facedistill.models.backbones import Backbone, tinyfar
from facedistill.system.trust import admit
from facedistill.types import InputSpec

D, IDENTITIES, IMAGES = 8, 8, 64
STEPS, BATCH = 24, 8

_LABELED = ("data=folder", "optimizer=sgd", "optimizer.lr=0.05", "scheduler=multi_step")
RECIPES: dict[str, tuple[str, ...]] = {
    "synthdistill": ("method=synthdistill", "data=stylegan"),
    "synthdistill, replay": (
        "method=synthdistill", "data=stylegan", "data.source.replay=1", "data.source.pool_images=48",
    ),
    "ekd": ("method=ekd", *_LABELED, "data.source.balanced={identities: 2, images: 2}", "method.impostor_queue=16"),
    "gkd": ("method=gkd", *_LABELED, "method.size=4"),
    "adadistill": ("method=adadistill", *_LABELED),
}  # fmt: skip


class SmallStudent(Backbone):
    """One convolution, batch norm, dropout (which draws from the global random generator), one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding_dim, self.input_spec, self.arguments = D, InputSpec(), {}
        self.first = nn.Conv2d(3, 8, 16, stride=16)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.1)
        self.last = nn.Linear(8 * 49, D)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) as (N, 8)."""
        return self.last(self.drop(torch.relu(self.norm(self.first(images))).flatten(1)))


class SmallTeacher(nn.Module):
    """Coarse pixels through a fixed matrix; as `FrozenTeacher`, it has no state to save."""

    embedding_dim, input_spec, precision, fingerprint = D, InputSpec(), "fp32", "5" * 64

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(48, D, generator=torch.Generator().manual_seed(1)) / 3
        object.__setattr__(self, "network", nn.Linear(1, 1))  # asked for its device
        object.__setattr__(self, "weight", weight)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) as (N, 8)."""
        return nn.functional.adaptive_avg_pool2d(images, 4).flatten(1) @ self.weight


class SmallGenerator(nn.Module):
    """A linear map from 8 latents to 4 x 4 colors, enlarged."""

    latent_dim = 8

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.register_buffer("cholesky_w", torch.randn(8, 8, generator=draw).tril() / 3)
        self.register_buffer("mean_w", torch.zeros(8))
        self.register_buffer("to_image", torch.randn(8, 48, generator=draw) / 3)

    def map(self, z: Tensor) -> Tensor:
        """(N, 8) to (N, 8)."""
        return 0.5 * z

    def render(self, w: Tensor) -> Tensor:
        """(N, 8) to (N, 3, 112, 112) in [-1, 1]."""
        return nn.functional.interpolate((w @ self.to_image).view(-1, 3, 4, 4), size=112).clamp(-1, 1)


def prepare(folder: Path) -> None:
    """Replaces the large parts by small ones and writes the faces; once, in the process that forks."""
    os.environ.update(WANDB_MODE="disabled", FACEDISTILL_CACHE=str(folder / "cache"))
    admit([__name__])
    torch.set_num_threads(1)
    tinyfar.SmallStudent = SmallStudent  # a student's file may name it now
    faces = torch.randint(
        0, 256, (20, 3, 112, 112), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)
    )
    index = torch.arange(20)
    pairs = PairsProtocol(
        name="validation", image_set=ArrayImages(faces), left=index.repeat(2), right=torch.cat([index, index.roll(1)]),
        same=torch.arange(40) < 20, fold=(index % 10).repeat(2),
    )  # fmt: skip
    assembly, export, train = facedistill.runs.assembly, facedistill.runs.export, facedistill.runs.train
    assembly.load_teachers = lambda *given: SmallTeacher()  # type: ignore[assignment]
    assembly.load_generator = lambda *given: SmallGenerator()  # type: ignore[assignment]
    assembly.validation_pairs = lambda config, generator, teacher: pairs
    facedistill.runs.inputs.asset_cards = lambda config: []
    train.open_configured_protocols = lambda config: ([], [])
    train.evaluate_run = lambda folder: folder.results.write_text("{}")
    train.write_model_card = train.write_report = lambda path: None
    export.save_example_faces = lambda *parts: None
    train.provenance = lambda command: {"command": command}
    export.export_student = _export
    _write_faces(folder / "faces")


def _export(config: DictConfig, folder: object, student: Backbone, faces: Tensor) -> dict[str, float]:
    save_student(student, folder.student, {})  # type: ignore[attr-defined]
    return {"onnx_min_cosine": 1.0}


def _write_faces(folder: Path) -> None:
    draw = np.random.default_rng(0)
    hue = draw.integers(40, 216, (IDENTITIES, 4, 4, 3))
    for number in range(IMAGES):
        owner = number % IDENTITIES
        coarse = np.clip(hue[owner] + draw.integers(-30, 31, (4, 4, 3)), 0, 255).astype(np.uint8)
        path = folder / f"{owner:02d}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.kron(coarse, np.ones((28, 28, 1), dtype=np.uint8))).save(path)


@cache
def _composed(recipe: str, processes: int, faces: Path) -> DictConfig:
    overrides = [
        *RECIPES[recipe], "debug=smoke", "logger=csv", "evaluation.protocols=[generated]", f"images={STEPS * BATCH}", f"data.batch_size={BATCH}",
        f"strategy={'cpu' if processes == 1 else 'ddp_cpu'}", f"callbacks.checkpoint_every_images={3 * BATCH}",
        f"callbacks.validate_every_images={8 * BATCH}", "data.validation.faces=8",
    ]  # fmt: skip
    if "data=folder" in overrides:
        overrides.append(f"data.path={faces}")
    config = compose("train", overrides)
    config.backbone = OmegaConf.create({"_target_": f"{__name__}.SmallStudent"})
    config.teacher.embedding_dim = D
    return config


def configuration(recipe: str, processes: int, faces: Path, runs: Path, workers: int = 0) -> DictConfig:
    """The configuration of a small run.

    Args:
        recipe: One of `RECIPES`.
        processes: 1 or 2.
        faces: The folder that `prepare` wrote.
        runs: Where the run folder goes.
        workers: Processes that read faces.
    """
    config = _composed(recipe, processes, faces).copy()
    config.runs_dir = str(runs)
    config.data.num_workers = workers
    return config
