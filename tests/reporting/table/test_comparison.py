"""The comparison table: means, intervals, verdicts, and never a number without a run."""

from __future__ import annotations

import csv
import hashlib
import math

import pytest

from facedistill.errors import ConfigError
from facedistill.reporting.table.comparison import column_title, compare
from facedistill.reporting.table.render import as_markdown, render

ROWS = """
title: A table
note: A note.
common: []
images: 1000
seeds: 3
metrics: [lfw/accuracy, lfw/tar@1e-4, lfw/tar@1e-3, validation/cosine]
rows:
  alpha: {label: Alpha & co, overrides: []}
  beta: {label: Beta, overrides: []}
  gamma: {label: Gamma, overrides: []}
"""
PUBLISHED = """
sources:
  - what: A paper, table 2
    protocol: LFW, 10 folds
    verified: true
    rows: {alpha: {lfw/accuracy: 0.91}, gamma: {lfw/accuracy: 0.95}}
  - what: A summary
    protocol: LFW & others
    verified: false
    rows: {beta: {lfw/accuracy: 0.95}}
  - what: Another paper
    protocol: FAR by the nearest threshold
    verified: true
    differs: another student
    rows: {beta: {lfw/tar@1e-3: 0.6}}
"""


def record(row, seed, accuracy, images=1000):
    figures = {
        "accuracy": accuracy,
        "accuracy_ci": [accuracy - 0.01, accuracy + 0.01],
        "tar": {"1e-4": "not measurable", "1e-3": {"tar": 0.5, "ci": [0.4, 0.6]}},
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


def test_a_row_says_which_images_on_disk_it_learned_from(folder):
    records = [
        {**record("alpha", seed, 0.9), "stored_faces": {"set": "utk.tar", "images": 5}} for seed in (1, 2)
    ]
    labels = [line.label for line in compare(folder, [*records, record("beta", 1, 0.8)]).lines]
    assert labels == ["Alpha & co (images of utk.tar)", "Beta", "Gamma"]


def test_another_budget_is_another_table(folder):
    assert compare(folder, RECORDS, 5).lines[1].figures[0].value == 0.99
    assert compare(folder, RECORDS, 5).lines[0].figures[0].value is None
    render(folder, RECORDS, 5)
    assert (folder / "images-5" / "table.md").exists()
    assert not (folder / "table.md").exists()


def test_files(folder):
    written = render(folder, RECORDS)
    assert {path.name for path in written} == {
        "table.md", "table.tex", "table.html", "results.csv", "lfw_accuracy.png", "lfw_tar_at_1e-3.png",
        "validation_cosine.png",
    }  # fmt: skip
    before = {path: path.read_bytes() for path in written}
    assert {path: path.read_bytes() for path in render(folder, RECORDS)} == before
    markdown = (folder / "table.md").read_text()
    assert (
        "| Beta | 80.00 [79.00, 81.00] (published 95.00 second-hand, source 2: off by -15.00) | not measurable "
        "| 50.00 [40.00, 60.00] (published 60.00, source 3: not compared) | 0.500 | 1 | beta1 |"
    ) in markdown
    assert (
        "| Gamma | not measured (published 95.00, source 1) | not measured | not measured | not measured | 0 |"
    ) in markdown
    assert (
        "2. A summary; LFW & others; second-hand: read in a summary and not in the source\n"
        "3. Another paper; FAR by the nearest threshold; not compared: another student\n"
    ) in markdown
    latex = (folder / "table.tex").read_text()
    assert r"Alpha \& co & 91.00" in latex
    assert r"\par 2. A summary; LFW \& others;" in latex
    assert "<li>A paper, table 2; LFW, 10 folds<li>A summary" in (folder / "table.html").read_text()
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert len(rows) == 12
    assert (rows[4]["value"], rows[4]["verified"], rows[4]["verdict"]) == (
        "0.8",
        "second-hand",
        "off by -15.00",
    )
    assert (rows[8]["value"], rows[8]["published"]) == ("not measured", "0.95")


def test_the_caption_says_what_the_table_rests_on(folder):
    caption = as_markdown(compare(folder, RECORDS)).splitlines()[2]
    assert caption.startswith("A note. 1,000 images a run; seeds 1, 2, 3; mean and 95 % interval")
    expected = hashlib.sha256(b"pocket-alpha1\npocket-alpha2\npocket-alpha3\npocket-beta1").hexdigest()[:8]
    assert caption.endswith(
        "Measured on: 2 x cores, 1 threads a run. Each run is named by the hash of its configuration; hash of all "
        f"of them: {expected}."
    )
    nothing = as_markdown(compare(folder, []))
    assert "Measured on: no machine yet." in nothing
    assert "| Alpha & co | not measured (published 91.00, source 1) | not measured |" in nothing


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("0.91", "91.0", "source 1: alpha: lfw/accuracy: expected a fraction in [0, 1], got 91.0"),
        ("beta: {lfw/accuracy", "delta: {lfw/accuracy", "source 2: delta: lfw/accuracy: rows.yaml has no such cell"),
        ("lfw/tar@1e-3: 0.6", "lfw/accuracy: 0.6", "source 3: beta: lfw/accuracy: is given by two sources; keep one"),
        ("verified: false", "seen: false", "source 2: missing key verified; unknown key seen"),
        ("{beta: {lfw/tar@1e-3: 0.6}}", "{}", "source 3: rows is empty; give figures, or delete the source"),
    ],
)  # fmt: skip
def test_a_wrong_published_figure_is_named(folder, old, new, said):
    path = folder / "published.yaml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError) as error:
        compare(folder, RECORDS)
    assert str(error.value) == f"{path}: {said}"


