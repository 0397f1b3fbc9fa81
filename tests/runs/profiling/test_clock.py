"""The clock divides time among parts, and `Work` counts what operations read, write and compute."""

from __future__ import annotations

import time

import torch

from facedistill.runs.profiling.clock import Clock, Work

CPU = torch.device("cpu")


def test_a_part_inside_another_counts_once() -> None:
    clock = Clock(CPU)
    inner = clock.timed(lambda: time.sleep(0.03), "inner")
    with clock.part("outer"):
        time.sleep(0.01)
        inner()
        time.sleep(0.01)
    assert clock.seconds["inner"] >= 0.03
    assert 0.02 <= clock.seconds["outer"] < clock.seconds["inner"] + 0.02
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
