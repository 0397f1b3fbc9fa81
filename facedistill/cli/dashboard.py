"""`facedistill dashboard [RUNS_DIR]`: one page on all runs of a folder."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Writes the page and says where it is, and which runs are damaged.

    Returns:
        The exit status, 0; damaged runs are on the page with the reason.

    Raises:
        UserError: If the folder holds no run, the page cannot be written, or wandb does not take its views; the page
            is written then all the same.
    """
    parsed = _parser().parse_args(arguments)
    from facedistill.reporting.dashboard.page import write_dashboard
    from facedistill.reporting.dashboard.wandb_views import write_views

    runs_dir = Path(parsed.runs_dir)
    out = Path(parsed.out) if parsed.out else runs_dir / "dashboard.html"
    runs = write_dashboard(runs_dir, out, parsed.watch or 0)
    for run in runs:
        for problem in run.problems:
            print(f"damaged    {run.folder}: {problem}")
    print(f"dashboard  {out} ({len(runs)} {'run' if len(runs) == 1 else 'runs'})")
    if parsed.wandb:
        for address in write_views(parsed.project, parsed.entity):
            print(f"wandb      {address}")
    if parsed.watch:
        print(f"watching   {runs_dir}, every {parsed.watch} s; Ctrl-C ends it", flush=True)
        _watch(lambda refresh_s: write_dashboard(runs_dir, out, refresh_s), parsed.watch)
    return 0


def _watch(write: Callable[[int], object], seconds: int) -> None:
    """Writes the page every `seconds`; at the end once more, as a page that is not loaded again."""
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(seconds)
            write(seconds)
    write(0)


def _seconds(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected seconds as a whole number above 0, got {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facedistill dashboard",
        description="Write one self-contained page on all runs of a folder: filter, sort, compare.",
    )
    parser.add_argument(
        "runs_dir", nargs="?", default="runs", metavar="RUNS_DIR", help="folder of run folders; runs"
    )
    parser.add_argument("--wandb", action="store_true", help="also save a workspace and a report on wandb")
    parser.add_argument("--project", default="facedistill", help="wandb project; facedistill")
    parser.add_argument("--entity", help="wandb user or team; the key's own")
    parser.add_argument(
        "--watch", nargs="?", type=_seconds, const=30, metavar="SECONDS",
        help="write the page again every SECONDS (30) until Ctrl-C; a browser that shows it follows",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FILE", help="the page; RUNS_DIR/dashboard.html")
    return parser
