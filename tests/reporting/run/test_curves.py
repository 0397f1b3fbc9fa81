"""Which figures the learning curves give."""

import numpy as np
import pytest

from facedistill.reporting.run.curves import learning_drawings
from facedistill.reporting.run.files import Series


@pytest.mark.parametrize(
    ("loss", "figures"), [(1.0, ["learning-loss"]), (30.0, ["learning-loss", "learning-mse"])]
)
def test_a_loss_and_the_mse_share_an_axis_only_where_they_are_the_same(
    loss: float, figures: list[str]
) -> None:
    seen, mse = np.arange(10.0), np.linspace(1, 0.5, 10)
    curves = {
        "train/loss": Series(seen, loss * mse),
        "train/mse": Series(seen, mse),
        "val/mse": Series(seen, mse),
    }
    assert [drawing.name for drawing in learning_drawings(curves)] == figures
