"""The five-point similarity against least squares, and the warp against laws of resampling."""

import numpy as np
import pytest
from PIL import Image
from scipy.optimize import least_squares

from facedistill.models.detectors.similarity import ARCFACE_TEMPLATE, align_face, fit_similarity, warp


def similarity(scale: float, angle_rad: float, shift: tuple[float, float]) -> np.ndarray:
    cosine, sine = scale * np.cos(angle_rad), scale * np.sin(angle_rad)
    return np.array([[cosine, -sine, shift[0]], [sine, cosine, shift[1]]])


def move(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_least_squares_similarity(seed: int) -> None:
    """A similarity is linear in (a, b, tx, ty); a numerical optimizer over them is the oracle."""
    random = np.random.default_rng(seed)
    source = random.normal(size=(5, 2)) * 40 + 100
    target = ARCFACE_TEMPLATE + random.normal(size=(5, 2)) * 4

    def matrix(q: np.ndarray) -> np.ndarray:
        return np.array([[q[0], -q[1], q[2]], [q[1], q[0], q[3]]])

    best = least_squares(lambda q: (move(matrix(q), source) - target).ravel(), np.zeros(4), xtol=1e-14)
    np.testing.assert_allclose(fit_similarity(source, target), matrix(best.x), rtol=1e-5, atol=1e-6)


def test_it_recovers_a_planted_similarity() -> None:
    planted = similarity(0.37, 0.8, (-20.0, 31.0))
    source = np.random.default_rng(0).normal(size=(5, 2)) * 50
    np.testing.assert_allclose(fit_similarity(source, move(planted, source)), planted, atol=1e-10)


def test_it_never_mirrors() -> None:
    mirrored = ARCFACE_TEMPLATE * np.array([-1.0, 1.0])
    assert np.linalg.det(fit_similarity(mirrored, ARCFACE_TEMPLATE)[:, :2]) > 0


def test_coinciding_points_are_refused() -> None:
    with pytest.raises(ValueError, match="the source points coincide; no similarity is defined"):
        fit_similarity(np.ones((5, 2)), ARCFACE_TEMPLATE)


def gradient_image(width: int, height: int) -> Image.Image:
    """Red holds the column's number, green the row's: a picture of the coordinates themselves."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([columns, rows, np.zeros_like(rows)], -1).astype(np.uint8))


def test_the_identity_changes_nothing() -> None:
    image = gradient_image(112, 112)
    np.testing.assert_array_equal(np.asarray(warp(image, similarity(1, 0, (0, 0)))), np.asarray(image))


def test_a_integer_shift_is_exact_and_black_outside() -> None:
    moved = np.asarray(warp(gradient_image(112, 112), similarity(1, 0, (10, 5))))
    np.testing.assert_array_equal(moved[5:, 10:], np.asarray(gradient_image(112, 112))[:-5, :-10])
    assert moved[:5].max() == 0
    assert moved[:, :10].max() == 0


@pytest.mark.parametrize("scale", [0.5, 0.73, 1.0, 1.6])
@pytest.mark.parametrize("angle_rad", [0.0, 0.3, -0.5])
def test_pixels_land_where_the_matrix_says(scale: float, angle_rad: float) -> None:
    """Reading the coordinates painted into the source gives the inverse matrix back, to rounding."""
    center = np.array([127.5, 127.5])
    matrix = similarity(scale, angle_rad, (0, 0))
    matrix[:, 2] = np.array([55.5, 55.5]) - matrix[:, :2] @ center
    seen = np.asarray(warp(gradient_image(256, 256), matrix)).astype(float)[40:72, 40:72, :2]
    rows, columns = np.mgrid[40:72, 40:72]
    wanted = (np.stack([columns, rows], -1) - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    assert np.abs(seen - wanted).mean() < 0.6  # 8-bit pixels, floored on the way
    assert np.abs((seen - wanted).mean((0, 1))).max() < 0.55


def test_shrinking_does_not_alias() -> None:
    """A one-pixel checkerboard shrunk eightfold is gray; plain bilinear sampling would give stripes."""
    board = np.indices((896, 896)).sum(0) % 2 * 255
    image = Image.fromarray(np.repeat(board[..., None], 3, -1).astype(np.uint8))
    shrunk = np.asarray(warp(image, similarity(1 / 8, 0.05, (6, 2))))[20:90, 20:90]
    assert shrunk.min() > 110
    assert shrunk.max() < 145


def test_landmarks_land_on_the_template() -> None:
    """Five dots painted at the landmarks of a tilted face appear at the template's places."""
    planted = similarity(3.0, 0.4, (200.0, 90.0))
    landmarks = move(planted, ARCFACE_TEMPLATE)
    canvas = np.zeros((600, 600, 3), dtype=np.uint8)
    rows, columns = np.mgrid[:600, :600]
    for x, y in landmarks:
        canvas[(columns - x) ** 2 + (rows - y) ** 2 < 81] = 255
    aligned = np.asarray(align_face(Image.fromarray(canvas), landmarks))[..., 0].astype(float)
    rows, columns = np.mgrid[:112, :112]
    for x, y in ARCFACE_TEMPLATE:
        near = aligned * ((columns - x) ** 2 + (rows - y) ** 2 < 64)
        assert near.sum() > 0
        assert abs((near * columns).sum() / near.sum() - x) < 0.2
        assert abs((near * rows).sum() / near.sum() - y) < 0.2
