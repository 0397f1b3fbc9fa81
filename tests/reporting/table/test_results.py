"""Invented results give this exact table."""

import pytest

from facedistill.reporting.numbers import (
    duration,
    percent,
    percent_interval,
    rate,
    short,
    times_fewer,
)
from facedistill.reporting.record import Results
from facedistill.reporting.table.results import Block, as_text, results_table

RESULTS = {
    "images_seen": 1000,
    "student": {
        "params": 1_832_000,
        "protocols": {
            "generated": {"pairs": 40, "genuine": 20, "impostor": 20, "accuracy": 0.975, "eer": float("nan")},
            "lfw": {
                "pairs": 6000,
                "genuine": 3000,
                "impostor": 3000,
                "accuracy": 0.91425,
                "accuracy_ci": [0.9081, 0.9204],
                "auc": 0.99999,
                "auc_ci": [0.99998, 1.0],
                "eer": 0.00001,
                "eer_ci": [0.0, 0.00002],
                "tar": {
                    "1e-2": {"tar": 0.8, "threshold": 0.3, "ci": [0.785, 0.814]},
                    "1e-3": {"tar": 1.0, "threshold": 0.4},
                    "1e-4": "not measurable",
                },
            },
        },
    },
    "teacher": {
        "protocols": {
            "lfw": {
                "pairs": 6000,
                "genuine": 3000,
                "impostor": 3000,
                "accuracy": 0.9963,
                "auc": None,
                "tar": {"1e-2": {"tar": 0.999, "threshold": 0.2, "ci": [0.997, 1.0]}},
            }
        }
    },
}

TABLE = """\
LFW (6,000 pairs: 3,000 genuine, 3,000 impostor)
                   student                    teacher
  accuracy         91.42 % [90.81, 92.04]     99.63 %
  AUC              > 99.99 % [99.99, 100.00]  not measured
  EER              < 0.01 % [0.00, 0.01]      not measured
  TAR at FAR 1e-2  80.00 % [78.50, 81.40]     99.90 % [99.70, 100.00]
  TAR at FAR 1e-3  100.00 %                   not measured
  TAR at FAR 1e-4  not measurable             not measured

Generated pairs (40 pairs: 20 genuine, 20 impostor)
                   student                    teacher
  accuracy         97.50 %                    not measured
  AUC              not measured               not measured
  EER              not measured               not measured"""


def blocks_of(content: dict) -> list[Block]:
    return results_table(Results.from_json(content, "results.json"))


def test_the_exact_table() -> None:
    assert as_text(blocks_of(RESULTS)) == TABLE


def test_no_results_no_table() -> None:
    assert as_text(blocks_of({})) == ""
    assert blocks_of({"student": {"protocols": None}, "teacher": None}) == []


def test_unknown_protocols_come_last_under_their_own_name() -> None:
    protocols = {name: {"accuracy": 0.5} for name in ("zoo", "generated", "cfp_ff", "lfw")}
    titles = [block.title for block in blocks_of({"student": {"protocols": protocols}})]
    assert titles == ["LFW", "CFP-FF", "Generated pairs", "zoo"]


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0, "0.00 %"),
        (1.0, "100.00 %"),
        (1, "100.00 %"),
        (0.99996, "> 99.99 %"),
        (0.99994, "99.99 %"),
        (0.00004, "< 0.01 %"),
        (None, "not measured"),
        (float("inf"), "not measured"),
        ("0.5", "not measured"),
        (True, "not measured"),
    ],
)
def test_percent(fraction: object, text: str) -> None:
    assert percent(fraction) == text


