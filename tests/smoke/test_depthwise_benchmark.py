"""The benchmark of depthwise gradients in miniature: a cell for each layer and column, of equal gradients."""

import re

import pytest
import torch

from benchmarks.depthwise import COLUMNS, Layer, gradient, table

SMALL = (Layer(6, 7, 3, 2, "input"), Layer(4, 5, 5, 1, "kernel"))


def test_every_layer_has_a_time_in_every_column() -> None:
    head, _, *rows = table(SMALL, batch=2, repetitions=1).splitlines()
    assert "torch, bfloat16 | facedistill, bfloat16 | torch, float32 | facedistill, float32" in head
    assert [re.sub(r"\d+\.\d\d", "ms", row) for row in rows] == [
        "| 6 x 7, 3 x 3, stride 2 | input | ms | ms | ms | ms |",
        "| 4 x 5, 5 x 5 | kernel | ms | ms | ms | ms |",
    ]


@pytest.mark.parametrize("layer", SMALL, ids=str)
def test_what_is_timed_is_the_gradient_of_the_same_convolution(layer: Layer) -> None:
    first, *others = (gradient(layer, 2, own, dtype)().float() for _, own, dtype in COLUMNS)
    assert first.shape == ((2, 6, 7, 7) if layer.gradient == "input" else (4, 1, 5, 5))
    for other in others:
        torch.testing.assert_close(other, first, atol=0.1, rtol=0.05)
