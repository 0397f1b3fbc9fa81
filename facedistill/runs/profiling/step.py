"""A training step of a configuration, taken apart: the same parts as in a run, without Lightning's loop, files and logs."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from omegaconf import DictConfig

from facedistill.data.module import FaceDataModule
from facedistill.models.teachers.team import Teacher
from facedistill.runs.assembly import build_student_and_method, check_offers, settings_of
from facedistill.runs.folder import RunFolder
from facedistill.runs.frozen_networks import load_generator, load_teachers
from facedistill.runs.inputs import open_inputs, trains_on_generated_faces
from facedistill.runs.profiling.clock import Clock, Work, ceilings, wait_for
from facedistill.runs.sources import build_source, requirements
from facedistill.runs.strategies import root_device
from facedistill.types import FaceBatch, StepOutput

_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Part:
    """One part of a step: its seconds, FLOPs and bytes, as `Work` counts them."""

    name: str
    seconds: float
    flops: float
    bytes: float


@dataclass(frozen=True)
class Profile:
    """What a configuration's step takes.

    Attributes:
        device: Name.
        batch_size: Images of a step.
        images_per_s: Of whole steps, without a wait between the parts.
        first_s: Seconds of the first steps, which compile.
        cycle: Number of these first steps; see `cycle_of`.
        parts: The longest first, measured with a wait for the device after each.
        flops_per_s: Of a matrix product on this device.
        bytes_per_s: Of a copy on this device.
        gpu_s: Seconds of a step in which a GPU has work; None on a CPU.
    """

    device: str
    batch_size: int
    images_per_s: float
    first_s: float
    cycle: int
    parts: list[Part]
    flops_per_s: float
    bytes_per_s: float
    gpu_s: float | None = None


class TrainingStep:
    """Everything that a step of `config` uses; `step` does one.

    Args:
        config: Composed and validated training configuration; `data.batch_size` is that of one process.
    """

    def __init__(self, config: DictConfig) -> None:
        settings = settings_of(config)
        self.device = root_device(settings)
        self.clock = Clock(self.device)
        self.batch_size = config.data.batch_size
        teacher = load_teachers(config, self.device)
        generator = load_generator(config, self.device) if trains_on_generated_faces(config) else None
        torch.manual_seed(config.seed)
        source = build_source(config, generator, teacher, open_inputs(config).faces)
        check_offers(requirements(config), source)
        self._folder = tempfile.TemporaryDirectory()
        source.open(Path(self._folder.name), resume=False)
        self.cycle = cycle_of(source)
        self.data = FaceDataModule(
            source,
            torch.empty(0),
            batch_size=self.batch_size,
            images=1 << 40,
            num_workers=config.data.num_workers,
            device=self.device,
        )
        folder = RunFolder(Path(self._folder.name))  # empty
        self.method = build_student_and_method(config, folder, source, generator, teacher).to(self.device)
        self.method.student.train()
        self.optimizer = self.method.build_optimizer(may_fuse=settings["precision"] != "16-mixed")
        self._autocast = _AUTOCAST.get(settings["precision"])
        self._batches: Iterator[Any] = iter(self.data.train_dataloader())
        self._time_the_parts(generator, teacher, source)

    def _time_the_parts(self, generator: Any, teacher: Teacher, source: Any) -> None:
        timed = self.clock.timed
        if generator is not None:
            generator.render = timed(generator.render, "generator")
        if hasattr(source.augment, "apply"):
            source.augment.apply = timed(source.augment.apply, "augmentation")
        teacher.forward = timed(teacher.forward, "teacher")  # type: ignore[method-assign]
        student: Any = self.method.student
        student.forward = timed(student.forward, "student forward")

    def step(self) -> None:
        """One step, from the loader to the optimizer."""
        part = self.clock.part
        with part("loader"):
            raw = self.data.on_before_batch_transfer(next(self._batches), 0)
        with part("copy to the device"):
            raw = move_data_to_device(raw, self.device)
        with part("faces"):
            batch = self.data.on_after_batch_transfer(raw, 0)
        self.data.finish_step(self.learn(batch).agreement)

    def learn(self, batch: FaceBatch) -> StepOutput:
        """Loss, backward pass and optimizer on given faces."""
        part = self.clock.part
        half = torch.autocast(self.device.type, self._autocast) if self._autocast else nullcontext()
        with part("loss"), half:
            output = self.method.distill(batch)
        with part("backward"):
            output.loss.backward()
        with part("optimizer"):
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return output

    def steps(self, number: int) -> float:
        """Seconds of `number` steps."""
        wait_for(self.device)
        began = time.perf_counter()
        for _ in range(number):
            self.step()
        wait_for(self.device)
        return time.perf_counter() - began

    def rate(self, seconds: float) -> tuple[float, float]:
        """Images per second of whole steps over about `seconds`, and the seconds of the first steps, which compile."""
        self.clock.waits = False
        first_s = self.steps(self.cycle)
        cycles = max(1, round(seconds / self.steps(self.cycle)))
        return self.batch_size * self.cycle * cycles / self.steps(self.cycle * cycles), first_s

    def close(self) -> None:
        """Ends the loader's workers and deletes temporary files."""
        del self._batches
        self._folder.cleanup()
        gc.collect()  # the measured calls are in reference cycles, and their networks fill the device


def cycle_of(source: Any) -> int:
    """Steps after which the kinds of batches repeat: a fresh one and a resampled one, each with its replays."""
    return 2 * (1 + getattr(source, "replay", 0))


def profile_step(config: DictConfig, *, seconds: float = 10.0, trace: Path | None = None) -> Profile:
    """Measures a step of a configuration and its parts.

    Args:
        config: Composed and validated training configuration.
        seconds: For whole steps, and again for the parts.
        trace: Where to write a trace of one cycle of steps that Perfetto and chrome://tracing open; None for none.
    """
    training = TrainingStep(config)
    try:
        rate, first_s = training.rate(seconds)
        clock = training.clock
        clock.clear()
        clock.waits = True
        cycle = training.cycle
        count = max(1, round(seconds * rate / training.batch_size / cycle)) * cycle
        training.steps(count)
        spent = dict(clock.seconds)
        if trace is not None:
            _write_trace(training, trace)
        gpu_s = _gpu_seconds(training) if training.device.type == "cuda" else None
        with torch.compiler.set_stance("force_eager"), Work(clock):
            training.steps(cycle)
    finally:
        training.close()
    parts = [
        Part(name, of / count, clock.flops[name] / cycle, clock.bytes[name] / cycle)
        for name, of in sorted(spent.items(), key=lambda one: -one[1])
    ]
    device = training.device
    return Profile(
        device_name(device), training.batch_size, rate, first_s, cycle, parts, *ceilings(device), gpu_s
    )


def device_name(device: torch.device) -> str:
    """Of the GPU, or of the processor with the number of threads."""
    from facedistill.runs.method_cost import processor

    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def _write_trace(training: TrainingStep, trace: Path) -> None:
    training.clock.waits = False
    with torch.profiler.profile() as recorded:
        training.steps(training.cycle)
    recorded.export_chrome_trace(str(trace))


def _gpu_seconds(training: TrainingStep) -> float:
    """Seconds of the kernels and copies of a step; without the host's events, whose recording slows the host down."""
    training.clock.waits = False
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as recorded:
        training.steps(training.cycle)
    return sum(event.self_device_time_total for event in recorded.key_averages()) / 1e6 / training.cycle
