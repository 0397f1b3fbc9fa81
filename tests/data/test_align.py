"""`facedistill align` with an invented detector: folders, names, failures, interruptions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facedistill.data import align
from facedistill.data.align import main, plan
from facedistill.errors import DataError
from facedistill.models.detectors import ARCFACE_TEMPLATE, Faces

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
    monkeypatch.setattr(align, "Scrfd", OneFace)
    monkeypatch.setattr(align, "obtain", lambda name, quiet: Path(name))


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
    assert said == f"3 of 6 photographs aligned into {dst}\n"
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

    monkeypatch.setattr(align.os, "replace", stop)
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
        "align: {at}/photos and {at}/photos/dst lie inside one another; write to a folder beside {at}/photos",
    ),
    (
        lambda at: (at / "photos", at),
        "align: {at}/photos and {at} lie inside one another; write to a folder beside {at}/photos",
    ),
    (
        lambda at: (at / "empty", at / "dst"),
        "align: {at}/empty holds no photograph (.bmp, .jpeg, .jpg, .png, .tif, .tiff, .webp)",
    ),
]


@pytest.mark.parametrize(("folders", "sentence"), MISTAKES)
def test_mistakes_are_sentences(
    src: Path,
    tmp_path: Path,
    capsys: Capture,
    folders: Callable[[Path], tuple[Path, Path]],
    sentence: str,
) -> None:
    (tmp_path / "empty").mkdir()
    assert main([str(path) for path in folders(tmp_path)]) == 2
    assert capsys.readouterr().err == sentence.format(at=tmp_path) + "\n"


def test_two_photographs_of_one_name_are_refused(src: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(src / "Bo" / "Bo_0001.jpg")
    with pytest.raises(DataError) as caught:
        plan(src, tmp_path / "dst")
    assert str(caught.value) == (
        f"align: {src}/Bo/Bo_0001.jpg and {src}/Bo/Bo_0001.webp would both become "
        f"{tmp_path}/dst/Bo/Bo_0001.jpg; rename one"
    )


def test_a_destination_that_cannot_be_written(src: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "dst").write_text("a file")
    assert main([str(src), str(tmp_path / "dst"), "--quiet"]) == 2
    assert capsys.readouterr().err == (
        f"align: cannot write {tmp_path}/dst/Ann/Ann_0001.jpg (Not a directory); free or change DST\n"
    )
