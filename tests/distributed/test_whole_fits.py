"""Whole fits under Lightning: two processes, each margin head split, clipped and sampled, train what one process trains.

Methods are built before the processes know one another, as `facedistill train` builds them.
"""

from __future__ import annotations

import functools
import os

import pytest
import torch
from lightning.pytorch import Trainer
from omegaconf import OmegaConf
from torch import nn

from facedistill.config import compose
from facedistill.data.module import FaceDataModule
from facedistill.models.backbones import MobileFaceNet, TinyFaR
from facedistill.models.execution import as_built
from facedistill.runs.assembly import build_method, settings_of
from facedistill.runs.checkpointing import LastCheckpoint
from facedistill.runs.strategies import execution, trainer_arguments
from facedistill.system.trust import admit
from facedistill.types import InputSpec
from tests.contracts.test_every_method import FixedFaces, K, N, Teacher
from tests.distributed.processes import in_processes

STEPS = 4
pytestmark = pytest.mark.slow
HEADS = ["arcface", "cosface", "adaface", "magface", "curricularface", "uniface", "arcface_tface"]
CLIP = "trainer.gradient_clip_val=0.5"
SGD = ["optimizer=sgd", "optimizer.lr=0.05", CLIP]  # Adam makes steps of a zero gradient's rounding
SUPERVISED = ["method=supervised", *SGD]


class Normed(nn.Module):
    """A student with batch norm, small enough for many fits."""

    embedding_dim = 16
    input_spec = InputSpec()

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.layers = nn.Sequential(
                nn.Conv2d(3, 8, 4, stride=8), nn.BatchNorm2d(8), nn.PReLU(8), nn.AdaptiveAvgPool2d(3), nn.Flatten(),
                nn.Linear(72, 16),
            )  # fmt: skip

    def forward(self, images):
        return self.layers(images)


class InDouble(nn.Module):
    """A real backbone in float64: dozens of batch norms magnify float32's rounding beyond comparing."""

    embedding_dim = 16
    input_spec = InputSpec()

    def __init__(self, make) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.network = make(embedding_dim=16).double()

    def forward(self, images):
        return self.network(images.double()).float()


admit([__name__])
BACKBONES = {"tinyfar": functools.partial(TinyFaR, "c"), "mobilefacenet": MobileFaceNet}
PARTS = ["method=rkd", *SGD, "trainer.accumulate_grad_batches=2"]
PLAIN = ["method=cosine", "optimizer=sgd", "optimizer.lr=0.05"]


def fit(strategy, overrides, *, path=None, resume=None, steps=STEPS, student=None, rank=0):
    """Trains under Lightning; the student, the head's whole state, and the norm of each step's gradient."""
    config = compose(
        "train", [f"strategy={strategy}", "data=synthetic_identities", "scheduler=constant", *overrides]
    )
    config.backbone = OmegaConf.create({"_target_": f"{__name__}.Normed"})  # a peer's
    settings = settings_of(config)
    torch.manual_seed(0)
    source, teacher = FixedFaces(), Teacher()
    centers = nn.functional.normalize(torch.randn(K, 16, generator=torch.Generator().manual_seed(6)))
    method = build_method(
        config, student=execution(settings).prepare(student or Normed()), teacher=teacher, num_identities=K, num_images=N,
        centers=lambda: centers,
    )  # fmt: skip
    data = FaceDataModule(
        source, torch.zeros(2, 3, 112, 112, dtype=torch.uint8), batch_size=N, images=N * STEPS
    )
    norms = []
    inner = method.configure_gradient_clipping

    def clipped(optimizer, *arguments, **options):
        inner(optimizer, *arguments, **options)
        parts = [
            p.grad.norm()
            for n, p in method.named_parameters()
            if p.grad is not None and n != "head.share.weight"
        ]
        norms.append(float(torch.stack(parts).norm()))

    method.configure_gradient_clipping = clipped
    trainer = Trainer(
        **trainer_arguments(settings), max_steps=steps, max_epochs=-1, logger=False, enable_checkpointing=False,
        num_sanity_val_steps=0, limit_val_batches=0,
        callbacks=[LastCheckpoint(path, every_images=10**9)] if path else [],
    )  # fmt: skip
    trainer.fit(method, datamodule=data, ckpt_path=resume, weights_only=True)
    head = getattr(method, "head", None)
    return {
        "student": as_built(method.student).state_dict(),
        "head": head.state_dict() if head is not None else {},
        "norms": norms,
        "share": len(head.share.weight) if hasattr(head, "share") else None,
    }


