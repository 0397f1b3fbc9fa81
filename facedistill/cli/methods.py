"""The command `facedistill methods`: the methods, their requirements, and the cost of their losses."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from facedistill.cli.arguments import positive
from facedistill.errors import ConfigError, reason
from facedistill.system.paths import config_dir
from facedistill.types import Offers

if TYPE_CHECKING:
    from facedistill.runs.method_cost import Cost, Sizes


@dataclass(frozen=True)
class MethodRow:
    """One method of `conf/method`.

    Attributes:
        name: Of its yaml.
        paper: Where it comes from.
        needs: Besides faces: "teacher", "labels", "latents", "indices", "class_centers".
        defaults: Its own hyper-parameters.
    """

    name: str
    paper: str
    needs: tuple[str, ...]
    defaults: Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table, or the same as JSON.

    Raises:
        ConfigError: If a method that is asked for does not exist, or a size is not positive.
    """
    options = _parser().parse_args(arguments)
    names = _chosen(options.methods)
    from facedistill.runs.method_cost import Sizes, processor

    sizes = Sizes(options.images, options.dim, options.identities, options.steps)
    rows = [method_row(name) for name in names]
    costs: dict[str, Cost | str] = {}
    if options.measure:
        with Console(stderr=True).status("") as status:
            for name in names:
                status.update(f"measuring {name}")
                costs[name] = _cost(name, sizes)
    if options.json:
        print(json.dumps(_as_json(rows, costs, sizes if options.measure else None), indent=2))
        return 0
    console = Console()
    console.print(_table(rows, costs))
    if options.measure:
        console.print(
            f"Loss, its backward pass and the head's, N={sizes.images}, D={sizes.dim}, K={sizes.identities}; student and "
            f"teacher replaced by given embeddings; median of {sizes.steps} steps on {processor()}."
        )
    return 0


def method_row(name: str) -> MethodRow:
    """Reads one yaml and its class."""
    from omegaconf import OmegaConf

    from facedistill.config.trust import find_class

    config = OmegaConf.load(config_dir() / "method" / f"{name}.yaml")
    method = find_class(config._target_)
    required = method.requirements_with(config)
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    return MethodRow(
        name=name,
        paper=method.paper,
        needs=("teacher",) * required.teacher + tuple(required.missing(Offers())),
        defaults={
            str(key): value for key, value in plain.items() if not str(key).startswith(("_", "defaults"))
        },
    )


def method_names() -> list[str]:
    """Names of all methods, in alphabetical order."""
    return sorted(path.stem for path in (config_dir() / "method").glob("*.yaml"))


def _chosen(names: Sequence[str]) -> list[str]:
    there = method_names()
    for name in names:
        if name not in there:
            raise ConfigError(f"methods {name}: there is no such method; there are {', '.join(there)}")
    return list(names) or there


def _cost(name: str, sizes: Sizes) -> Cost | str:
    """What the method costs, or one line on why it cannot be measured this way."""
    from facedistill.config import compose
    from facedistill.runs.method_cost import measure

    config = compose("train", [f"method={name}"])
    try:
        return measure(config, sizes)
    except (ConfigError, MemoryError, RuntimeError) as error:
        return reason(error)


def _table(rows: Sequence[MethodRow], costs: Mapping[str, Cost | str]) -> Table:
    table = Table(box=box.SIMPLE)
    for title in ("method", "paper", "needs", "defaults"):
        table.add_column(title, overflow="fold", no_wrap=title == "method")
    if costs:
        table.add_column("ms/step", justify="right", overflow="fold")
        table.add_column("peak MiB", justify="right", overflow="fold")
    for row in rows:
        cells = [row.name, row.paper, ", ".join(row.needs), _written(row.defaults)]
        if costs:
            cost = costs[row.name]
            cells += [cost, ""] if isinstance(cost, str) else [f"{cost.step_ms:.1f}", f"{cost.peak_mib:.0f}"]
        table.add_row(*cells)
    return table


def _written(defaults: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_value(value)}" for key, value in defaults.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping) and "_target_" in value:
        return str(value["_target_"]).rpartition(".")[2]
    if isinstance(value, Mapping):
        return "{" + _written(value) + "}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _as_json(
    rows: Sequence[MethodRow], costs: Mapping[str, Cost | str], sizes: Sizes | None
) -> dict[str, Any]:
    from facedistill.runs.method_cost import processor

    methods = []
    for row in rows:
        entry = asdict(row)
        cost = costs.get(row.name)
        if cost is not None:
            entry["cost"] = {"problem": cost} if isinstance(cost, str) else asdict(cost)
        methods.append(entry)
    measured = {"processor": processor(), **asdict(sizes)} if sizes else None
    return {"methods": methods, "measured": measured}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facedistill methods", description="List the methods of distillation."
    )
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="only these (default: all)")
    parser.add_argument("--measure", action="store_true", help="time and memory of each loss on this CPU")
    parser.add_argument(
        "--images", type=positive, default=512, metavar="N", help="images per step (default: %(default)s)"
    )
    parser.add_argument(
        "--dim", type=positive, default=512, metavar="D", help="embedding width (default: %(default)s)"
    )
    parser.add_argument(
        "--identities", type=positive, default=85742, metavar="K", help="identities (default: %(default)s, MS1MV2)"
    )  # fmt: skip
    parser.add_argument("--steps", type=positive, default=3, help="timed steps (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
