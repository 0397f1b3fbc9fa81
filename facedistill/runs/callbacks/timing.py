"""Measures how the time of training divides among generator, teacher and student."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class TimeShare(Callback):
    """Measures images per second and the fractions of time of generator and teacher; the rest is the student's.

    On a GPU every measured call waits for the device, so only one step in `every` is measured.

    Args:
        generator: Object whose `render` is measured, or None for photographs.
        every: Measure one step in this many.
    """

    def __init__(self, generator: Any | None, *, every: int = 10) -> None:
        self.generator = generator
        self.every = every
        self.seconds = {"generator": 0.0, "teacher": 0.0, "step": 0.0}
        self.earlier_wall_s = 0.0
        self.images = 0
        self._measuring = False
        self._began = self._step_began = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wraps the calls of the two frozen networks."""
        if self.generator is not None:
            self.generator.render = self._timed(self.generator.render, "generator")
        if pl_module.teacher is not None:
            pl_module.teacher.forward = self._timed(pl_module.teacher.forward, "teacher")  # type: ignore[union-attr]
        self._began = time.perf_counter()
        self._start_step(0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ends the measurement of this step and may start the next."""
        if self._measuring:
            self._wait()
            self.seconds["step"] += time.perf_counter() - self._step_began
        self._start_step(batch_idx + 1)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cancels the measurement of a step that validation interrupts."""
        self._measuring = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Unwraps the networks and totals the images and the time spent, validation included."""
        self.earlier_wall_s, self._began = self._wall_s(), 0.0
        self.images = int(pl_module.images_seen)  # type: ignore[arg-type]
        if self.generator is not None:
            del self.generator.render
        if pl_module.teacher is not None:
            del pl_module.teacher.forward  # type: ignore[union-attr]

    def summary(self) -> dict[str, Any]:
        """`wall_s`, `images_per_s` and `time_share` (fractions that add to 1) for the run record."""
        step = max(self.seconds["step"], 1e-9)
        fractions = {name: self.seconds[name] / step for name in ("generator", "teacher")}
        return {
            "wall_s": round(self._wall_s(), 2),
            "images_per_s": round(self.images / max(self._wall_s(), 1e-9), 2),
            "time_share": {**fractions, "student": 1 - sum(fractions.values())},
        }

    def state_dict(self) -> dict[str, Any]:
        """Time spent so far; a resumed run adds to it."""
        return {"wall_s": self._wall_s(), "seconds": dict(self.seconds)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores `state_dict()`."""
        self.earlier_wall_s = state_dict["wall_s"]
        self.seconds = dict(state_dict["seconds"])

    def _wall_s(self) -> float:
        return self.earlier_wall_s + (time.perf_counter() - self._began if self._began else 0.0)

    def _start_step(self, number: int) -> None:
        # The first steps compile.
        self._measuring = number >= 10 and (number % self.every == 0 or not torch.cuda.is_available())
        if self._measuring:
            self._wait()
            self._step_began = time.perf_counter()

    def _timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            if not self._measuring:
                return function(*args, **kwargs)
            self._wait()
            began = time.perf_counter()
            result = function(*args, **kwargs)
            self._wait()
            self.seconds[name] += time.perf_counter() - began
            return result

        return timed

    @staticmethod
    def _wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
