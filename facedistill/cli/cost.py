"""`facedistill cost WHAT…`: size, latency and memory of networks, student files and runs in every runtime."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facedistill.cli.arguments import positive, refuse_other_networks, seconds
from facedistill.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from facedistill.reporting.cost_record import CostRow

ENOUGH = 0.8  # of its threads' time; below this, times depend on other work on the machine
_HEADINGS = ("M", "MMACs", "MB", "ms", "p95", "faces/s", "MiB", "MiB, batch")


def main(arguments: Sequence[str]) -> int:
    """Measures and prints a table; `--json` and `--picture` write files.

    Raises:
        UserError: If a target does not exist or cannot be measured, or a file cannot be written.
    """
    options = _parser().parse_intermixed_args(arguments)
    words = [word for word in options.targets if "=" not in word]
    overrides = [word for word in options.targets if "=" in word]
    _check(words, overrides, options.picture)
    from rich.console import Console

    from facedistill.runs.cost import FORMAT_NAMES, Conditions, backbone_names, find_targets, measure
    from facedistill.system.files import write_atomically

    formats = options.formats.split(",") if options.formats else []
    for name in formats:
        if name not in FORMAT_NAMES:
            raise ConfigError(f"--formats {name}: must be of {', '.join(FORMAT_NAMES)}")
    names = words or [name for name in backbone_names() if name != "timm"]
    targets = find_targets(names, overrides)
    if options.picture and not any(target.folder for target in targets):
        raise ConfigError("--picture: shows runs; give a run folder, or the folder of all runs")
    conditions = Conditions(options.threads, options.batch, options.seconds)
    rows = []
    with Console(stderr=True).status("") as status:
        for number, target in enumerate(targets, start=1):
            status.update(f"measuring {target.name}, {number} of {len(targets)}")
            rows += [(target.name, row) for row in measure(target, conditions, formats, options.again)]
    console = Console()
    console.print(_table(rows))
    console.print(
        f"{_threads(options.threads)} of {rows[0][1].cpu}. M: million parameters; ms: median of one face, and 95th percentile; "
        f"faces/s: {options.batch} at a time; MiB: the most that the process held beyond the imported libraries."
    )
    share = min(row.share for _, row in rows)
    if share < ENOUGH:
        console.print(
            f"A process got {share:.0%} of its threads' time: if other work ran at the same time, measure with --again."
        )
    if options.json:
        content = [{"name": name, **vars(row)} for name, row in rows]
        write_atomically(options.json, json.dumps({"costs": content}, indent=2) + "\n")
    if options.picture:
        from facedistill.reporting.pareto import write_pareto

        folders = [target.folder for target in targets if target.folder]
        console.print(write_pareto(folders, options.protocol, options.picture), soft_wrap=True)
    return 0


def _check(words: Sequence[str], overrides: Sequence[str], picture: Path | None) -> None:
    refuse_other_networks("cost", words, overrides)
    if picture and picture.suffix not in (".png", ".svg"):
        raise ConfigError(f"--picture {picture}: name a file that ends in .png or .svg")


def _table(rows: Sequence[tuple[str, CostRow]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, padding=(0, 0, 0, 1))
    table.add_column("network", overflow="fold", min_width=10)
    table.add_column("format", no_wrap=True)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", min_width=min(len(heading), 7))
    for name, row in rows:
        table.add_row(
            name,
            row.format,
            f"{row.params / 1e6:.3f}",
            f"{row.macs / 1e6:.1f}",
            f"{row.size_mb:.2f}",
            f"{row.one_ms:.2f}",
            f"{row.one_p95_ms:.2f}",
            f"{row.images_per_s:.0f}",
            f"{row.peak_one_mib:.0f}",
            f"{row.peak_batch_mib:.0f}",
        )
    return table


def _threads(number: int) -> str:
    return "Processor time of 1 thread" if number == 1 else f"{number} threads"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="facedistill cost", description=__doc__)
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="WHAT",
        help="networks of conf/backbone, run folders, the folder of all runs, files of students (default: all networks); "
        "backbone.key=value sets an option of the networks",
    )
    parser.add_argument(
        "--formats",
        metavar="A,B",
        help="of pytorch, onnx, onnx-fp16, onnx-int8, torch-export, openvino; "
        "default: the run's files, pytorch, onnx, and openvino if it is installed",
    )
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="of the runtime; 1")
    parser.add_argument(
        "--batch", type=positive, default=64, metavar="N", help="faces in the larger batch; 64"
    )
    parser.add_argument(
        "--seconds", type=seconds, default=1.0, metavar="S", help="that each batch size is timed; 1"
    )
    parser.add_argument(
        "--again", action="store_true", help="measure runs again that have the same in cost.json"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="draw accuracy against latency of the runs, .png or .svg"
    )
    parser.add_argument("--protocol", default="lfw", help="whose accuracy --picture shows; lfw")
    return parser
