"""The estimate is arithmetic that can be done by hand from published multiply-accumulates."""

from __future__ import annotations

import math

import pytest

from facedistill.config import compose
from facedistill.sweeps.tables.estimate import LIGHT_SHARE, PEAK_FLOPS, WIDE_SHARE, ImageCost, image_cost


def cost(*overrides):
    return image_cost(compose("train", overrides))


def test_an_hour_is_what_the_formula_says():
    assert ImageCost(student=0, teacher=PEAK_FLOPS * WIDE_SHARE / 2, generator=0).gpu_hours(3600) == 1
    assert ImageCost(student=PEAK_FLOPS * LIGHT_SHARE / 6, teacher=0, generator=0).gpu_hours(7200) == 2
    both = ImageCost(student=1e8, teacher=6e9, generator=15e9)
    by_hand = 2e6 * (3 * 1e8 / 0.02 + 21e9 / 0.3) / 989e12 / 3600
    assert both.gpu_hours(1_000_000) == pytest.approx(by_hand)


def test_networks_are_counted_as_published():
    ekd = cost("experiment=ekd", "data.path=nowhere", "teacher=iresnet50", "teacher.file=nowhere")
    assert ekd.student == pytest.approx(221e6, rel=0.005)
    assert ekd.teacher == pytest.approx(6.31e9, rel=0.005)
    assert ekd.generator == 0
    rendered = cost("experiment=synthdistill", "teacher=iresnet100_mxnet", "teacher.file=nowhere")
    assert rendered.student == pytest.approx(126.8e6, rel=0.005)
    assert rendered.teacher == pytest.approx(12.09e9, rel=0.005)
    assert rendered.generator == 5.72e9
    paper = cost("experiment=synthdistill_paper", "teacher.file=nowhere", "generator.file=nowhere")
    assert paper.generator == 15.0e9  # with teacher and student 55 GFLOP, as others reckon
    assert 2 * (paper.generator + paper.teacher + 3 * paper.student) == pytest.approx(55e9, rel=0.01)
    assert cost("experiment=synthdistill", "data.source.replay=2").generator == 5.72e9 / 3


def test_what_a_run_does_not_ask_is_not_counted():
    assert cost("experiment=pocket", "method=supervised").teacher == 0
    assert cost("experiment=pocket", "method=kd").teacher == 0  # its embeddings are kept
    assert cost("experiment=pocket").generator == 0  # rendered once
    one, two = cost("experiment=pocket", "method=kd"), cost("experiment=pocket", "method=mutual")
    assert two.student == 2 * one.student
    assert math.isnan(cost("teacher=sface").gpu_hours(1))
