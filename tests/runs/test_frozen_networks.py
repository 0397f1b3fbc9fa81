"""Loading the teacher: where it is compiled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from facedistill.config import compose
from facedistill.runs import frozen_networks


@pytest.mark.parametrize(
    ("device", "avx2_only", "compile"),
    [("cpu", True, False), ("cpu", False, "auto"), ("cuda", True, "auto"), (None, True, "auto")],
)
def test_a_teacher_is_compiled_where_that_pays(
    device: str | None, avx2_only: bool, compile: bool | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_with = {}

    class Teacher:
        embedding_dim = 512

        def __init__(self, network: torch.nn.Module, **options: object) -> None:
            made_with.update(options)

        def to(self, device: torch.device) -> Teacher:
            return self

    monkeypatch.setattr(frozen_networks, "FrozenTeacher", Teacher)
    monkeypatch.setattr(frozen_networks, "obtain", lambda card: Path("weights"))
    monkeypatch.setattr(frozen_networks, "check_golden", lambda *arguments: None)
    monkeypatch.setattr(frozen_networks, "usable_precision", lambda precision, *rest: precision)
    # Where no device is given the network goes to the GPU later, if there is one.
    monkeypatch.setattr(frozen_networks, "default_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(frozen_networks, "vectors_end_at_256_bits", lambda: avx2_only)
    frozen_networks.load_teacher(compose("train", ["experiment=demo"]), device and torch.device(device))
    assert made_with["compile"] == compile
