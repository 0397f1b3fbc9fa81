"""A threshold fitted on frontal faces, used on profiles: counts by hand, and when it warns."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from facedistill.reporting.record import NetworkResults, Results
from facedistill.reporting.run.files import Scores
from facedistill.reporting.run.thresholds import threshold_rows, transfers, warnings


def files(
    genuine_accepted: int, impostor_accepted: int, tar: float = 0.5, threshold: float = 0.5
) -> SimpleNamespace:
    entry = {"tar": tar, "threshold": threshold, "ci": [tar - 0.03, tar + 0.03]}
    figures = {"accuracy": 0.8, "genuine": 1000, "impostor": 1000, "tar": {"1e-2": entry, "1e-3": entry}}
    results = Results(student=NetworkResults(protocols={"cfp_ff": figures}), titles={"cfp_ff": "FF"})
    score = np.zeros(2000, np.float32)
    score[:genuine_accepted], score[1000 : 1000 + impostor_accepted] = (
        0.5,
        0.9,
    )  # 0.5 is accepted, as it is >=
    scores = {("cfp_fp", "student"): Scores(score, np.arange(2000) < 1000)}
    return SimpleNamespace(results=results, scores=scores, folder=Path())


def test_rates_and_counts_on_the_other_protocol() -> None:
    one = transfers(files(genuine_accepted=480, impostor_accepted=7))[1]
    assert (one.fitted_on, one.fitted_far, one.used_on) == ("FF", "1e-3", "CFP-FP")
    assert str(one.far) == "0.70 % [0.31, 1.37], 7 of 1,000"
    assert str(one.tar) == "48.00 % [44.91, 51.10], 480 of 1,000"


def test_scores_are_compared_in_float64() -> None:
    assert str(transfers(files(480, 0, threshold=0.5 + 1e-12))[1].tar).endswith("0 of 1,000")


@pytest.mark.parametrize(
    ("genuine", "impostor", "says"),
    [
        (500, 1, None),
        (500, 3, None),  # 0.3 % is within chance of 0.1 %
        (500, 9, "does not hold on CFP-FP: it accepts 0.90 % of the impostor pairs."),
        (20, 0, "does not hold on CFP-FP: it accepts 2.00 % of the genuine pairs, not 50.00 %."),
        (
            20,
            30,
            "it accepts 3.00 % of the impostor pairs and accepts 2.00 % of the genuine pairs, not 50.00 %.",
        ),
        (900, 0, None),  # more genuine pairs is no problem
    ],
)
def test_warns_of_what_is_beyond_chance(genuine: int, impostor: int, says: str | None) -> None:
    found = warnings(transfers(files(genuine, impostor)))
    assert [one.warning[-len(says or "") :] for one in found] == ([says] if says else [])


def test_rows_name_the_one_that_decides() -> None:
    rows = threshold_rows(files(1, 1).results)
    assert [(row.protocol, row.far, row.is_default) for row in rows] == [
        ("FF", "1e-2", False),
        ("FF", "1e-3", True),
    ]
