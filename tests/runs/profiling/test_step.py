"""What a profile measures."""

from __future__ import annotations

from typing import Any

import pytest

from facedistill.data.sources.rendered import RenderedFaces
from facedistill.runs.profiling.step import cycle_of
from tests.helpers.tiny_networks import TinyGenerator


@pytest.mark.parametrize("resampling", ["dynamic", "static"])
@pytest.mark.parametrize("replay", [0, 2])
def test_rendered_and_replayed_steps_are_measured_in_their_share(resampling: Any, replay: int) -> None:
    source = RenderedFaces(TinyGenerator(), seed=1, resampling=resampling, replay=replay, pool_images=64)
    count = cycle_of(source)
    kinds = [source.step(number).kind for number in range(2 * count)]
    assert kinds[:count] == kinds[count:]
    assert kinds[:count].count("replayed") == count * replay // (1 + replay)
