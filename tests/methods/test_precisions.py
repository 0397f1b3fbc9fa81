"""Every method trains under half weights, and a batch in parts is the batch, in whole fits."""

from __future__ import annotations

import pytest
import torch

from tests.contracts.test_every_method import METHODS, OWN, Convolutions
from tests.distributed.test_whole_fits import SGD, STEPS, fit

PARTS = "trainer.accumulate_grad_batches=4"


def _distance(found, expected):
    ours, theirs = (
        torch.cat([v.double().flatten() for v in side["student"].values()]) for side in (found, expected)
    )
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("name", METHODS)
def test_half_weights_train_and_everything_but_the_student_is_float32(name):
    found = fit("cpu", [f"method={name}", *OWN.get(name, []), *SGD, "trainer.precision=bf16-true"], steps=3)
    for part in ("student", "head"):
        for key, value in found[part].items():
            assert value.isfinite().all(), key
            assert value.dtype in (torch.float32, torch.int64), key


@pytest.mark.parametrize("name", ["ekd", "gkd"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_half_precision_trains_about_the_same_student(name, precision):
    overrides = [f"method={name}", *OWN.get(name, []), *SGD]
    found = fit("cpu", [*overrides, f"trainer.precision={precision}"])
    assert 0 < _distance(found, fit("cpu", overrides)) < 0.02


@pytest.mark.parametrize("name", ["ekd", "crd", "rkd", "adadistill", "triplet_distillation"])
def test_parts_train_the_same_student_where_images_are_compared_or_state_is_kept(name, tmp_path):
    overrides = [f"method={name}", *SGD]
    whole = fit("cpu", overrides, student=Convolutions(), path=tmp_path / "whole.ckpt")
    parts = fit("cpu", [*overrides, PARTS], student=Convolutions(), path=tmp_path / "parts.ckpt")
    assert _distance(parts, whole) < 1e-5
    ours, theirs = (torch.load(tmp_path / f"{kind}.ckpt", weights_only=True) for kind in ("parts", "whole"))
    for key in ("images_seen", "global_step", "FaceDataModule", "lr_schedulers"):
        assert ours[key] == theirs[key], key
    assert ours["global_step"] == STEPS
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()


def test_a_run_in_parts_continues_exactly(tmp_path):
    overrides = ["method=ekd", *SGD, PARTS]
    fit("cpu", overrides, path=tmp_path / "part.ckpt", steps=2)
    resumed, whole = fit("cpu", overrides, resume=tmp_path / "part.ckpt"), fit("cpu", overrides)
    for key, value in whole["student"].items():
        assert torch.equal(resumed["student"][key], value), key
