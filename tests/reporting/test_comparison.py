"""The comparison table: means, intervals, verdicts, and never a number without a run."""

from __future__ import annotations

import csv
import math

import pytest

from facedistill.reporting.comparison import column_title, compare
from facedistill.reporting.comparison_files import render

ROWS = """
title: A table
note: A note.
common: []
images: 1000
seeds: 3
metrics: [lfw/accuracy, lfw/tar@1e-4, validation/cosine]
rows:
  alpha: {label: Alpha & co, overrides: []}
  beta: {label: Beta, overrides: []}
  gamma: {label: Gamma, overrides: []}
"""
PUBLISHED = """
alpha: {lfw/accuracy: {value: 0.91, source: "a paper, table 2", verified: true}}
beta: {lfw/accuracy: {value: 0.95, source: "a summary", verified: false}}
gamma: {lfw/accuracy: {value: 0.95, source: "a paper", verified: true}}
"""


def record(row, seed, accuracy, images=1000):
    figures = {
        "accuracy": accuracy,
        "accuracy_ci": [accuracy - 0.01, accuracy + 0.01],
        "tar": {"1e-4": "not measurable"},
    }
    return {
        "row": row, "seed": seed, "id": f"pocket-{row}{seed}", "machine": {"cores": 2, "cpu": "x", "threads": 1},
        "config": {"images": images}, "validation": {"cosine": 0.5},
        "results": {"student": {"protocols": {"lfw": figures}}},
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rows.yaml").write_text(ROWS)
    (tmp_path / "published.yaml").write_text(PUBLISHED)
    return tmp_path


RECORDS = [
    record("alpha", 1, 0.90), record("alpha", 2, 0.91), record("alpha", 3, 0.92),
    record("beta", 1, 0.80), record("beta", 2, 0.99, images=5),
]  # fmt: skip


def test_seeds_give_a_mean_and_students_interval(folder):
    alpha, beta, gamma = compare(folder, RECORDS).lines
    figure = alpha.figures[0]
    assert figure.value == pytest.approx(0.91)
    half = 4.302653 * 0.01 / math.sqrt(3)  # t quantile 0.975 with two degrees of freedom
    assert figure.interval == pytest.approx((0.91 - half, 0.91 + half), abs=1e-6)
    assert figure.verdict == "reproduced"
    assert beta.figures[0].interval == (0.79, 0.81)  # one seed: the protocol's own
    assert beta.figures[0].verdict == "off by -15.00"
    assert gamma.figures[0].value is None
    assert gamma.figures[0].verdict == "not measured"
    assert alpha.figures[1].reason == "not measurable"
    assert (alpha.runs, gamma.runs) == (("pocket-alpha1", "pocket-alpha2", "pocket-alpha3"), ())


def test_another_budget_is_another_table(folder):
    assert compare(folder, RECORDS, 5).lines[1].figures[0].value == 0.99
    assert compare(folder, RECORDS, 5).lines[0].figures[0].value is None
    render(folder, RECORDS, 5)
    assert (folder / "images-5" / "table.md").exists()
    assert not (folder / "table.md").exists()


def test_files(folder):
    written = render(folder, RECORDS)
    assert {path.name for path in written} == {
        "table.md", "table.tex", "table.html", "results.csv", "lfw_accuracy.png", "validation_cosine.png",
    }  # fmt: skip
    before = {path: path.read_bytes() for path in written}
    assert {path: path.read_bytes() for path in render(folder, RECORDS)} == before
    markdown = (folder / "table.md").read_text()
    assert (
        "| Beta | 80.00 [79.00, 81.00] (published 95.00 second-hand: off by -15.00) | not measurable | 0.500 | 1 | beta1 |"
        in markdown
    )
    assert (
        "| Gamma | not measured (published 95.00: not measured) | not measured | not measured | 0 |"
        in markdown
    )
    assert r"Alpha \& co & 91.00" in (folder / "table.tex").read_text()
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert len(rows) == 9
    assert rows[3]["value"] == "0.8"
    assert rows[6]["value"] == "not measured"


def test_columns_are_named_as_people_name_them():
    assert column_title("lfw/tar@1e-3") == "LFW TAR at FAR 1e-3"
    assert column_title("cfp_fp/auc") == "CFP-FP AUC"
    assert column_title("validation/cosine") == "validation cosine"
