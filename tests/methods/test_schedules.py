"""Schedules as the papers give them, in images."""

from __future__ import annotations

import math

import pytest
from hydra.utils import instantiate

from facedistill.config import compose
from facedistill.methods.schedules import MultiStep, WarmupCosine


def test_ekd_cuts_the_rate_at_epochs_10_18_and_22_of_26():
    schedule = MultiStep(at=[10 / 26, 18 / 26, 22 / 26], gamma=0.1)
    factors = [schedule(epoch * 100, 2600) for epoch in range(26)]
    assert factors == pytest.approx([1.0] * 10 + [0.1] * 8 + [0.01] * 4 + [0.001] * 4)


def _recipe(name: str):
    return compose("train", [f"experiment={name}", "data.path=x"]).scheduler


def test_gkds_rates_are_those_of_the_released_cosine_that_counts_from_step_0():
    """timm's CosineLRScheduler without warmup_prefix: 4 of 20 epochs of warm-up from 2.5e-7, then the cosine's value."""
    schedule = instantiate(_recipe("gkd"))
    rates = [0.1 * schedule(step, 200) for step in range(201)]  # ten steps an epoch
    lowest = 2.5e-7
    rising = [lowest + step * (0.1 - lowest) / 40 for step in range(40)]
    falling = [
        lowest + 0.5 * (0.1 - lowest) * (1 + math.cos(math.pi * step / 200)) for step in range(40, 201)
    ]
    assert rates == pytest.approx(rising + falling, rel=1e-9)
    assert rates[::20] == pytest.approx(
        [2.5e-7, 0.0500001, 0.0904509, 0.0793893, 0.0654509, 0.0500001, 0.0345493, 0.0206109, 0.0095494, 0.0024474, 2.5e-7],
        abs=1e-7,
    )  # fmt: skip


def test_adadistill_cuts_the_rate_after_7_13_19_and_24_of_26_epochs():
    """The released lr_step_func: one cut for each m of [8, 14, 20, 25] with m - 1 <= epoch, epochs from 0."""
    schedule = instantiate(_recipe("adadistill"))
    released = [0.1 ** sum(m - 1 <= epoch for m in [8, 14, 20, 25]) for epoch in range(26)]
    assert released == pytest.approx([1.0] * 7 + [0.1] * 6 + [0.01] * 6 + [1e-3] * 5 + [1e-4] * 2)
    for offset in (10, 9990):  # shortly after the start of the epoch and before its end
        factors = [schedule(epoch * 10_000 + offset, 260_000) for epoch in range(26)]
        assert factors == pytest.approx(released)


def test_a_warm_up_that_ends_where_the_cosine_begins_is_as_before():
    schedule = WarmupCosine(warmup=0.2, floor=0.1)
    factors = [schedule(images, 100) for images in (0, 10, 20, 60, 100)]
    assert factors == pytest.approx([1e-3, 0.5, 1.0, 0.55, 0.1])


def test_the_released_recipes_are_complete():
    ekd = compose("train", ["experiment=ekd", "data.path=x"])
    assert (ekd.head.margin_rad, ekd.optimizer.lr, ekd.data.batch_size) == (0.4, 0.1, 512)
    assert ekd.data.source.balanced == {"identities": 64, "images": 4}
    gkd = compose("train", ["experiment=gkd", "data.path=x"])
    assert (gkd.head.margin_cos, gkd.optimizer.nesterov, gkd.optimizer.momentum) == (0.4, True, 0.9)
