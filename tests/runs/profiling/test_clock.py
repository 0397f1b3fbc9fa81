"""The clock divides time among parts, and `Work` counts what operations read, write and compute."""

from __future__ import annotations

import pytest
import torch

from facedistill.runs.profiling import clock as clock_module
from facedistill.runs.profiling.clock import Clock, Work

CPU = torch.device("cpu")


def test_a_part_inside_another_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = iter([0.0, 1.0, 6.0, 8.0])  # outer begins, inner begins, inner ends, outer ends
    monkeypatch.setattr("time.perf_counter", lambda: next(now_s))
    clock = Clock(CPU)
    with clock.part("outer"):
        clock.timed(lambda: None, "inner")()
    assert clock.seconds == {"outer": 3.0, "inner": 5.0}
    assert clock.current == "other"


def test_flops_and_bytes_go_to_the_part_that_runs_backward_passes_included() -> None:
    clock = Clock(CPU)
    left, right = torch.ones(4, 8, requires_grad=True), torch.ones(8, 2)
    with Work(clock):
        with clock.part("forward"):
            result = left @ right
            result.view(2, 4)  # costs nothing
        with clock.part("backward"):
            result.backward(torch.ones(4, 2))
    assert clock.flops == {"forward": 2 * 4 * 8 * 2, "backward": 2 * 4 * 2 * 8}
    assert clock.bytes["forward"] == 4 * (32 + 16 + 8)


def test_the_ceiling_is_the_fastest_product(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {512: 1.0, 1024: 3.0, 1536: 2.0}
    monkeypatch.setattr(clock_module, "_product_rate", lambda edge, *rest: rates[edge])
    monkeypatch.setattr(clock_module, "_shortest", lambda *rest: 2.0)
    assert clock_module.ceilings(CPU) == (3.0, 1 << 24)
