"""`evaluation.robustness`: which pairs are taken, and mistakes in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from facedistill.config import compose
from facedistill.errors import ConfigError
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.evaluation.protocols.images import ArrayImages
from facedistill.runs.robustness import corrupted_protocols, robustness_settings
from facedistill.runs.yaw import yaw_settings


@pytest.fixture
def generated() -> PairsProtocol:
    fold = torch.arange(10).repeat_interleave(2)
    same = torch.arange(20) % 2 == 0
    faces = torch.zeros(4, 3, 112, 112, dtype=torch.uint8)
    return PairsProtocol(
        "generated", ArrayImages(faces), torch.arange(20) % 4, torch.arange(20) % 3, same, fold
    )


def test_generated_pairs_stand_in_for_missing_files(
    generated: PairsProtocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEDISTILL_SHARED", str(tmp_path))
    evaluation = compose("train", [f"evaluation.data_dir={tmp_path}"]).evaluation
    found = corrupted_protocols(evaluation, [generated])
    assert list(found) == ["plain", "dark", "gray", "blurred", "low_resolution", "jpeg", "covered", "framed"]
    assert {one.name for one in found.values()} >= {"generated", "generated, dark"}
    assert corrupted_protocols(evaluation, []) == {}
    assert corrupted_protocols(compose("train", ["debug=smoke"]).evaluation, [generated]) == {}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "evaluation.robustness=3",
            "evaluation.robustness: expected keys (protocol, pairs, seed, corruptions) or null, got 3",
        ),
        (
            "evaluation.robustness.corruptions=[fog]",
            "evaluation.robustness.corruptions: 'fog' is unknown; known: dark, gray, blurred, low_resolution, jpeg, "
            "covered, framed",
        ),
        (
            "evaluation.robustness.pairs=7",
            "evaluation.robustness.pairs: must be 40 or more, or null for all, got 7",
        ),
        (
            "+evaluation.robustness.pair=7",
            "unknown key 'evaluation.robustness.pair'; did you mean evaluation.robustness.pairs?",
        ),
    ],
)
def test_wrong_settings_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        robustness_settings(compose("train", [override]).evaluation)
    assert str(caught.value) == message


def test_no_protocol_means_that_nothing_is_measured() -> None:
    """A recipe that sets `evaluation.robustness.pairs` would bring back what `evaluation=none` turned off."""
    for overrides in (["experiment=demo", "evaluation=none"], ["evaluation.protocols=[]"]):
        assert robustness_settings(compose("train", overrides).evaluation) is None
    by_yaw = ["evaluation.yaw={protocol: cfp_fp, edges: [0, 90]}"]
    assert yaw_settings(compose("train", by_yaw).evaluation) == ("cfp_fp", [0.0, 90.0])
    assert yaw_settings(compose("train", [*by_yaw, "evaluation=none"]).evaluation) is None
