"""A set of wrongly sized faces is refused before training begins."""

from __future__ import annotations

import pytest

from facedistill.data.formats.sizes import demand_one_size
from facedistill.errors import DataError
from tests.data.formats.drawn_set import DrawnSet


def test_counts_and_fix():
    faces = DrawnSet()
    demand_one_size(faces, "faces")
    large, small = DrawnSet(size_px=128), DrawnSet(size_px=96)
    faces._files[5:8] = large._files[5:8]
    faces._files[9] = small._files[9]
    faces._files[20] = b"nothing"
    with pytest.raises(DataError) as caught:
        demand_one_size(faces, "faces")
    assert str(caught.value) == (
        "faces: 5 of 32 images looked at are no faces of 112x112 pixels (3 128x128, 1 96x96, 1 unreadable), the first "
        "drawn 5 (128x128); list all with `facedistill data verify`, replace them or align the set with "
        "`facedistill data align`"
    )


def test_a_large_set_is_sampled(monkeypatch):
    faces = DrawnSet(images=100)
    read = []
    encoded = faces.encoded
    monkeypatch.setattr(faces, "encoded", lambda index: read.append(index) or encoded(index))
    demand_one_size(faces, "faces")
    assert len(read) == 256
    assert (read[0], read[-1]) == (0, 399)
