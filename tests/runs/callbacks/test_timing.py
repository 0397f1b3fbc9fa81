"""How the time of a step divides, on a CPU and with CUDA's events."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from facedistill.runs.callbacks.timing import TimeShare


class Event:
    """A CUDA event whose time is that of a clock of the device, in milliseconds; counts how often the host waits."""

    now = 0.0
    waits = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = Event.now

    def synchronize(self) -> None:
        Event.waits += 1

    def elapsed_time(self, other: Event) -> float:
        return other.at - self.at


def run_steps(timing: TimeShare, method: Any, work: Any, steps: int) -> None:
    trainer: Any = None
    timing.on_train_start(trainer, method)
    for number in range(steps):
        timing.generator.render()
        method.teacher.forward()
        work(5.0)
        method.images_seen += 8
        timing.on_train_batch_end(trainer, method, None, None, number)


def test_on_a_gpu_the_times_are_those_of_events_that_are_read_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Event)

    def work(milliseconds: float) -> None:
        Event.now += milliseconds

    class Network:
        def __init__(self, milliseconds: float) -> None:
            self.milliseconds = milliseconds

        def render(self) -> None:
            work(self.milliseconds)

        forward = render

    method: Any = SimpleNamespace(teacher=Network(2.0), device=torch.device("cuda"), images_seen=0)
    timing = TimeShare(Network(3.0), every=10)
    run_steps(timing, method, work, 29)
    assert Event.waits == 0
    timing.on_train_end(None, method)  # type: ignore[arg-type]
    assert timing.state_dict()["seconds"] == pytest.approx(
        {"generator": 0.006, "teacher": 0.004, "step": 0.02}
    )
    assert timing.summary(232)["time_share"] == pytest.approx(
        {"generator": 0.3, "teacher": 0.2, "student": 0.5}
    )


def test_a_run_that_continues_after_its_last_step_has_a_rate() -> None:
    """It was killed while it exported, so Lightning calls no hook of training again."""
    timing = TimeShare(None)
    timing.load_state_dict({"wall_s": 4.0, "seconds": {"generator": 0.0, "teacher": 1.0, "step": 2.0}})
    assert timing.summary(100)["images_per_s"] == 25
