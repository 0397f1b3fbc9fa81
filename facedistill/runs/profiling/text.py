"""A profile in words."""

from __future__ import annotations

from collections.abc import Mapping

from facedistill.runs.profiling.options import THREADS, Trial, as_overrides
from facedistill.runs.profiling.step import Part, Profile

_BUSY = 0.5  # of a ceiling
_GPU_BUSY = 0.9  # of a step
_WAITING = {
    "loader": "the loader: raise data.num_workers, or data.source.decoded_cache=true",
    "copy to the device": "copies to the device",
}


def describe(profile: Profile) -> str:
    """The table of parts, the ceilings, and the bottleneck."""
    total = sum(part.seconds for part in profile.parts)
    lines = [
        f"{profile.device}; batches of {profile.batch_size}: {profile.images_per_s:,.1f} images/s; the first {profile.cycle} steps "
        f"took {profile.first_s:.1f} s",
        "",
        f"{'part':<20}{'ms':>9}{'share':>8}{'images/s':>12}{'GB/s':>9}{'of copy':>9}{'TFLOP/s':>9}{'of matmul':>11}",
    ]
    for part in profile.parts:
        seconds = max(part.seconds, 1e-9)
        lines.append(
            f"{part.name:<20}{1e3 * part.seconds:>9.2f}{part.seconds / total:>8.1%}{profile.batch_size / seconds:>12,.0f}"
            f"{part.bytes / seconds / 1e9:>9.1f}{_percent(_of_copy(part, profile)):>9}{part.flops / seconds / 1e12:>9.3f}"
            f"{_percent(_of_matmul(part, profile)):>11}"
        )
    sequential = profile.batch_size / total
    return "\n".join(
        [
            *lines,
            "",
            f"ceilings: {profile.flops_per_s / 1e12:.2f} TFLOP/s (a matrix product), {profile.bytes_per_s / 1e9:.0f} GB/s (a copy)",
            "FLOPs and bytes are those of uncompiled operations. A part is above a ceiling (>100%) if fused operations or caches move "
            "fewer bytes, a convolution needs fewer FLOPs, or its numbers are narrower than the product's.",
            f"one part after the other, waiting for each: {sequential:,.1f} images/s; together "
            f"{profile.images_per_s / sequential:.2f} times that",
            bottleneck(profile),
        ]
    )


def bottleneck(profile: Profile) -> str:
    """What the step waits for, as a sentence."""
    step_s = profile.batch_size / profile.images_per_s
    if profile.gpu_s is not None and profile.gpu_s < _GPU_BUSY * step_s:
        return (
            f"bottleneck: the host, which gives the GPU work for {1e3 * profile.gpu_s:.1f} of the {1e3 * step_s:.1f} ms of a step; "
            "trainer.compile=reduce-overhead, larger batches and data.num_workers help"
        )
    longest = profile.parts[0]
    share = longest.seconds / sum(part.seconds for part in profile.parts)
    if longest.name in _WAITING:
        cause = f"the step waits for {_WAITING[longest.name]}"
    elif max(_of_copy(longest, profile), _of_matmul(longest, profile)) < _BUSY:
        cause = "it reaches neither ceiling: many small operations, or work in Python; larger batches help, and compiling where it is not compiled"
    elif _of_copy(longest, profile) > _of_matmul(longest, profile):
        cause = "it is limited by memory bandwidth; half precision or compiling, which fuses operations, help"
    else:
        cause = "it is limited by arithmetic; half precision or a smaller network help"
    return f"bottleneck: {longest.name}, {share:.0%} of the step; {cause}"


def describe_trial(trial: Trial) -> str:
    """One line: the rate, and the settings."""
    result = trial.problem if trial.images_per_s is None else f"{trial.images_per_s:,.1f} images/s"
    return f"{result}  {_words(trial.choice) or '(as given)'}"


def describe_best(best: Mapping[str, str], trials: list[Trial]) -> str:
    """What to set, and what it gains."""
    rates = [trial.images_per_s for trial in trials if trial.images_per_s is not None]
    if not best or not rates:
        return "set: nothing; no option that was tried is faster than the settings as given"
    return f"set: {_words(best)}\n({max(rates) / rates[0]:.2f} times as fast)"


def _words(choice: Mapping[str, str]) -> str:
    threads = [f"{THREADS}={choice[THREADS]}"] if THREADS in choice else []
    return " ".join([*threads, *as_overrides(choice)])


def _percent(fraction: float) -> str:
    return ">100%" if fraction > 1 else f"{fraction:.0%}"


def _of_copy(part: Part, profile: Profile) -> float:
    return part.bytes / max(part.seconds, 1e-9) / profile.bytes_per_s


def _of_matmul(part: Part, profile: Profile) -> float:
    return part.flops / max(part.seconds, 1e-9) / profile.flops_per_s
