"""Every comparison of training speed on this device, the most important first, within a time limit.

    python -m benchmarks.gpu --minutes 12 --into results
    python -m benchmarks.gpu --miniature --into mini       (any CPU: small networks and sizes, only to test the script)

Each comparison runs in a process of its own. A measurement is written to `gpu.jsonl` as soon as it is made, and `gpu.md` is
rendered again, so that nothing is lost when the script is killed. `--render` draws `gpu.md` and the pictures from `gpu.jsonl`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.losses import ekd, gkd, margin_softmax
from benchmarks.gpu.overlap import overlap
from benchmarks.gpu.recipe import recipe
from benchmarks.gpu.results import draw_growth, render
from benchmarks.gpu.training import labeled, options, synthdistill
from facedistill.runs.library_warnings import silence_expected_warnings

RESULTS = Path(__file__).parents[1] / "results"

COMPARISONS: dict[str, Callable[[Bench], None]] = {
    "synthdistill": synthdistill,
    "recipe": recipe,
    "overlap": overlap,
    "options": options,
    "labeled": labeled,
    "margin_softmax": margin_softmax,
    "gkd": gkd,
    "ekd": ekd,
}
"""In order of importance."""


def run_all(args: argparse.Namespace, end: float) -> None:
    """Runs each comparison in a process of its own until the time is over."""
    own = [sys.executable, "-m", "benchmarks.gpu", "--into", str(args.into), "--seconds", str(args.seconds)]
    for name in args.comparisons or COMPARISONS:
        bench = Bench(args.into, args.seconds, args.miniature, name)
        left = end - time.monotonic()
        if left < 5:
            bench.record("not begun: the time is over")
            continue
        try:
            done = subprocess.run([*own, "--only", name, *(["--miniature"] * args.miniature)], timeout=left)
        except subprocess.TimeoutExpired:
            bench.record("stopped: the time is over")
        else:
            if done.returncode:
                bench.record(f"stopped: exit code {done.returncode}")


def main() -> None:
    """Runs the comparisons, or one of them, or renders."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=12.0, help="time limit of everything")
    parser.add_argument("--seconds", type=float, default=5.0, help="of one measurement")
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument(
        "--miniature", action="store_true", help="small networks and sizes, to test the script"
    )
    parser.add_argument(
        "--comparisons", nargs="*", choices=list(COMPARISONS), help="these only, in this order"
    )
    parser.add_argument("--render", action="store_true", help="draw the table and the pictures only")
    parser.add_argument("--only", choices=list(COMPARISONS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.into.mkdir(parents=True, exist_ok=True)
    if args.only:
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # no messages of torch's profiler
        torch.set_float32_matmul_precision("high")
        silence_expected_warnings()
        COMPARISONS[args.only](Bench(args.into, args.seconds, args.miniature, args.only))
        return
    if not args.render:
        run_all(args, time.monotonic() + 60 * args.minutes)
    draw_growth(args.into)
    render(args.into)


if __name__ == "__main__":
    main()
