"""Profiles the training step of a configuration and searches for faster settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from facedistill.config import compose
from facedistill.runs.assembly import settings_of
from facedistill.runs.inputs import trains_on_generated_faces
from facedistill.runs.library_warnings import silence_expected_warnings
from facedistill.runs.profiling.options import candidates, is_given, rate_of, renders_fused, search
from facedistill.runs.profiling.step import profile_step
from facedistill.runs.profiling.text import describe, describe_best, describe_trial
from facedistill.runs.strategies import root_device
from facedistill.runs.train import check_start
from facedistill.system.files import write_atomically

_SECONDS = 5.0  # of each measurement


def run_profile(
    overrides: Sequence[str],
    *,
    minutes: float = 5.0,
    trace: Path | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Prints the profile of a step, the options as they are tried, and the settings to use.

    Args:
        overrides: Of `facedistill train`.
        minutes: Time limit for trying options; 0 tries none.
        trace: Where to write a trace of a few steps; None for none.
        tell: Prints a text.

    Raises:
        UserError: If the configuration does not allow the run, or the trace cannot be written.
    """
    config = compose("train", list(overrides))
    check_start(config)
    silence_expected_warnings()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # no message of torch's profiler about missing GPUs
    torch.set_float32_matmul_precision("high")
    if trace is None:
        tell(describe(profile_step(config, seconds=_SECONDS)))
    else:
        write_atomically(
            trace, lambda partial: tell(describe(profile_step(config, seconds=_SECONDS, trace=partial)))
        )
        tell(f"trace: {trace}")
    if minutes:
        on_gpu = root_device(settings_of(config)).type == "cuda"
        renders = trains_on_generated_faces(config)
        fused = renders and not on_gpu and renders_fused(config)
        options = candidates(on_gpu, renders=renders, fused=fused)
        best, trials = search(
            lambda choice: rate_of(overrides, choice, check_start, seconds=_SECONDS),
            [option for option in options if not is_given(option, config)],
            seconds=60 * minutes,
            tell=lambda trial: tell(describe_trial(trial)),
        )
        tell(describe_best(best, trials))
