"""A fit of tiny parts under `strategy=ddp_cpu`, as a launcher starts it: python launched_fit.py FOLDER [override …]."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from facedistill.config import compose
from facedistill.data.module import FaceDataModule
from facedistill.data.sources.rendered import RenderedFaces
from facedistill.methods.synthdistill import SynthDistill
from facedistill.runs.assembly import settings_of
from facedistill.runs.callbacks.consistency import ConsistentProcesses
from facedistill.runs.checkpointing import LastCheckpoint
from facedistill.runs.processes import is_main_process
from facedistill.runs.strategies import check_machine, execution, trainer_arguments
from tests.helpers.tiny_networks import TinyBackbone, TinyGenerator, TinyTeacher

BATCH, STEPS = 8, 5


def fit(folder: Path, *overrides: str) -> None:
    """Leaves `student.pt` and `facts.pt` of the first process."""
    settings = settings_of(compose("train", ["strategy=ddp_cpu", *overrides]))
    check_machine(settings, BATCH)
    torch.manual_seed(2)
    source = RenderedFaces(TinyGenerator(), seed=3, spread="isotropic")
    data = FaceDataModule(
        source, torch.zeros(4, 3, 112, 112, dtype=torch.uint8), batch_size=BATCH, images=BATCH * STEPS
    )
    optimizer = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    student = execution(settings).prepare(TinyBackbone())
    method = SynthDistill(student=student, teacher=TinyTeacher(), optimizer=optimizer)
    trainer = Trainer(
        **trainer_arguments(settings), max_steps=data.num_steps, max_epochs=-1, logger=False, enable_checkpointing=False,
        num_sanity_val_steps=0, limit_val_batches=0, default_root_dir=str(folder),
        callbacks=[LastCheckpoint(folder / "last.ckpt", every_images=10**9), ConsistentProcesses("aa")],
    )  # fmt: skip
    trainer.fit(method, datamodule=data, weights_only=True)
    if is_main_process():
        environment = type(trainer.strategy.cluster_environment).__name__ if trainer.world_size > 1 else ""
        facts = {
            "world_size": trainer.world_size,
            "environment": environment,
            "images_seen": method.images_seen,
        }
        torch.save(method.student.state_dict(), folder / "student.pt")
        torch.save(facts, folder / "facts.pt")


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    fit(Path(sys.argv[1]), *sys.argv[2:])
