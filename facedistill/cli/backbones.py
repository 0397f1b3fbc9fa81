"""The command `facedistill backbones`: lists the students and their size."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from facedistill.cli.arguments import refuse_other_networks
from facedistill.errors import ConfigError

if TYPE_CHECKING:
    from facedistill.models.cost import Size


@dataclass(frozen=True)
class BackboneRow:
    """One network of `conf/backbone`.

    Attributes:
        name: Of its yaml.
        embedding_dim: D.
        size: What it costs.
    """

    name: str
    embedding_dim: int
    size: Size


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table, or the same as JSON.

    Raises:
        ConfigError: If a network does not exist or an override is invalid.
    """
    options = _parser().parse_intermixed_args(arguments)
    names, overrides = _chosen(options.backbones)
    rows = []
    with Console(stderr=True).status("") as status:
        for name in names:
            status.update(f"building {name}")
            rows.append(backbone_row(name, overrides))
    if options.json:
        content = [{"name": row.name, "embedding_dim": row.embedding_dim, **asdict(row.size)} for row in rows]
        print(json.dumps({"backbones": content}, indent=2))
        return 0
    console = Console()
    console.print(_table(rows))
    console.print("Their time and memory on this CPU: facedistill cost")
    if "timm" not in names:
        console.print("Any network of timm: facedistill backbones timm backbone.name=resnet18")
    return 0


def backbone_row(name: str, overrides: Sequence[str] = ()) -> BackboneRow:
    """Builds one network and measures its size, on the meta device where it can, which computes shapes only.

    See `facedistill.runs.cost.random_backbone`.
    """
    import torch

    from facedistill.models.cost import size_of
    from facedistill.runs.cost import random_backbone

    try:
        with torch.device("meta"):
            backbone = random_backbone(name, overrides)
            return BackboneRow(name, backbone.embedding_dim, size_of(backbone))
    except (NotImplementedError, RuntimeError, TypeError):  # a network of one's own may need numbers
        backbone = random_backbone(name, overrides)
    return BackboneRow(name, backbone.embedding_dim, size_of(backbone))


def _chosen(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of networks, and overrides."""
    from facedistill.runs.cost import backbone_names

    overrides = [word for word in words if "=" in word]
    names = [word for word in words if "=" not in word]
    known = backbone_names()
    for name in names:
        if name not in known:
            raise ConfigError(f"backbones {name}: no such network; choose from {', '.join(known)}")
    refuse_other_networks("backbones", names, overrides)
    return names or [name for name in known if name != "timm"], overrides


def _table(rows: Sequence[BackboneRow]) -> Table:
    table = Table(box=box.SIMPLE)
    table.add_column("backbone", no_wrap=True)
    for title in ("D", "params M", "MMACs", "MB"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            str(row.embedding_dim),
            f"{row.size.params / 1e6:.3f}",
            f"{row.size.macs / 1e6:.1f}",
            f"{row.size.weights_mb:.1f}",
        )
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facedistill backbones", description="List the student networks and their size."
    )
    parser.add_argument(
        "backbones",
        nargs="*",
        metavar="NAME",
        help="only these (default: all); backbone.key=value sets an option of them",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
