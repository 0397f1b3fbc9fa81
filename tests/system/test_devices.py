"""Half precision where the hardware has it."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch

from facedistill.config import compose
from facedistill.models.generators.frozen import check_precision
from facedistill.models.teachers.frozen import FrozenTeacher
from facedistill.models.teachers.golden import draw_faces
from facedistill.runs import frozen_networks
from facedistill.system import devices
from facedistill.types import InputSpec
from tests.models.teachers.test_frozen import Small, weights  # noqa: F401


@pytest.fixture
def old_cpu(monkeypatch):
    """A machine without a GPU whose CPU has no bfloat16 instructions."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: False)
    devices._say_float32.cache_clear()
    yield
    devices._say_float32.cache_clear()


def test_an_old_cpu_computes_in_float32_and_says_so_once(old_cpu, weights, capsys):  # noqa: F811
    exact, asked_half = (FrozenTeacher(Small(), weights, InputSpec(), precision=p) for p in ("fp32", "bf16"))
    FrozenTeacher(Small(), weights, InputSpec(), precision="bf16")
    assert torch.equal(asked_half(draw_faces(2)), exact(draw_faces(2)))
    assert check_precision("bf16") == torch.float32
    messages = capsys.readouterr().err.splitlines()
    assert [message.partition("=")[0] for message in messages] == [
        "teacher.precision",
        "generator.network.precision",
    ]
    assert "no bfloat16 instructions" in messages[0]


def test_the_device_that_computes_decides(old_cpu, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    used = [
        devices.usable_precision("bf16", "key", device)
        for device in (None, torch.device("cuda"), torch.device("cpu"))
    ]
    assert used == ["bf16", "bf16", "fp32"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.usable_precision("bf16", "key") == "fp32"
    assert capsys.readouterr().err.count("key=bf16: this CPU has no bfloat16") == 1


def test_a_run_on_the_cpu_of_a_machine_with_a_gpu_computes_in_float32(old_cpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    made = {name: Mock() for name in ("FrozenTeacher", "instantiate", "obtain", "check_golden")}
    for name, stand_in in made.items():
        monkeypatch.setattr(frozen_networks, name, stand_in)
    made["FrozenTeacher"].return_value.embedding_dim = 512
    config = compose("train", ["teacher.precision=bf16", "generator=mobilestylegan"])
    frozen_networks.load_teacher(config, torch.device("cpu"))
    frozen_networks.load_generator(config, torch.device("cpu"))
    used = [made[name].call_args.kwargs["precision"] for name in ("FrozenTeacher", "instantiate")]
    assert used == ["fp32", "fp32"]


def test_this_cpu_says_whether_it_has_bfloat16():
    assert devices.cpu_has_bfloat16() in (True, False)
    assert devices.usable_precision("fp32", "teacher.precision") == "fp32"
