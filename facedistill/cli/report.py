"""`facedistill report RUN`: writes the report and the model card of a run again from the files of its folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from facedistill.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Rewrites report.html, figures/ and README.md of every named run folder and prints its table.

    Returns:
        The exit status, 0.

    Raises:
        UserError: If a folder is not a run, before anything is written, or another process has locked one.
    """
    runs = [Path(name) for name in _parser().parse_args(argv).run]
    from facedistill.reporting.run.files import read_run
    from facedistill.reporting.run.model_card import write_model_card
    from facedistill.reporting.run.page import write_report
    from facedistill.reporting.table.results import as_text, results_table
    from facedistill.runs.folder import RunFolder

    for run in runs:
        if not run.is_dir():
            raise UserError(f"there is no run folder {run}; give a folder such as runs/<name>-<id>")
        read_run(run)
    for run in runs:
        with RunFolder(run).held():
            table = as_text(results_table(read_run(run).results))
            card = write_model_card(run)
            written = [*([f"card     {card}"] if card else []), f"report   {write_report(run)}"]
        print(*filter(None, [table, "\n".join(written)]), sep="\n\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facedistill report",
        description="Write report.html, figures/ and README.md of a run again, from the files of its folder alone.",
    )
    parser.add_argument("run", nargs="+", metavar="RUN", help="run folder, runs/<name>-<id>")
    return parser
