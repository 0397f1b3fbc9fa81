"""Measures how the time of training divides among generator, teacher and student."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

_Mark = float | torch.cuda.Event


class TimeShare(Callback):
    """Measures images per second and the fractions of time of generator and teacher; the rest is the student's.

    On a GPU the times are those between CUDA events; they are read when a checkpoint or the record needs them, and nothing
    waits for the device. One step in `every` is measured there, and each on a CPU.

    Args:
        generator: Object whose `render` is measured, or None for photographs.
        every: Measure one step in this many.
    """

    def __init__(self, generator: Any | None, *, every: int = 10) -> None:
        self.generator = generator
        self.every = every
        self.seconds = {"generator": 0.0, "teacher": 0.0, "step": 0.0}
        self.earlier_wall_s = 0.0
        self._measuring = self._on_gpu = False
        self._began = 0.0
        self._step_began: _Mark = 0.0
        self._unread: list[tuple[str, _Mark, _Mark]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wraps the calls of the two frozen networks."""
        if self.generator is not None:
            self.generator.render = self._timed(self.generator.render, "generator")
        if pl_module.teacher is not None:
            pl_module.teacher.forward = self._timed(pl_module.teacher.forward, "teacher")  # type: ignore[union-attr]
        self._began = time.perf_counter()
        self._on_gpu = pl_module.device.type == "cuda"
        self._start_step(0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ends the measurement of this step and may start the next."""
        if self._measuring:
            self._add("step", self._step_began)
        self._start_step(batch_idx + 1)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cancels the measurement of a step that validation interrupts."""
        self._measuring = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Unwraps the networks and totals the time spent, validation included."""
        self.earlier_wall_s, self._began = self._wall_s(), 0.0
        if self.generator is not None:
            del self.generator.render
        if pl_module.teacher is not None:
            del pl_module.teacher.forward  # type: ignore[union-attr]

    def summary(self, images: int) -> dict[str, Any]:
        """`wall_s`, `images_per_s` and `time_share` (fractions that add to 1) for the run record, after `images` images."""
        self._read()
        step = max(self.seconds["step"], 1e-9)
        fractions = {name: self.seconds[name] / step for name in ("generator", "teacher")}
        return {
            "wall_s": round(self._wall_s(), 2),
            "images_per_s": round(images / max(self._wall_s(), 1e-9), 2),
            "time_share": {**fractions, "student": 1 - sum(fractions.values())},
        }

    def state_dict(self) -> dict[str, Any]:
        """Time spent so far; a resumed run adds to it."""
        self._read()
        return {"wall_s": self._wall_s(), "seconds": dict(self.seconds)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores `state_dict()`."""
        self.earlier_wall_s = state_dict["wall_s"]
        self.seconds = dict(state_dict["seconds"])

    def _wall_s(self) -> float:
        return self.earlier_wall_s + (time.perf_counter() - self._began if self._began else 0.0)

    def _start_step(self, number: int) -> None:
        # The first steps compile.
        self._measuring = number >= 10 and (number % self.every == 0 or not self._on_gpu)
        if self._measuring:
            self._step_began = self._mark()

    def _timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            if not self._measuring:
                return function(*args, **kwargs)
            began = self._mark()
            result = function(*args, **kwargs)
            self._add(name, began)
            return result

        return timed

    def _mark(self) -> _Mark:
        """This moment: on a GPU, that at which the device has done the work it was given so far."""
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _add(self, name: str, began: _Mark) -> None:
        self._unread.append((name, began, self._mark()))
        if not self._on_gpu:
            self._read()

    def _read(self) -> None:
        """Adds up the times measured since the last reading; waits for the device."""
        for name, began, ended in self._unread:
            self.seconds[name] += _seconds(began, ended)
        self._unread.clear()


def _seconds(began: Any, ended: Any) -> float:
    if isinstance(ended, float):
        return ended - began
    ended.synchronize()
    return began.elapsed_time(ended) / 1e3
