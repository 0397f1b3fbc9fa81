"""Tries settings that change the speed of a run and not its result beyond rounding, one after the other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from facedistill.config import compose
from facedistill.errors import UserError, reason
from facedistill.models.generators.face_generator import FaceGenerator
from facedistill.models.generators.fused_synthesis import fused_layers
from facedistill.runs.assembly import student_execution
from facedistill.runs.frozen_networks import load_generator
from facedistill.runs.profiling.step import TrainingStep
from facedistill.system.devices import cpu_has_bfloat16

THREADS = "OMP_NUM_THREADS"
"""The one option that is an environment variable; `TrainingStep` has no key for it."""
_GAIN = 1.02  # a smaller gain is noise

Choice = Mapping[str, str]
"""Values by key of an option."""


@dataclass(frozen=True)
class Trial:
    """One tried option: its settings, the images per second, or why it cannot be used."""

    choice: Choice
    images_per_s: float | None
    problem: str = ""


def candidates(
    on_gpu: bool, *, renders: bool, fused: bool = False, cores: int = os.cpu_count() or 1
) -> list[Choice]:
    """The options, those that gain most first.

    Args:
        on_gpu: Whether the run is on a GPU.
        renders: Whether a generator makes the faces.
        fused: Whether it renders by `FusedSynthesis`, which takes its micro-batches apart by itself.
        cores: Of this machine.
    """
    micro, compile = "generator.network.micro_batch", "generator.network.compile"
    has_bfloat16 = on_gpu or cpu_has_bfloat16()
    half = {"teacher.precision": "bf16"} if has_bfloat16 else {}
    teacher = {**half, "teacher.compile": "auto"}
    students = [{"trainer.compile": "auto"}, {"trainer.compile": "false"}, {"trainer.channels_last": "false"}]
    if on_gpu:
        rendering = [
            {compile: "auto"}, *({micro: size} for size in ("128", "256", "512")), {"data.num_workers": "4"},
        ]  # fmt: skip
        precision = [{"trainer.precision": name} for name in ("bf16-mixed", "bf16-true")]
        return [
            *(rendering if renders else [{"data.num_workers": count} for count in ("4", "8", "16")]),
            *precision, teacher, {"trainer.compile": "reduce-overhead"}, *students,
        ]  # fmt: skip
    threads = sorted({1, max(1, cores // 2), cores})
    rendering = [{compile: "auto"}, *({micro: size} for size in ("2", "8") if not fused)]
    precision = [{"trainer.precision": "bf16-mixed"}] if has_bfloat16 else []
    return [
        *(rendering if renders else []), teacher, *precision, *({THREADS: str(count)} for count in threads), *students,
    ]  # fmt: skip


def renders_fused(config: DictConfig) -> bool:
    """Whether `FusedSynthesis` can render the faces of a run on this CPU."""
    generator = load_generator(config)
    return isinstance(generator, FaceGenerator) and fused_layers(generator.synthesis) is not None


def is_given(option: Choice, config: DictConfig) -> bool:
    """Whether the configuration has these settings already."""
    return all(str(_present(key, config)).lower() == value for key, value in option.items())


def _present(key: str, config: DictConfig) -> Any:
    if key == THREADS:
        return torch.get_num_threads()
    if key == "trainer.compile":  # its null depends on the run
        return student_execution(config).compile
    return OmegaConf.select(config, key)


def search(
    rate: Callable[[Choice], float],
    options: Sequence[Choice],
    *,
    seconds: float,
    tell: Callable[[Trial], None] = lambda trial: None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Choice, list[Trial]]:
    """Adds one option after the other to the best so far and keeps what gains 2 % or more, until the time is over.

    Args:
        rate: Images per second under a choice.
        options: See `candidates`.
        seconds: Time limit; an option that has begun is finished.
        tell: Called after each trial.
        clock: Seconds that only rise.

    Returns:
        The best choice, and all trials, the first with nothing changed.
    """
    end, best, best_rate = clock() + seconds, dict[str, str](), 0.0
    trials: list[Trial] = []
    for option in [{}, *options]:
        if trials and clock() >= end:
            break
        choice = {**best, **option}
        try:
            trial = Trial(choice, rate(choice))
        except (UserError, MemoryError, RuntimeError) as error:  # not offered, out of memory, not compiled
            trial = Trial(choice, None, reason(error))
        trials.append(trial)
        tell(trial)
        if trial.images_per_s is None and not option:
            break
        if trial.images_per_s is not None and trial.images_per_s > best_rate * _GAIN:
            best, best_rate = choice, trial.images_per_s
    return best, trials


def rate_of(overrides: Sequence[str], choice: Choice, check: Callable[..., None], *, seconds: float) -> float:
    """Images per second of the training step of `overrides` under a choice.

    Args:
        overrides: Of `facedistill train`.
        choice: Settings that come after them.
        check: Refuses a configuration that cannot run, `facedistill.runs.train.check_start`.
        seconds: For how long steps are timed.
    """
    torch.compiler.reset()
    threads = torch.get_num_threads()
    torch.set_num_threads(int(choice.get(THREADS, threads)))
    try:
        config = compose("train", [*overrides, *as_overrides(choice)])
        check(config)
        training = TrainingStep(config)
        try:
            return training.rate(seconds)[0]
        finally:
            training.close()
    finally:
        torch.set_num_threads(threads)


def as_overrides(choice: Choice) -> list[str]:
    """The settings of a choice that are keys of the configuration, as overrides."""
    return [f"{key}={value}" for key, value in choice.items() if key != THREADS]
