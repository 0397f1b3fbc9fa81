"""Which threshold decides, and what a student's file says about it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from facedistill.errors import AssetError
from facedistill.evaluation.thresholds import (
    KEY,
    Threshold,
    default_threshold,
    format_thresholds,
    parse_thresholds,
    thresholds_from_results,
)

LFW = Threshold("lfw", 1e-3, 0.30, 0.95, (0.94, 0.96), 3000, 3000)
CFP = dataclasses.replace(LFW, protocol="cfp_fp", threshold=0.20, impostor=3500)


@pytest.mark.parametrize(
    ("thresholds", "far", "chosen"),
    [
        ([LFW, CFP], None, CFP),  # most impostor pairs
        ([CFP, dataclasses.replace(CFP, threshold=0.25)], None, dataclasses.replace(CFP, threshold=0.25)),
        ([LFW, dataclasses.replace(CFP, far=1e-2)], None, LFW),
        ([dataclasses.replace(CFP, far=1e-2)], None, dataclasses.replace(CFP, far=1e-2)),
        ([LFW, dataclasses.replace(CFP, far=1e-2)], 1e-2, dataclasses.replace(CFP, far=1e-2)),
        ([LFW], 1e-4, None),
        ([], None, None),
    ],
)
def test_the_threshold_to_decide_by(
    thresholds: list[Threshold], far: float | None, chosen: Threshold | None
) -> None:
    assert default_threshold(thresholds, far) == chosen


def test_metadata_holds_exactly_what_was_fitted() -> None:
    text = format_thresholds([LFW, CFP])
    assert json.loads(text)[0] == {
        "protocol": "lfw", "far": 0.001, "threshold": 0.3, "tar": 0.95, "tar_ci": [0.94, 0.96], "genuine": 3000,
        "impostor": 3000, "flip": "none",
    }  # fmt: skip
    assert parse_thresholds({KEY: text}, "a file") == [LFW, CFP]
    assert parse_thresholds({}, "a file") == []


@pytest.mark.parametrize("text", ["", "{}x", "7", '[{"protocol": "lfw"}]', '["lfw"]', "[" * 100_000])
def test_damaged_metadata_is_named(text: str) -> None:
    with pytest.raises(
        AssetError, match=r"^a\.onnx: its metadata facedistill\.thresholds is damaged; evaluate "
    ):
        parse_thresholds({KEY: text}, "a.onnx")


def test_templates_and_what_was_not_measurable_have_no_threshold() -> None:
    entry = {"tar": 0.9, "threshold": 0.4, "ci": [0.88, 0.92]}
    figures = {"genuine": 10, "impostor": 1000, "tar": {"1e-3": entry, "1e-4": "not measurable", "1e-2": {}}}
    found = thresholds_from_results({"lfw": {"accuracy": 0.9, "flip": "sum", **figures}, "ijbb_n1": figures})
    assert found == [Threshold("lfw", 1e-3, 0.4, 0.9, (0.88, 0.92), 10, 1000, "sum")]
