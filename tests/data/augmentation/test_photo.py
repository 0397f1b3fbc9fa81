"""The photograph augmentation: a function of (seed, step, sample), and each effect does what it says."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from facedistill.data.augment import Augment
from facedistill.data.augmentation import PhotoAugment, effects, values
from facedistill.data.augmentation.columns import Columns
from facedistill.data.augmentation.geometry import black_frame, homography, warp
from facedistill.errors import ConfigError
from facedistill.images import to_uint8
from facedistill.models.teachers.golden import draw_faces
from tests.golden.make_augmentation import EFFECTS, FILE, pixels
from tests.helpers.no_waits import NothingWaits

HALF: dict[str, Any] = {
    "scale": 0.04, "rotation_deg": 3.0, "shift": 0.015, "shear": 0.03, "perspective": 0.06, "squeeze": 1.3,
    "squeeze_probability": 0.4, "gamma": 0.125, "contrast": 0.125, "brightness": 0.1, "color": 0.03, "side_light": 0.25,
    "gray": 0.1, "occlusion": 0.15, "side_occlusion": 0.05, "blur": 0.1, "low_resolution": 0.2, "noise": 0.15,
    "jpeg": 0.2, "frame": 0.5,
}  # fmt: skip

PROBABILITIES = (
    "squeeze_probability", "side_light", "gray", "occlusion", "side_occlusion", "blur", "low_resolution", "noise", "jpeg",
    "frame",
)  # fmt: skip


@pytest.fixture(scope="module")
def faces() -> Tensor:
    """(8, 3, 112, 112) drawn faces in [-1, 1]."""
    return draw_faces(8)


def test_an_image_depends_on_seed_step_and_sample_only(faces: Tensor) -> None:
    likely = {key: max(value, 0.6) if key in PROBABILITIES else value for key, value in HALF.items()}
    augment = PhotoAugment(**likely)
    samples = torch.arange(8)
    whole = augment(faces, seed=1, step=3, samples=samples)
    for order in (torch.tensor([5, 0, 7, 2, 1, 6, 3, 4]), samples[1::2], samples[4:5]):
        some = augment(faces[order], seed=1, step=3, samples=samples[order])
        torch.testing.assert_close(some, whole[order], atol=2e-6, rtol=0)
    for seed, step in ((2, 3), (1, 4)):
        assert not torch.allclose(augment(faces, seed=seed, step=step, samples=samples), whole)
    assert whole.shape == faces.shape
    assert float(whole.abs().max()) <= 1


@pytest.mark.parametrize("effect", [*EFFECTS, "light"])
def test_golden_images(effect: str) -> None:
    expected = np.load(FILE)[effect].astype(int)
    away = np.abs(pixels(effect).astype(int) - expected)
    assert (
        away <= 2
    ).mean() > 0.99  # another CPU may round a coefficient of a JPEG block or an edge differently


def test_the_host_reads_nothing_from_the_device(faces: Tensor) -> None:
    """The meta device has no values: whatever would read one raises."""
    device, samples = torch.device("meta"), torch.arange(16)
    for augment in (PhotoAugment(**HALF), PhotoAugment(flip=0.5), Augment(scale=0.1, gray=0.5)):
        images = torch.empty(16, 3, 112, 112, device=device)
        augment(images, seed=1, step=0, samples=samples)  # copies constants, once
        with NothingWaits():
            assert augment(images, seed=1, step=0, samples=samples).shape == images.shape


def test_the_input_is_left_alone_and_no_effect_changes_nothing(faces: Tensor) -> None:
    before = faces.clone()
    assert torch.equal(PhotoAugment(flip=0)(faces, seed=1, step=0, samples=torch.arange(8)), before)
    for name in ("side_light", "gray", "occlusion", "blur", "noise", "jpeg", "frame"):
        changed = PhotoAugment(flip=0, **{name: 1.0})(faces, seed=1, step=0, samples=torch.arange(8))
        assert not torch.allclose(changed, before), name
        assert torch.equal(faces, before), name


def test_turning_one_effect_off_leaves_the_draws_of_the_others(faces: Tensor) -> None:
    draw: dict[str, Any] = {"seed": 5, "step": 0, "samples": torch.arange(8)}
    framed = PhotoAugment(flip=0, frame=1.0)(faces, **draw)
    both = PhotoAugment(flip=0, frame=1.0, gray=1.0)(faces, **draw)
    assert torch.equal(framed == -1, both == -1)
    lit = PhotoAugment(flip=0, frame=1.0, side_light=1.0, side_light_strength=1.0)
    assert (lit(torch.ones_like(faces), **draw)[framed == -1] == -1).all()  # however bright it was


def test_mirror_images_are_named_for_cached_embeddings(faces: Tensor) -> None:
    augment = PhotoAugment(flip=0.5)
    assert augment.only_mirrors
    assert not PhotoAugment(jpeg=0.1).only_mirrors
    draw: dict[str, Any] = {"seed": 1, "step": 2, "samples": torch.arange(8)}
    mirrored = augment.mirrored(**draw)
    assert 0 < int(mirrored.sum()) < 8
    expected = torch.where(mirrored.view(-1, 1, 1, 1), faces.flip(-1), faces)
    assert torch.equal(augment(faces, **draw), expected)


def _map(**changes: Tensor) -> list[Tensor]:
    zero = torch.zeros(1)
    neutral = {
        "mirror": torch.zeros(1, dtype=torch.bool), "scale": zero + 1, "angle": zero, "shift": torch.zeros(1, 2),
        "shear": zero, "perspective": torch.zeros(1, 2), "squeeze": zero + 1,
    }  # fmt: skip
    return values.warp(homography(**{**neutral, **changes}))


def test_the_neutral_homography_is_the_identity_and_its_parts_are_what_they_say(faces: Tensor) -> None:
    one = faces[:1]
    torch.testing.assert_close(warp(one, *_map()), one, atol=1e-4, rtol=0)
    mirrored = warp(one, *_map(mirror=torch.ones(1, dtype=torch.bool)))
    torch.testing.assert_close(mirrored, one.flip(-1), atol=1e-4, rtol=0)
    turned = warp(one, *_map(angle=torch.tensor([math.pi / 2])))
    torch.testing.assert_close(turned, one.rot90(1, (-2, -1)), atol=1e-4, rtol=0)
    shifted = warp(one, *_map(shift=torch.tensor([[8 / 112, 0.0]])))
    torch.testing.assert_close(shifted[..., :-8], one[..., 8:], atol=1e-4, rtol=0)
    dots = torch.zeros(1, 1, 112, 112)
    dots[..., 56, 86] = 1.0  # 30 pixels to the right of the center
    narrow = warp(dots, *_map(squeeze=torch.tensor([1.5])))
    assert abs(int(narrow[0, 0].amax(0).argmax()) - 76) <= 1


def test_a_frame_blackens_what_the_photograph_does_not_show(faces: Tensor) -> None:
    cuts = torch.tensor([[0.25, 0.0, 0.0, 0.125]])
    framed = (faces[:1] + black_frame(faces, *values.black_frame(torch.zeros(1), cuts))).clamp(-1, 1)
    assert (framed[..., :28, :] == -1).all()
    assert (framed[..., -14:] == -1).all()
    assert torch.equal(framed[..., 28:, :-14], faces[:1, :, 28:, :-14])
    turned = black_frame(faces, *values.black_frame(torch.tensor([0.3]), torch.zeros(1, 4)))
    corners = turned[..., [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners < -3).all()


@pytest.mark.parametrize("quality", [10, 40, 70])
def test_jpeg_is_close_to_what_a_jpeg_file_keeps(faces: Tensor, quality: int) -> None:
    ours = to_uint8(effects.jpeg(faces, *values.jpeg(torch.full((8,), float(quality))))).float()
    theirs, plain = [], to_uint8(faces)
    for face in plain.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(face).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        theirs.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    expected = torch.stack(theirs).float()
    lost = (expected - plain.float()).square().mean()
    assert (ours - expected).square().mean() < 0.5 * lost  # the rest is libjpeg's smoother chroma


def test_softening_is_the_identity_at_full_resolution_and_loses_detail_below(faces: Tensor) -> None:
    coarse = [
        effects.low_resolution(faces, *values.low_resolution(torch.full((8,), pixels)))
        for pixels in (112, 60, 20)
    ]
    torch.testing.assert_close(coarse[0], faces, atol=1e-4, rtol=0)
    torch.testing.assert_close(effects.blur(faces, *values.blur(torch.zeros(8))), faces, atol=1e-4, rtol=0)
    details = [images.diff(dim=-1).abs().mean() for images in coarse]
    assert details[0] > details[1] > details[2]
    blurred = effects.blur(faces, *values.blur(torch.full((8,), 1.5)))
    place = torch.arange(-8, 9).float()
    kernel = (-place.square() / (2 * 1.5**2)).exp()
    kernel /= kernel.sum()
    expected = torch.nn.functional.conv2d(faces[:, :1], (kernel[:, None] * kernel).expand(1, 1, 17, 17))
    torch.testing.assert_close(blurred[:, :1, 8:-8, 8:-8], expected, atol=1e-4, rtol=0)


def test_noise_has_its_strength_and_differs_between_images() -> None:
    noisy = effects.sensor_noise(
        torch.zeros(4, 3, 112, 112),
        *values.sensor_noise(torch.tensor([0.05, 0.1, 0.1, 0.0]), torch.rand(4, 2), (112, 112)),
    )
    torch.testing.assert_close(noisy.std((1, 2, 3)), torch.tensor([0.05, 0.1, 0.1, 0.0]), atol=2e-3, rtol=0)
    assert not torch.allclose(noisy[1], noisy[2])


def test_the_largest_draw_is_a_finite_normal_number() -> None:
    normals = Columns(torch.tensor([[0.0, 0.5, 1 - 2.0**-24]])).normals(3)[0]
    assert normals.isfinite().all()
    torch.testing.assert_close(normals[[0, 2]], torch.tensor([-5.42, 5.29]), atol=0.02, rtol=0)


def test_probabilities_are_frequencies() -> None:
    white = torch.ones(400, 3, 16, 16)
    framed = PhotoAugment(flip=0, frame=0.3)(white, seed=1, step=0, samples=torch.arange(400))
    share = float((framed != 1).flatten(1).any(1).float().mean())
    assert abs(share - 0.3) < 0.07


@pytest.mark.parametrize(("key", "value", "message"), [
    ("jpeg", 1.5, "augment.jpeg=1.5: must be a probability in [0, 1]"),
    ("blur_sigma", [2.0, 1.0], "augment.blur_sigma=[2.0, 1.0]: must be two rising numbers within [0, inf]"),
    ("low_resolution_px", [0, 50], "augment.low_resolution_px=[0, 50]: must be two rising numbers within [1, 112]"),
    ("side_light_strength", 5, "augment.side_light_strength=5: must be in [0, 1]"),
    ("frame_cuts", [35, 8, 20], "augment.frame_cuts=[35, 8, 20]: top and bottom together, and both sides, must be below 1"),
])  # fmt: skip
def test_mistakes_are_sentences(key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        PhotoAugment(**{key: value})
    assert str(refused.value) == message


def test_blocks_of_a_large_batch_change_each_image_as_alone() -> None:
    faces, samples = torch.rand(133, 3, 32, 32) * 2 - 1, torch.arange(133)
    augment = PhotoAugment(scale=0.1, noise=0.5, frame=0.5)
    together = augment(faces, seed=1, step=0, samples=samples)
    for row in (0, 63, 64, 132):
        alone = augment(faces[row : row + 1], seed=1, step=0, samples=samples[row : row + 1])
        torch.testing.assert_close(alone[0], together[row], atol=2e-6, rtol=0)