def test_columns_are_named_as_people_name_them():
    assert column_title("lfw/tar@1e-3") == "LFW TAR at FAR 1e-3"
    assert column_title("cfp_fp/auc") == "CFP-FP AUC"
    assert column_title("validation/cosine") == "validation cosine"


def test_rows_are_compared_with_the_reference_over_equal_seeds(folder):
    path = folder / "rows.yaml"
    path.write_text(path.read_text() + "reference: beta\n")
    records = [
        record("beta", 1, 0.80),
        record("beta", 2, 0.84),
        record("alpha", 1, 0.81),
        record("alpha", 2, 0.87),
    ]
    records += [record("alpha", 3, 0.99), record("gamma", 2, 0.80)]
    text = as_markdown(compare(folder, records))
    half = 12.7062 * 0.01  # t quantile 0.975 with one degree of freedom, differences 0.01 and 0.03
    assert f"| Alpha & co | +2.00 [{2 - 100 * half:+.2f}, {2 + 100 * half:+.2f}] | not measured |" in text
    assert "| Gamma | -4.00 | not measured | +0.00 | +0.000 | 1 |" in text
    assert 'Difference from "Beta" over equal seeds' in text
    assert "Difference from" not in as_markdown(compare(folder, records[2:4]))  # the reference has no run


def test_accuracy_under_a_corruption_is_a_column(folder):
    path = folder / "rows.yaml"
    path.write_text(path.read_text().replace("validation/cosine", "robustness/low_resolution"))
    one = record("alpha", 1, 0.9)
    measured = {"low_resolution": {"accuracy": 0.7, "accuracy_ci": [0.6, 0.8]}}
    one["results"]["student"]["robustness"] = {"conditions": measured}
    text = as_markdown(compare(folder, [one, record("beta", 1, 0.8)]))
    assert "Low resolution accuracy" in text
    assert "| 70.00 [60.00, 80.00] | 1 | alpha1 |" in text
    assert (
        "| 50.00 [40.00, 60.00] (published 60.00, source 3: not compared) | not measured | 1 | beta1 |"
        in text
    )
