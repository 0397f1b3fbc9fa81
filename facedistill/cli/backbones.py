"""The command `facedistill backbones`: lists the students and their costs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from facedistill.cli.arguments import positive
from facedistill.errors import ConfigError
from facedistill.system.paths import config_dir

if TYPE_CHECKING:
    from facedistill.models.cost import Latency, Size

ENOUGH = 0.8  # of its threads' time; below this, times depend on other work on the machine


@dataclass(frozen=True)
class BackboneRow:
    """One network of `conf/backbone`.

    Attributes:
        name: Of its yaml.
        embedding_dim: D.
        size: What it costs.
        latency: Its time on this CPU, where it was measured.
    """

    name: str
    embedding_dim: int
    size: Size
    latency: Latency | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table, or the same as JSON.

    Raises:
        ConfigError: If a network does not exist or an override is invalid.
    """
    options = _parser().parse_args(arguments)
    names, overrides = _chosen(options.backbones)
    import torch

    from facedistill.runs.method_cost import processor

    if options.threads:
        torch.set_num_threads(options.threads)
    rows = []
    with Console(stderr=True).status("") as status:
        for name in names:
            status.update(f"measuring {name}" if options.measure else f"building {name}")
            rows.append(backbone_row(name, overrides, options.batch if options.measure else None))
    if options.json:
        print(json.dumps(_as_json(rows, options.measure), indent=2))
        return 0
    console = Console()
    console.print(_table(rows))
    if options.measure:
        console.print(
            f"Median time of a forward pass, float32, eager, channels last, faces of 112 px, on {processor()}."
        )
        share = min(row.latency.share for row in rows if row.latency)
        if share < ENOUGH:
            console.print(
                f"This process got {share:.0%} of its threads' time: if other work ran at the same time, measure again."
            )
    if "timm" not in names:
        console.print("Any network of timm: facedistill backbones timm backbone.name=resnet18")
    return 0


def backbone_row(name: str, overrides: Sequence[str] = (), batch_size: int | None = None) -> BackboneRow:
    """Builds one network with random weights and measures its cost.

    Args:
        name: Of its yaml.
        overrides: Hydra's, of keys below `backbone`.
        batch_size: Times it with this many faces; None measures no time.

    Raises:
        ConfigError: If an override names nothing that this network has.
    """
    from facedistill.config import compose, signature
    from facedistill.models.cost import latency_of, size_of
    from facedistill.runs.sources import build_backbone

    node = compose("train", [f"backbone={name}", *overrides]).backbone
    for key in ("asset", "pretrained"):
        if key in node:
            node[key] = None if key == "asset" else False
    wrong = signature.problems("backbone", node)
    if wrong:
        raise ConfigError("; ".join(wrong))
    backbone = build_backbone(node)
    latency = latency_of(backbone, batch_size) if batch_size else None
    return BackboneRow(name, backbone.embedding_dim, size_of(backbone), latency)


def backbone_names() -> list[str]:
    """Names of all networks, in alphabetical order."""
    return sorted(path.stem for path in (config_dir() / "backbone").glob("*.yaml"))


def _chosen(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of networks, and overrides."""
    overrides = [word for word in words if "=" in word]
    names = [word for word in words if "=" not in word]
    known = backbone_names()
    for name in names:
        if name not in known:
            raise ConfigError(f"backbones {name}: no such network; choose from {', '.join(known)}")
    for word in overrides:
        if not word.lstrip("+~").startswith("backbone."):
            raise ConfigError(
                f"backbones {word}: only keys below backbone can be set; write backbone.key=value"
            )
    if "timm" in names and not any(word.startswith("backbone.name=") for word in overrides):
        raise ConfigError("backbones timm: which network of timm? add backbone.name=resnet18")
    return names or [name for name in known if name != "timm"], overrides


def _table(rows: Sequence[BackboneRow]) -> Table:
    table = Table(box=box.SIMPLE)
    table.add_column("backbone", no_wrap=True)
    for title in ("D", "params M", "MMACs", "MB"):
        table.add_column(title, justify="right", no_wrap=True)
    timed = [row.latency for row in rows if row.latency]
    if timed:
        for title in ("ms at 1", f"ms at {timed[0].batch_size}", "faces/s"):
            table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = [
            row.name,
            str(row.embedding_dim),
            f"{row.size.params / 1e6:.3f}",
            f"{row.size.macs / 1e6:.1f}",
            f"{row.size.weights_mb:.1f}",
        ]
        if row.latency:
            rate = 1000 * row.latency.batch_size / row.latency.batch_ms
            cells += [f"{row.latency.one_ms:.1f}", f"{row.latency.batch_ms:.0f}", f"{rate:.0f}"]
        table.add_row(*cells)
    return table


def _as_json(rows: Sequence[BackboneRow], measured: bool) -> dict[str, Any]:
    from facedistill.runs.method_cost import processor

    entries = [
        {"name": row.name, "embedding_dim": row.embedding_dim, **asdict(row.size)}
        | (asdict(row.latency) if row.latency else {})
        for row in rows
    ]
    return {"backbones": entries, "measured": {"processor": processor()} if measured else None}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facedistill backbones", description="List the student networks and what they cost."
    )
    parser.add_argument(
        "backbones",
        nargs="*",
        metavar="NAME",
        help="only these (default: all); backbone.key=value sets an option of them",
    )
    parser.add_argument("--measure", action="store_true", help="time of a forward pass on this CPU")
    parser.add_argument(
        "--batch", type=positive, default=64, metavar="N", help="faces in a batch (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="threads of torch (default: torch's own)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