def test_intervals_that_are_none() -> None:
    assert [percent_interval(value) for value in (None, [], [0.1], [0.1, None], "ab")] == [""] * 5


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (38_200_000, "38.2 M"),
        (1_832_000, "1.83 M"),
        (999_950, "1 M"),
        (999, "999"),
        (7.29e9, "7.29 G"),
        (0, "0"),
    ],
)
def test_short(value: float, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 0 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (86_400 * 4 + 3 * 3600 + 5, "4 d 3 h"),
        (None, "not measured"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_rates_and_ratios() -> None:
    assert [rate(12.345), rate(1234.5), rate(None)] == ["12.3", "1,234", "not measured"]
    assert times_fewer(38.2e6, 440e6) == "11.5 times fewer than the teacher"
    assert times_fewer(6, 3) == "2 times more than the teacher"
    assert times_fewer(3, 3) == "as many as the teacher"
    assert times_fewer(None, 3) == times_fewer(3, 0) == ""


def test_identification_and_groups_have_rows_of_their_own() -> None:
    identification = {
        "searches": 12,
        "gallery": 20,
        "rank": {"1": {"rate": 0.5, "ci": [0.25, 0.75]}},
        "tpir": {"1e-1": {"tpir": 0.4, "ci": [0.3, 0.5]}, "1e-2": "not measurable"},
    }
    ijb = {"pairs": 9, "genuine": 4, "impostor": 5, "auc": 0.9, "eer": 0.1, "identification": identification}
    groups = {
        "by_group": {"a": {"accuracy": 0.9, "accuracy_ci": [0.8, 0.95]}, "b": {"accuracy": 0.8}},
        "accuracy_gap": 0.1,
        "accuracy_gap_ci": [0.05, 0.2],
        "accuracy_std": 0.0707,
    }
    rfw = {"pairs": 8, "genuine": 4, "impostor": 4, "accuracy": 0.85, "groups": groups}
    tinyface = {"identification": {**identification, "tpir": {}}}
    protocols = {"ijbc_n1d1f1": ijb, "rfw": rfw, "tinyface": tinyface}
    blocks = blocks_of({"student": {"protocols": protocols}})
    assert (
        "\n\n".join(as_text([block]) for block in blocks)
        == """\
IJB-C, N1D1F1 (9 pairs: 4 genuine, 5 impostor; 12 searches of 20 templates)
                     student
  AUC                90.00 %
  EER                10.00 %
  rank-1             50.00 % [25.00, 75.00]
  TPIR at FPIR 1e-1  40.00 % [30.00, 50.00]
  TPIR at FPIR 1e-2  not measurable

TinyFace (12 searches of 20 templates)
          student
  rank-1  50.00 % [25.00, 75.00]

RFW (8 pairs: 4 genuine, 4 impostor)
                                  student
  accuracy                        85.00 %
  AUC                             not measured
  EER                             not measured
  accuracy, a                     90.00 % [80.00, 95.00]
  accuracy, b                     80.00 %
  gap between groups              10.00 % [5.00, 20.00]
  standard deviation over groups  7.07 %"""
    )


def test_the_nearest_convention_stands_only_where_it_differs() -> None:
    tar = {"1e-2": {"tar": 0.8}, "1e-3": {"tar": 0.5}}
    nearest = {"1e-2": {"tar": 0.8}, "1e-3": {"tar": 0.6}}
    (block,) = blocks_of({"student": {"protocols": {"x": {"tar": tar, "tar_nearest": nearest}}}})
    rows = {row.label: row.student.value for row in block.rows if row.label.startswith("TAR")}
    assert rows == {
        "TAR at FAR 1e-2": "80.00 %",
        "TAR at FAR 1e-3": "50.00 %",
        "TAR at FAR 1e-3, nearest": "60.00 %",
    }


@pytest.mark.parametrize(
    ("flip", "told"),
    [
        ("none", ""),
        ("both", ""),  # IJB's modes say it themselves
        ("sum", "; with the mirror image, embeddings added"),
        ("unit_sum", "; with the mirror image, unit embeddings added"),
    ],
)
def test_figures_of_the_flip_test_are_named(flip: str, told: str) -> None:
    entry = {"accuracy": 0.9, "pairs": 8, "genuine": 4, "impostor": 4, "flip": flip}
    (block,) = blocks_of({"teacher": {"protocols": {"lfw": entry}}})
    assert block.pairs == f"8 pairs: 4 genuine, 4 impostor{told}"
