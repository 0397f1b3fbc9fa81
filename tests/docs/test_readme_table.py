"""The README's table of methods says what the records under experiments/pocket_photo say."""

from __future__ import annotations

import csv
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
POCKET = ROOT / "experiments" / "pocket_photo"
COLUMNS = {
    "seeds": "",
    "LFW %": "lfw/accuracy",
    "LFW TAR at FAR 1e-3 %": "lfw/tar@1e-3",
    "CFP-FP %": "cfp_fp/accuracy",
    "CFP-FF %": "cfp_ff/accuracy",
    "validation cosine": "validation/cosine",
}


def measured() -> dict[tuple[str, str], dict[str, str]]:
    with (POCKET / "results.csv").open() as file:
        return {(row["row"], row["metric"]): row for row in csv.DictReader(file)}


def shown(row: dict[str, str], rate: bool) -> str:
    scale, digits = (100, 2) if rate else (1, 3)
    value, *interval = [
        f"{scale * float(row[key]):.{digits}f}" for key in ("value", "low", "high") if row[key]
    ]
    return f"{value} [{', '.join(interval)}]" if rate and interval else value


def readme_rows() -> list[list[str]]:
    table = (ROOT / "README.md").read_text().split("<!-- pocket -->")[1].split("<!-- /pocket -->")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]


def wanted_rows() -> list[list[str]]:
    """Every row, best on LFW first."""
    found, rows = measured(), yaml.safe_load((POCKET / "rows.yaml").read_text())["rows"]
    names = sorted(rows, key=lambda name: -float(found[name, "lfw/accuracy"]["value"]))
    return [
        [
            rows[name]["label"],
            *(
                shown(found[name, metric], metric != "validation/cosine")
                if metric
                else found[name, "lfw/accuracy"]["seeds"]
                for metric in COLUMNS.values()
            ),
        ]
        for name in names
    ]


def test_the_readme_shows_what_was_measured() -> None:
    heading, _, *rows = readme_rows()
    assert heading == ["method", *COLUMNS]
    assert rows == wanted_rows()
    assert len(rows) == 8
