"""Real runs of two processes each: one fails on purpose, and the sweep is killed with SIGKILL and given again."""

from __future__ import annotations

import random

import pytest

from benchmarks.sweep import trouble
from tests.helpers.assets import asset_or_skip

pytestmark = [pytest.mark.slow, pytest.mark.assets]


def test_a_killed_sweep_continues_and_nothing_runs_twice(tmp_path):
    for name in ("w600k_mbf", "mobilestylegan"):
        asset_or_skip(name)
    seen = trouble(tmp_path, [8, 16, 9], seeds=1, rng=random.Random(1))
    assert seen.problems(num_failing=1) == []
    assert seen.finished_before == 1
    assert "data.batch_size=9" in seen.failed[0]
