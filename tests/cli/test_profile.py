"""`facedistill profile`: mistakes are sentences, and a run's step is taken apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facedistill.cli.profile import main
from facedistill.errors import ConfigError
from tests.helpers.assets import asset_or_skip


@pytest.mark.parametrize("minutes", ["-1", "nan"])
def test_no_time_limit_is_a_sentence(minutes: str) -> None:
    with pytest.raises(ConfigError, match=rf"--minutes {minutes}: must be 0 or more"):
        main(["experiment=demo", "--minutes", minutes])


@pytest.mark.slow
def test_a_step_is_taken_apart_and_traced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("mobilestylegan", "w600k_mbf"):
        asset_or_skip(name)
    trace = tmp_path / "step.json"
    small = [
        "debug=smoke",
        "data.batch_size=4",
        "generator.network.compile=false",
        "generator.network.exit=64",
    ]
    assert main([*small, "augment=photo", "--minutes", "0", "--trace", str(trace)]) == 0
    printed = capsys.readouterr().out
    parts = ("loader", "generator", "augmentation", "teacher", "student forward", "backward", "optimizer")
    assert all(f"\n{part} " in printed for part in parts)
    assert "bottleneck: " in printed
    assert {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]} >= set(parts)
