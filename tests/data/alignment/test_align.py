"""`facedistill data align` with an invented detector: folders, names, failures, interruptions."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facedistill.cli.align import main
from facedistill.data.alignment import align
from facedistill.data.alignment.align import plan
from facedistill.data.alignment.choose_face import Rule, choose_face
from facedistill.data.alignment.photograph import read_photograph, upright
from facedistill.errors import DataError, UserError
from facedistill.models.detectors.scrfd import Faces
from facedistill.models.detectors.similarity import ARCFACE_TEMPLATE

Capture = pytest.CaptureFixture[str]


class OneFace:
    """Sees the template, doubled, in every photograph that is not black."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.seen = 0

    def find(self, image: Image.Image) -> Faces:
        self.seen += 1
        many = int(np.asarray(image).max() > 0)
        boxes = np.array([[0.0, 0.0, 224.0, 224.0]])[:many]
        return Faces(boxes, np.ones(many), np.stack([2 * ARCFACE_TEMPLATE + 0.5])[:many])


@pytest.fixture(autouse=True)
def invented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedistill.models.detectors.scrfd.Scrfd", OneFace)
    monkeypatch.setattr("facedistill.assets.obtain", lambda name, quiet: Path(name))


@pytest.fixture
def src(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    random = np.random.default_rng(0)
    for name in ("Ann/Ann_0001.jpg", "Ann/Ann_0002.png", "Bo/Bo_0001.webp"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(90, 160, (224, 224, 3), dtype=np.uint8)).save(path)
    (folder / "pairs.txt").write_text("10 300")
    return folder


def faces(dst: Path) -> list[str]:
    return sorted(str(path.relative_to(dst)) for path in dst.rglob("*") if path.is_file())


def test_the_same_relative_paths_at_112(src: Path, tmp_path: Path, capsys: Capture) -> None:
    dst = tmp_path / "faces"
    assert main([str(src), str(dst)]) == 0
    assert faces(dst) == ["Ann/Ann_0001.jpg", "Ann/Ann_0002.png", "Bo/Bo_0001.jpg"]
    for name in faces(dst):
        assert Image.open(dst / name).size == (112, 112)
    assert capsys.readouterr().out == f"3 of 3 photographs aligned into {dst}\n"
    photograph = Image.open(src / "Ann/Ann_0002.png")
    halved = np.asarray(photograph.resize((112, 112), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(np.asarray(Image.open(dst / "Ann/Ann_0002.png")) - halved).max() <= 1


def test_failures_are_listed_and_the_rest_is_done(src: Path, tmp_path: Path, capsys: Capture) -> None:
    Image.new("RGB", (50, 50)).save(src / "black.png")
    (src / "cut.jpg").write_bytes((src / "Ann/Ann_0001.jpg").read_bytes()[:900])
    (src / "text.png").write_text("not an image")
    dst = tmp_path / "faces"
    assert main([str(src), str(dst), "--quiet"]) == 1
    said, failed = capsys.readouterr()
    assert said == f"3 of 6 photographs aligned into {dst}; not a readable image: 2; no face found: 1\n"
    assert failed == (
        "  black.png: no face found\n  cut.jpg: not a readable image\n  text.png: not a readable image\n"
    )
    assert len(faces(dst)) == 3


def test_a_second_run_only_does_what_is_missing(src: Path, tmp_path: Path) -> None:
    dst, detector = tmp_path / "faces", OneFace()
    planned = plan(src, dst)
    align.align_folder(detector, src, planned, quiet=True)  # type: ignore[arg-type]
    (dst / "Ann/Ann_0001.jpg").unlink()
    align.align_folder(detector, src, planned, quiet=True)  # type: ignore[arg-type]
    assert detector.seen == 4
    align.align_folder(detector, src, planned, again=True, quiet=True)  # type: ignore[arg-type]
    assert detector.seen == 7


def test_an_interruption_leaves_no_half_face(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        main([str(src), str(tmp_path / "faces"), "--quiet"])
    assert faces(tmp_path / "faces") == []


def test_a_turned_photograph_is_turned_back(tmp_path: Path) -> None:
    upright = Image.fromarray(np.linspace(60, 200, 224 * 224 * 3).reshape(224, 224, 3).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn to the right
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    one, other = (
        align.align_photograph(OneFace(), tmp_path / name) for name in ("turned.png", "upright.png")
    )  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_odd_exif_keeps_no_photograph_from_being_turned(tmp_path: Path) -> None:
    orientation, width = struct.pack("<HHI2H", 0x112, 3, 1, 6, 0), struct.pack("<HHI4s", 0x100, 2, 4, b"wide")
    tags = b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + width + orientation + bytes(4)
    Image.new("RGB", (20, 10), "red").save(tmp_path / "odd.jpg", exif=b"Exif\0\0" + tags)
    turned = read_photograph(tmp_path / "odd.jpg")
    assert isinstance(turned, Image.Image)
    assert turned.size == (10, 20)
    assert upright(turned).size == (10, 20)  # once is enough


def test_too_many_pixels(src: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    assert align.align_photograph(OneFace(), src / "Ann/Ann_0001.jpg") == "too many pixels"  # type: ignore[arg-type]


def test_a_long_list_of_failures_is_cut(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "src").mkdir()
    for index in range(25):
        (tmp_path / "src" / f"{index:02}.png").write_text("no")
    assert main([str(tmp_path / "src"), str(tmp_path / "dst"), "--quiet"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "  and 5 more"


MISTAKES: list[tuple[Callable[[Path], tuple[Path, Path]], str]] = [
    (
        lambda at: (at / "gone", at / "dst"),
        "align: {at}/gone is not a folder; name the folder that holds the photographs",
    ),
    (
        lambda at: (at / "photos", at / "photos" / "dst"),
        "align: {at}/photos and {at}/photos/dst lie inside one another; write to a folder next to {at}/photos",
    ),
    (
        lambda at: (at / "photos", at),
        "align: {at}/photos and {at} lie inside one another; write to a folder next to {at}/photos",
    ),
    (
        lambda at: (at / "empty", at / "dst"),
        "align: {at}/empty holds no photograph (.avif, .bmp, .gif, .heic, .heif, .jfif, .jp2, .jpe, .jpeg, .jpg, .png, .tif, .tiff, .webp)",
    ),
]


@pytest.mark.parametrize(("folders", "sentence"), MISTAKES)
def test_mistakes_are_sentences(
    src: Path,
    tmp_path: Path,
    folders: Callable[[Path], tuple[Path, Path]],
    sentence: str,
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as caught:
        main([str(path) for path in folders(tmp_path)])
    assert str(caught.value) == sentence.format(at=tmp_path)


def test_two_photographs_of_one_name_are_refused(src: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(src / "Bo" / "Bo_0001.jpg")
    with pytest.raises(DataError) as caught:
        plan(src, tmp_path / "dst")
    assert str(caught.value) == (
        f"align: {src}/Bo/Bo_0001.jpg and {src}/Bo/Bo_0001.webp would both become "
        f"{tmp_path}/dst/Bo/Bo_0001.jpg; rename one"
    )


def test_a_destination_that_cannot_be_written(src: Path, tmp_path: Path) -> None:
    (tmp_path / "dst").write_text("a file")
    with pytest.raises(UserError) as caught:
        main([str(src), str(tmp_path / "dst"), "--quiet"])
    assert str(caught.value) == (
        f"{tmp_path}/dst/Ann/Ann_0001.jpg cannot be written (Not a directory); free space or change DST"
    )


class ThreeFaces:
    """Sees a large face at the left edge, a middling one in the middle, and a sure small one at the right."""

    boxes = np.array([[0.0, 100, 200, 300], [220, 120, 340, 300], [560, 20, 600, 70]])

    def find(self, image: Image.Image) -> Faces:
        corners = self.boxes.reshape(3, 2, 2)
        landmarks = [
            low + (ARCFACE_TEMPLATE / 112) * (high - low)
            for low, high in zip(corners[:, 0], corners[:, 1], strict=True)
        ]
        return Faces(self.boxes, np.array([0.8, 0.7, 0.9]), np.stack(landmarks))


class NoFind:
    """No detector."""


class BadShapes:
    """A detector without landmarks."""

    def find(self, image: Image.Image) -> Faces:
        return Faces(np.zeros((2, 4)), np.zeros(2), np.zeros((2, 10)))


class OnePoint:
    """A detector whose landmarks coincide, or are not numbers."""

    value = 5.0

    def find(self, image: Image.Image) -> Faces:
        return Faces(np.array([[0.0, 0, 9, 9]]), np.ones(1), np.full((1, 5, 2), self.value))


@pytest.mark.parametrize(
    ("rule", "wanted"), [("largest", 0), ("center", 1), ("surest", 2), ("main", 1), ("only", None)]
)
def test_of_several_faces_the_rule_chooses(rule: Rule, wanted: int | None) -> None:
    image, detector = Image.new("RGB", (600, 400)), ThreeFaces()
    found = choose_face(detector, image, rule)
    if wanted is None:
        assert found == "several faces"
        return
    np.testing.assert_array_equal(found, detector.find(image).landmarks[wanted])
    if rule == "main":
        assert detector.find(image).main(*image.size) == wanted


def test_small_and_strange_faces_are_rejected() -> None:
    image, point = Image.new("RGB", (600, 400)), OnePoint()
    assert choose_face(ThreeFaces(), image, "surest", min_face_px=41) == "face narrower than 41 px"
    assert isinstance(choose_face(ThreeFaces(), image, "surest", min_face_px=40), np.ndarray)
    point.value = float("nan")
    assert choose_face(point, image, "main") == "landmarks not finite"


def test_landmarks_in_one_place_and_empty_files(src: Path) -> None:
    assert align.align_photograph(OnePoint(), src / "Ann/Ann_0001.jpg") == "landmarks without extent"
    (src / "zero.jpg").touch()
    assert align.align_photograph(OneFace(), src / "zero.jpg") == "zero bytes"


def test_sixteen_bits_and_cmyk_become_rgb(tmp_path: Path) -> None:
    level = np.full((224, 224), 150 * 257, dtype=np.uint16)
    Image.fromarray(level).save(tmp_path / "deep.png")
    Image.new("CMYK", (224, 224), (0, 0, 0, 105)).save(tmp_path / "print.jpg")
    for name in ("deep.png", "print.jpg"):
        face = align.align_photograph(OneFace(), tmp_path / name)
        assert isinstance(face, Image.Image)
        assert np.abs(np.asarray(face).astype(int) - 150).max() <= 2


def test_another_detector_by_its_path(src: Path, tmp_path: Path, capsys: Capture) -> None:
    here = f"{__name__}.ThreeFaces"
    assert main([str(src), str(tmp_path / "dst"), "--detector", here, "--quiet"]) == 0
    assert len(faces(tmp_path / "dst")) == 3
    capsys.readouterr()
    for name, sentence in {
        "NoFind": "--detector {}: has no method find(image); see `facedistill data align --help`",
        "Gone": "--detector {}: there is no such class (module {!r} has no attribute 'Gone'); give a dotted path "
        "that Python can import",
        "BadShapes": "detector BadShapes: find() gave boxes, scores, landmarks of shapes (2, 4), (2,), (2, 10) "
        "instead of (M, 4), (M,), (M, 5, 2); fix the detector",
    }.items():
        words = [str(src), str(tmp_path / "other"), "--detector", f"{__name__}.{name}", "--quiet"]
        with pytest.raises(UserError) as caught:
            main(words)
        assert str(caught.value).replace(__name__, "M") == sentence.format("M." + name, "M")


def test_a_picture_of_before_and_after(src: Path, tmp_path: Path) -> None:
    words = [str(src), str(tmp_path / "dst"), "--quiet", "--picture", str(tmp_path / "look.png")]
    assert main(words) == 0
    picture = np.asarray(Image.open(tmp_path / "look.png"))
    assert picture.shape == (112, 6 * 112, 3)
    after = np.asarray(Image.open(tmp_path / "dst/Ann/Ann_0002.png"))
    np.testing.assert_array_equal(picture[:, 3 * 112 : 4 * 112], after)
