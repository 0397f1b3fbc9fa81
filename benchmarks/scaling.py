"""Images per second of one process on one core and of two processes on two cores, at the same global batch.

    python -m benchmarks.scaling [--images 1920] [--batch 64]

Real runs of `facedistill train` on rendered faces, each pinned to its cores with one thread per process. The rate is the run
record's: loop and one validation, without start, evaluation and export. Writes `results/scaling.md`. Needs an idle machine
and a few minutes.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
METHODS = {
    "synthdistill": ["method=synthdistill"],
    "rkd": ["method=rkd", "method.identity_weight=0"],
}
COMMON = [
    "data=stylegan", "backbone=tinyfar_c", "teacher.compile=false", "generator.network.compile=false", "logger=csv",
    "evaluation.protocols=[]", "evaluation.validation_pairs.identities=20", "evaluation.generated_pairs.identities=20",
    "data.validation.faces=16",
]  # fmt: skip


def rate(
    overrides: list[str], strategy: str, cores: set[int], arguments: argparse.Namespace
) -> dict[str, Any]:
    """`images_per_s` and `time_share` of one run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "facedistill", "train", *COMMON, *overrides, f"strategy={strategy}", "name=scaling",
            f"runs_dir={folder}", f"images={arguments.images}", f"data.batch_size={arguments.batch}",
            f"callbacks.validate_every_images={arguments.images}",
        ]  # fmt: skip
        subprocess.run(
            command,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"},
            preexec_fn=functools.partial(os.sched_setaffinity, 0, cores),
            stdout=subprocess.DEVNULL,
        )
        (record,) = Path(folder).glob("*/run.json")
        return json.loads(record.read_text())


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=1920)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("scaling needs two cores")
    cores = sorted(os.sched_getaffinity(0))[:2]
    busy = os.getloadavg()[0]
    lines = [
        "| method | one process, images/s | two processes, images/s | ratio | generator, teacher, student |",
        "|---|--:|--:|--:|---|",
    ]
    for name, overrides in METHODS.items():
        one = rate(overrides, "cpu", {cores[0]}, arguments)
        two = rate(overrides, "ddp_cpu", set(cores), arguments)
        shares = " / ".join(
            f"{100 * one['time_share'][part]:.0f} %" for part in ("generator", "teacher", "student")
        )
        ratio = two["images_per_s"] / one["images_per_s"]
        lines.append(
            f"| `{name}` | {one['images_per_s']:.2f} | {two['images_per_s']:.2f} | {ratio:.2f} | {shares} |"
        )
        print(lines[-1], flush=True)
    text = (
        "# One process on one core, two on two\n\n"
        f"`python -m benchmarks.scaling`: `facedistill train` on rendered faces, TinyFaR-C, global batch {arguments.batch},"
        f" {arguments.images} images, one thread per process, pinned; `strategy=cpu` against `strategy=ddp_cpu` (gloo,"
        f" synchronized batch norm), float32, torch {torch.__version__.split('+')[0]}, {platform.machine()},"
        f" {os.cpu_count()} cores, load average {busy:.1f} before. Shares of the time are those of one process.\n\n"
        + "\n".join(lines)
        + "\n"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scaling.md").write_text(text)


if __name__ == "__main__":
    main()
