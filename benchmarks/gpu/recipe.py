"""Images per second of real runs of `experiment=gpu_hour`: with Muon, with AdamW, compiled, and as CUDA graphs."""

from __future__ import annotations

from benchmarks.gpu.bench import QUIET, Bench
from benchmarks.gpu.training import train_rate

VARIANTS = (
    ["trainer.compile=false"],
    ["trainer.compile=false", "optimizer=adamw"],
    ["trainer.compile=true"],
    ["trainer.compile=reduce-overhead"],
)


def recipe(bench: Bench) -> None:
    """The rate after the first quarter of each run, and the seconds of its start and end, in which networks are compiled."""
    small = ["strategy=cpu", "data.batch_size=4", "backbone=tinyfar_c", "generator.network.exit=64"]
    small += ["generator.network.compile=false", "generator.network.micro_batch=4", "teacher.compile=false"]
    own = small if bench.miniature else []
    for variant in VARIANTS[:1] if bench.miniature else VARIANTS:
        overrides = ["experiment=gpu_hour", *QUIET, *own, *variant]
        rate, first_s = train_rate(overrides, 32 if bench.miniature else 100_096)
        bench.record(" ".join(variant), images_per_s=rate, first_s=first_s)
