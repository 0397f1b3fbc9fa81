"""Decoding and suppression against slow loops; the detector itself on the developers' faces."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facedistill.assets import cached_path, obtain, read_card
from facedistill.errors import AssetError
from facedistill.models.detectors.scrfd import Faces, Scrfd, _decode, nms
from facedistill.models.detectors.similarity import ARCFACE_TEMPLATE, fit_similarity
from tests.shared_faces import lfw_faces

NUM_FACES = 24


def slow_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area_a + area_b - width * height)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
def test_nms_equals_the_slow_loop(seed: int, threshold: float) -> None:
    random = np.random.default_rng(seed)
    corner, sides = random.uniform(0, 60, (60, 2)), random.uniform(5, 40, (60, 2))
    boxes, scores = np.hstack([corner, corner + sides]), random.permutation(60) / 60
    kept: list[int] = []
    for index in sorted(range(60), key=lambda i: -scores[i]):
        if all(slow_iou(boxes[index], boxes[other]) <= threshold for other in kept):
            kept.append(index)
    assert nms(boxes, scores, threshold).tolist() == kept


def test_nms_of_nothing_and_of_empty_boxes() -> None:
    assert nms(np.zeros((0, 4)), np.zeros(0), 0.4).tolist() == []
    assert nms(np.zeros((2, 4)), np.array([0.1, 0.2]), 0.4).tolist() == [1, 0]


def test_decoding_equals_the_slow_loop() -> None:
    random = np.random.default_rng(0)
    size_px, raw = 64, {}
    for stride in (8, 16, 32):
        num_anchors = 2 * (size_px // stride) ** 2
        raw[f"score_{stride}"] = random.uniform(size=(1, num_anchors, 1))
        raw[f"bbox_{stride}"] = random.uniform(0, 4, size=(1, num_anchors, 4))
        raw[f"kps_{stride}"] = random.normal(size=(1, num_anchors, 10))
    boxes, scores, landmarks = _decode(raw, size_px, 0.9)
    row = 0
    for stride in (8, 16, 32):
        anchor = 0
        for y in range(0, size_px, stride):
            for x in range(0, size_px, stride):
                for _ in range(2):
                    score = raw[f"score_{stride}"][0, anchor, 0]
                    left, top, right, bottom = raw[f"bbox_{stride}"][0, anchor] * stride
                    points = raw[f"kps_{stride}"][0, anchor] * stride
                    anchor += 1
                    if score < 0.9:
                        continue
                    assert scores[row] == score
                    np.testing.assert_allclose(boxes[row], [x - left, y - top, x + right, y + bottom])
                    np.testing.assert_allclose(landmarks[row, :, 0], x + points[0::2])
                    np.testing.assert_allclose(landmarks[row, :, 1], y + points[1::2])
                    row += 1
    assert row == len(scores) > 5


def test_the_main_face_is_large_and_central() -> None:
    boxes = np.array([[0, 0, 50, 50], [70, 70, 130, 130], [150, 0, 200, 50]], dtype=float)
    faces = Faces(boxes, np.array([0.99, 0.6, 0.98]), np.zeros((3, 5, 2)))
    assert faces.main(200, 200) == 1
    assert Faces(boxes[[0, 2]], np.ones(2), np.zeros((2, 5, 2))).main(100, 50) == 0
    with pytest.raises(ValueError, match="no face to choose from"):
        Faces(boxes[:0], np.zeros(0), np.zeros((0, 5, 2))).main(10, 10)


def test_a_file_that_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(AssetError) as caught:
        Scrfd(tmp_path / "x.onnx")
    assert str(caught.value).startswith(f"detector {tmp_path}/x.onnx: onnxruntime cannot load it (")


@pytest.fixture(scope="module")
def detector() -> Scrfd:
    if not cached_path(read_card("scrfd_500m")).is_file():
        pytest.skip("the detector is not in the cache; run `facedistill assets fetch scrfd_500m`")
    return Scrfd(obtain("scrfd_500m", quiet=True))


@pytest.fixture(scope="module")
def crops() -> list[Image.Image]:
    """A few of the developers' aligned LFW faces, spread over the archive."""
    return list(itertools.islice(lfw_faces("_0001.jpg"), NUM_FACES))


@pytest.mark.assets
def test_an_empty_picture_has_no_face(detector: Scrfd) -> None:
    assert len(detector.find(Image.new("RGB", (300, 200), (90, 120, 60)))) == 0


def test_the_frame_of_a_long_strip_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []

    def detect(self: Scrfd, image: Image.Image, size_px: int) -> Faces:
        sizes.append(image.size)
        return Faces(np.full((1, 4), 1379.5), np.ones(1), np.full((1, 5, 2), 1279.5))

    monkeypatch.setattr(Scrfd, "detect", detect)
    faces = Scrfd.__new__(Scrfd)._framed(Image.new("L", (25_600, 100)))
    assert sizes == [(5120, 2570)]
    assert faces.boxes.tolist() == [[999.5] * 4]  # 99.5 px of 2560
    assert faces.landmarks[0, 0].tolist() == [-0.5, -0.5]


@pytest.mark.assets
@pytest.mark.shared
@pytest.mark.parametrize("enlarged", [1, 3])
def test_landmarks_of_aligned_faces_lie_on_the_template(
    detector: Scrfd, crops: list[Image.Image], enlarged: int
) -> None:
    """A crop within a black frame, also enlarged: faces differ in shape, their mean and their pose do not."""
    pad = 56 * enlarged
    found, displaced = [], []
    for crop in crops:
        photograph = Image.new("RGB", (224 * enlarged, 224 * enlarged))
        photograph.paste(crop.resize((112 * enlarged, 112 * enlarged), Image.Resampling.BILINEAR), (pad, pad))
        faces = detector.find(photograph)
        landmarks = faces.landmarks[faces.main(*photograph.size)]
        landmarks = (landmarks - pad + 0.5) / enlarged - 0.5
        matrix = fit_similarity(landmarks, ARCFACE_TEMPLATE)
        again = ARCFACE_TEMPLATE @ matrix[:, :2].T + matrix[:, 2]
        found.append(landmarks)
        displaced.append(np.linalg.norm(again - ARCFACE_TEMPLATE, axis=1).mean())
    assert len(found) == NUM_FACES
    assert np.linalg.norm(np.mean(found, axis=0) - ARCFACE_TEMPLATE, axis=1).mean() < 3.0
    assert np.mean(displaced) < 2.0


@pytest.mark.assets
@pytest.mark.shared
def test_a_mirrored_photograph_has_mirrored_landmarks(detector: Scrfd, crops: list[Image.Image]) -> None:
    """The network itself sits 0.7 px to the right (measured), so 1.5 px remain; a wrong stride would show."""
    differences = []
    for crop in crops[:12]:
        photograph = Image.new("RGB", (320, 320))
        photograph.paste(crop, (104, 104))
        mirrored = photograph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        one, other = (
            found.landmarks[found.main(320, 320)] for found in map(detector.find, (photograph, mirrored))
        )
        back = other[[1, 0, 2, 4, 3]] * np.array([-1, 1]) + np.array([319, 0])
        differences.append(one - back)
    assert np.abs(np.mean(differences, axis=(0, 1))).max() < 2.0
