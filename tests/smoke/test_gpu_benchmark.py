"""The GPU benchmark in miniature: what it measures is written at once, and survives a kill and the time limit."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.__main__ import COMPARISONS, run_all
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.losses import plain_arcface
from benchmarks.gpu.results import read_rows, render
from benchmarks.gpu.training import steady_rate


@pytest.mark.parametrize("name", ["margin_softmax", "gkd", "ekd"])
def test_losses_are_measured_at_every_size(name: str, tmp_path: Path) -> None:
    COMPARISONS[name](Bench(tmp_path, 0.0, True, name))
    rows = read_rows(tmp_path)
    assert len(rows) == 4
    assert {row["case"] for row in rows} == {"straightforward", "facedistill"}
    assert all(row["ms"] > 0 and row["mib"] > 0 for row in rows)
    assert f"## {name}, " in (tmp_path / "gpu.md").read_text()


def test_straightforward_arcface_is_the_same_loss() -> None:
    import torch

    from facedistill.models.heads.arcface import ArcFaceHead

    torch.manual_seed(0)
    head = ArcFaceHead(num_identities=6, embedding_dim=4, beyond_pi="wrap")
    embeddings = torch.randn(5, 4)
    labels = torch.randint(6, (5,))
    plain = plain_arcface(head.weight, embeddings, labels)
    head.eval()
    own = head(embeddings, labels).mean()
    torch.testing.assert_close(plain, own, atol=2e-3, rtol=1e-3)


def test_the_steady_rate_leaves_out_compiling_and_validation() -> None:
    seen = {0: 0.0, 100: 90.0, 300: 100.0, 500: 110.0, 900: 130.0, 1000: 190.0}
    assert steady_rate(seen, 1000) == 20.0
    assert steady_rate({0: 0.0, 500: 9.0, 1000: 10.0}, 1000) is None


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 0.0, True, "ekd")
    bench.record("whole", ms=1.5, size=8)
    with (tmp_path / "gpu.jsonl").open("a") as file:
        file.write('{"comparison": "ek')
    assert [row["case"] for row in read_rows(tmp_path)] == ["whole"]
    render(tmp_path)
    assert "| whole | 1.5 | 8 |" in (tmp_path / "gpu.md").read_text()


def test_the_time_limit_stops_a_comparison_and_what_failed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], timeout: float) -> Any:
        if "ekd" in command:
            raise subprocess.TimeoutExpired(command, timeout)
        return argparse.Namespace(returncode=3)

    monkeypatch.setattr(subprocess, "run", run)
    given = argparse.Namespace(into=tmp_path, seconds=0.1, miniature=True, comparisons=["gkd", "ekd"])
    run_all(given, time.monotonic() + 60)
    run_all(given, time.monotonic())
    cases = [row["case"] for row in read_rows(tmp_path)]
    assert cases == [
        "stopped: exit code 3",
        "stopped: the time is over",
        *["not begun: the time is over"] * 2,
    ]


@pytest.mark.slow
def test_training_in_miniature(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--miniature", "--seconds", "0.1", "--minutes", "20"]
    subprocess.run(
        [*command, "--into", str(tmp_path)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    rows = read_rows(tmp_path)
    assert list(dict.fromkeys(row["comparison"] for row in rows)) == list(COMPARISONS)
    assert not [row for row in rows if "problem" in row or row["case"].startswith("stopped")]
    assert any("of_parts" in row for row in rows)
