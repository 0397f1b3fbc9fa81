"""A real two-process fit is the one-process fit: same faces, same student, and checkpoints change hands."""

from __future__ import annotations

import functools
import os

import pytest
import torch
from torch import nn

from facedistill.data.module import FaceDataModule
from facedistill.data.sources.rendered import RenderedFaces
from facedistill.errors import ConfigError
from facedistill.methods.synthdistill import SynthDistill
from facedistill.runs.callbacks.consistency import ConsistentProcesses
from tests.distributed.processes import in_processes
from tests.helpers.errors import error_message
from tests.helpers.tiny_networks import TinyGenerator, TinyTeacher
from tests.helpers.trainers import quiet_trainer

BATCH, STEPS = 8, 7


def _student():
    torch.manual_seed(2)
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 6)
    )


def _fit(rank, world_size, path, steps=STEPS, resume=None, identities=("aa", "aa"), batch=BATCH):
    if world_size > 1:
        os.environ.update(LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT="29533")
    source = RenderedFaces(TinyGenerator(), seed=3, spread="isotropic")
    faces = torch.zeros(4, 3, 112, 112, dtype=torch.uint8)
    data = FaceDataModule(source, faces, batch_size=batch, images=batch * STEPS)
    optimizer = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    method = SynthDistill(student=_student(), teacher=TinyTeacher(), optimizer=optimizer)
    trainer = quiet_trainer(
        steps, checkpoint=path, devices=world_size, strategy="ddp" if world_size > 1 else "auto",
        callbacks=[ConsistentProcesses(identities[rank])],
    )  # fmt: skip
    trainer.fit(method, datamodule=data, ckpt_path=resume, weights_only=True)
    return {"student": method.student.state_dict(), "images_seen": method.images_seen}


_refused = functools.partial(error_message, ConfigError, _fit)


def _everything(rank, folder):
    return {
        "whole": _fit(rank, 2, folder / "two.ckpt"),
        "part": _fit(rank, 2, folder / "part.ckpt", steps=3),
        "mixed": _refused(rank, 2, folder / "no.ckpt", identities=("aa", "bb")),
        "uneven": _refused(rank, 2, folder / "no.ckpt", batch=9),
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    return folder, _fit(0, 1, folder / "one.ckpt"), in_processes(_everything, folder)


def test_two_processes_train_the_student_of_one(runs):
    _, one, both = runs
    for found in both:
        assert found["whole"]["images_seen"] == one["images_seen"] == BATCH * STEPS
        for name, expected in one["student"].items():
            assert torch.allclose(found["whole"]["student"][name], expected, atol=1e-6), name
    for name, tensor in both[0]["whole"]["student"].items():
        assert torch.equal(tensor, both[1]["whole"]["student"][name]), name


def test_a_checkpoint_of_two_processes_continues_in_one(runs):
    """Step 3 is a resampled one: the agreement of the whole global batch must be in the checkpoint."""
    folder, one, _ = runs
    resumed = _fit(0, 1, folder / "resumed.ckpt", resume=folder / "part.ckpt")
    for name, expected in one["student"].items():
        assert torch.allclose(resumed["student"][name], expected, atol=1e-6), name


def test_processes_with_different_configurations_do_not_start(runs):
    _, _, both = runs
    assert {found["mixed"] for found in both} == {
        "the processes of this run have different configurations (rank 0: 000000aa, rank 1: 000000bb); start every "
        "rank with the same overrides"
    }


def test_a_batch_that_cannot_be_shared_is_refused(runs):
    _, _, both = runs
    assert {found["uneven"] for found in both} == {
        "data.batch_size=9: must be a multiple of the 2 processes, so that each has an equal share"
    }
