"""The crop: where it puts the eyes, and torch's own resize as the oracle."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from facedistill.errors import ConfigError
from facedistill.models.generators.crop import crop_matrices, crop_window


@pytest.mark.parametrize("size", [128, 256, 512, 1024])
@pytest.mark.parametrize(("crop", "tolerance"), [("paper", 0.5), ("legacy", 1.2)])
def test_nominal_eyes_land_on_the_template(size: int, crop: str, tolerance: float) -> None:
    rows, columns = crop_matrices(crop, size)  # type: ignore[arg-type]
    position = (torch.arange(size) + 0.5) * 1024 / size  # edge coordinates of each pixel in the 1024 px frame
    seen_rows, seen_columns = rows @ position, columns @ position
    target = torch.arange(112) + 0.5
    for seen, nominal, wanted in (
        (seen_rows, 480, 51.6),
        (seen_columns, 380, 38.2946),
        (seen_columns, 650, 73.5318),
    ):
        nearest = int((seen - nominal).abs().argmin())
        slope = (seen[nearest + 1] - seen[nearest - 1]) / 2
        landed = target[nearest] + (nominal - seen[nearest]) / slope
        assert abs(float(landed) - wanted) < tolerance


def test_fitted_is_a_closer_zoom_inside_the_paper_crop() -> None:
    paper, fitted = (crop_window(*crop_matrices(name, 1024)) for name in ("paper", "fitted"))  # type: ignore[arg-type]
    assert paper.top < fitted.top
    assert paper.left < fitted.left
    assert fitted.bottom < paper.bottom
    assert fitted.right < paper.right
    assert 780 < fitted.bottom - fitted.top < 805
    assert 850 < paper.bottom - paper.top < 880


@pytest.mark.parametrize(("size", "top", "left", "side"), [(256, 21, 22, 213), (1024, 84, 86, 858)])
def test_legacy_is_the_released_integer_box(size: int, top: int, left: int, side: int) -> None:
    frame = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    rows, columns = crop_matrices("legacy", size)
    box = frame[:, :, top : top + side, left : left + side]
    wanted = F.interpolate(box, (112, 112), mode="bilinear", align_corners=False, antialias=False)
    torch.testing.assert_close(rows @ frame @ columns.T, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [1024, 128])
def test_antialiased_matrices_equal_torch_where_the_box_is_complete(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, side = size // 8, size * 7 // 8 - size // 8
    scale = 112 / side * size / 1024
    similarity = (scale, -start * 112 / side, -start * 112 / side)
    monkeypatch.setitem(crop_matrices.__globals__["_SIMILARITIES"], "paper", similarity)
    rows, columns = crop_matrices("paper", size)
    frame = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0))
    box = frame[:, :, start : start + side, start : start + side]
    wanted = F.interpolate(box, (112, 112), mode="bilinear", align_corners=False, antialias=True)
    margin = slice(2, -2)  # torch stops its filter at the box's edge, ours reads beyond it
    got = rows @ frame @ columns.T
    torch.testing.assert_close(got[..., margin, margin], wanted[..., margin, margin], atol=1e-4, rtol=0)


@pytest.mark.parametrize("crop", ["paper", "fitted", "legacy"])
def test_a_flat_frame_stays_flat(crop: str) -> None:
    rows, columns = crop_matrices(crop, 256)  # type: ignore[arg-type]
    torch.testing.assert_close(rows @ torch.full((256, 256), 0.3) @ columns.T, torch.full((112, 112), 0.3))


def test_an_unknown_crop_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        crop_matrices("tight", 256)  # type: ignore[arg-type]
    assert (
        str(caught.value) == "generator.network.crop: unknown crop 'tight'; try one of paper, fitted, legacy"
    )
