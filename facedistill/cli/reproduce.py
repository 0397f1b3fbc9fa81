"""`facedistill reproduce`: makes the missing runs of a table, and renders it from its records."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from facedistill.cli.arguments import positive


def main(arguments: Sequence[str]) -> int:
    """Plans, runs and renders one table; 1 if a run failed or cannot start here."""
    parsed = _parser().parse_intermixed_args(list(arguments))
    from facedistill.sweeps.tables.reproduce import reproduce

    succeeded = reproduce(
        Path(parsed.experiments) / parsed.table,
        rows=parsed.rows,
        images=parsed.images,
        seeds=parsed.seeds,
        slots=parsed.slots,
        overrides=parsed.overrides,
        dry=parsed.dry,
        render_only=parsed.render,
        merge=Path(parsed.merge) if parsed.merge else None,
    )
    return 0 if succeeded else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="facedistill reproduce", description=__doc__)
    parser.add_argument(
        "table", nargs="?", default="pocket", help="a folder of experiments/ with a rows.yaml"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="launcher=NAME",
        help="where the runs are made, as for train -m: launcher=ray launcher.address=auto; this machine, --slots at a time",
    )
    parser.add_argument("--rows", metavar="NAMES", help="only these rows, separated by commas")
    parser.add_argument("--images", type=positive, help="another image budget per run")
    parser.add_argument("--seeds", type=positive, help="seeds of every row")
    parser.add_argument(
        "--slots", type=positive, help="runs at a time on this machine; half its cores when left out"
    )
    parser.add_argument(
        "--dry",
        action="store_true",
        help="say what would run, what it would cost and what is missing, and stop",
    )
    parser.add_argument("--render", action="store_true", help="render from the records there are, and stop")
    parser.add_argument(
        "--merge",
        metavar="FOLDER",
        help="take the records that another machine made of this table, and render",
    )
    parser.add_argument("--experiments", default="experiments", help=argparse.SUPPRESS)
    return parser