def _alone_in_a_group(rank):
    """Lightning is to make the group, after the method was built."""
    torch.distributed.destroy_process_group()
    os.environ.update(LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT="29541")


def _close(found, expected, tolerance):
    for part in ("student", "head"):
        for name, value in expected[part].items():
            gap = (found[part][name].double() - value.double()).abs().max()
            assert gap <= tolerance * value.double().abs().max().clamp(min=1), (part, name, float(gap))


def _split_fits(rank, folder):
    _alone_in_a_group(rank)
    found = {head: fit("ddp_cpu", [*SUPERVISED, f"head={head}_sharded"]) for head in HEADS}
    found["gkd"] = fit("ddp_cpu", ["method=gkd", "method.size=4", "head=cosface_sharded", *SGD])
    found["proxyless"] = fit("ddp_cpu", ["method=proxyless", "head=cosface_sharded", *SGD])
    sampled = [*SUPERVISED, "head=arcface_sharded", "head.sample_rate=0.5"]
    found["sampled"] = fit("ddp_cpu", sampled)
    fit("ddp_cpu", sampled, path=folder / "part.ckpt", steps=2)
    found["resumed"] = fit("ddp_cpu", sampled, resume=folder / "one.ckpt")
    for name, make in BACKBONES.items():
        found[name] = fit("ddp_cpu", PLAIN, student=InDouble(make), steps=2)
    found["parts"] = fit("ddp_cpu", PARTS)
    found["clipped"] = found["arcface"]["norms"]
    return found


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("split")
    sampled = [*SUPERVISED, "head=arcface_sharded", "head.sample_rate=0.5"]
    fit("cpu", sampled, path=folder / "one.ckpt", steps=2)
    return folder, in_processes(_split_fits, folder)


@pytest.mark.parametrize("head", HEADS)
def test_a_split_head_in_two_processes_is_the_plain_head_in_one(head, split):
    expected = fit("cpu", [*SUPERVISED, f"head={head}"])
    for found in (answers[head] for answers in split[1]):
        assert found["share"] == K / 2
        _close(found, expected, 2e-5)


@pytest.mark.parametrize(("name", "overrides"), [
    ("gkd", ["method=gkd", "method.size=4", "head=cosface"]), ("proxyless", ["method=proxyless", "head=cosface"]),
])  # fmt: skip
def test_so_are_methods_that_use_its_logits(name, overrides, split):
    expected = fit("cpu", [*overrides, *SGD])
    for found in (answers[name] for answers in split[1]):
        _close(found, expected, 2e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_real_backbone_with_its_batch_norm_trains_as_in_one_process(name, split):
    expected = fit("cpu", PLAIN, student=InDouble(BACKBONES[name]), steps=2)
    for found in (answers[name] for answers in split[1]):
        _close(found, expected, 1e-6)


def test_a_part_holds_the_same_images_in_any_number_of_processes(split):
    """Its batch norm normalizes by them."""
    expected = fit("cpu", PARTS)
    for found in (answers["parts"] for answers in split[1]):
        _close(found, expected, 2e-5)


def test_the_gradient_is_clipped_by_the_norm_of_all_processes(split):
    """Both scale alike: Lightning would take each process's own norm, and the students would part."""
    first, second = (answers["clipped"] for answers in split[1])
    assert first == second
    assert max(first) < 0.5  # the rest of the norm is the centers'
    for name, value in split[1][0]["arcface"]["student"].items():
        assert torch.equal(value, split[1][1]["arcface"]["student"][name]), name


def test_sampled_centers_do_not_depend_on_the_number_of_processes_nor_does_their_checkpoint(split):
    folder, answers = split
    sampled = [*SUPERVISED, "head=arcface_sharded", "head.sample_rate=0.5"]
    expected = fit("cpu", sampled)
    assert int(expected["head"]["draws"]) == STEPS
    _close(fit("cpu", sampled, resume=folder / "part.ckpt"), expected, 2e-5)
    for found in answers:
        _close(found["sampled"], expected, 2e-5)
        _close(found["resumed"], expected, 2e-5)
