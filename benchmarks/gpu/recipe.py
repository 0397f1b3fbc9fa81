"""Images per second of real runs of `experiment=gpu_hour`, with the student uncompiled, compiled, and as CUDA graphs."""

from __future__ import annotations

from benchmarks.gpu.bench import QUIET, Bench
from benchmarks.gpu.training import train_rate


def recipe(bench: Bench) -> None:
    """The rate after the first quarter of each run, and the seconds of its start and end, in which networks are compiled."""
    small = ["strategy=cpu", "data.batch_size=4", "backbone=tinyfar_c", "generator.network.exit=64"]
    small += ["generator.network.compile=false", "generator.network.micro_batch=4", "teacher.compile=false"]
    own = small if bench.miniature else []
    for compile in ["false"] if bench.miniature else ["false", "true", "reduce-overhead"]:
        overrides = ["experiment=gpu_hour", *QUIET, *own, f"trainer.compile={compile}"]
        rate, first_s = train_rate(overrides, 32 if bench.miniature else 100_096)
        bench.record(f"trainer.compile={compile}", images_per_s=rate, first_s=first_s)
