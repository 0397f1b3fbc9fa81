"""Schedules as the papers give them, in images."""

from __future__ import annotations

import pytest

from facedistill.config import compose
from facedistill.methods.schedules import MultiStep, WarmupCosine


def test_ekd_cuts_the_rate_at_epochs_10_18_and_22_of_26():
    schedule = MultiStep(at=[10 / 26, 18 / 26, 22 / 26], gamma=0.1)
    factors = [schedule(epoch * 100, 2600) for epoch in range(26)]
    assert factors == pytest.approx([1.0] * 10 + [0.1] * 8 + [0.01] * 4 + [0.001] * 4)


def test_gkd_warms_up_for_4_of_20_epochs_and_ends_at_its_floor():
    scheduler = compose("train", ["experiment=gkd", "data.path=x"]).scheduler
    schedule = WarmupCosine(warmup=scheduler.warmup, floor=scheduler.floor)
    assert schedule(200, 2000) == pytest.approx(0.5)
    assert schedule(400, 2000) == pytest.approx(1.0)
    assert schedule(1200, 2000) == pytest.approx(0.5, abs=1e-4)
    assert 0.1 * schedule(2000, 2000) == pytest.approx(2.5e-7)


def test_the_released_recipes_are_whole():
    ekd = compose("train", ["experiment=ekd", "data.path=x"])
    assert (ekd.head.margin_rad, ekd.optimizer.lr, ekd.data.batch_size) == (0.4, 0.1, 512)
    assert ekd.data.source.balanced == {"identities": 64, "images": 4}
    gkd = compose("train", ["experiment=gkd", "data.path=x"])
    assert (gkd.head.margin_cos, gkd.optimizer.nesterov, gkd.optimizer.momentum) == (0.4, True, 0.9)
