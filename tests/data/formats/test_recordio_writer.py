"""What our writer makes of images and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facedistill.data.formats.recordio.reader import RecordIOFaces, write_recordio
from facedistill.errors import DataError
from tests.data.formats.recordio_bytes import IMAGES, LABELS, MAGIC, insightface_records, write


def test_written_bytes_are_insightfaces(tmp_path: Path) -> None:
    prefix = tmp_path / "set" / "train"
    assert write_recordio(prefix, zip(IMAGES, LABELS, strict=True)) == 6
    expected = write(tmp_path / "expected", insightface_records())
    assert (tmp_path / "set/train.rec").read_bytes() == expected.read_bytes()
    assert (tmp_path / "set/train.idx").read_text() == expected.with_suffix(".idx").read_text()
    assert (tmp_path / "set/property").read_text() == "3,112,112\n"
    assert (tmp_path / "set/train.lst").read_text().splitlines()[2] == "1\t3\t7"
    assert len(list((tmp_path / "set").iterdir())) == 4


def test_round_trip_of_awkward_images(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    images = [MAGIC, MAGIC * 3, b"a" + MAGIC, b"abcd" + MAGIC, b"\0", b"\0" * 5]
    for _ in range(200):
        pieces = [MAGIC if draw.random() < 0.4 else draw.bytes(int(draw.integers(1, 9))) for _ in range(5)]
        images.append(b"".join(pieces))
    labels = draw.integers(0, 9, len(images)).tolist()
    write_recordio(tmp_path / "train", zip(images, labels, strict=True))
    for _ in range(2):
        faces = RecordIOFaces(tmp_path)
        assert [faces.encoded(index) for index in range(len(faces))] == images
        assert faces.labels is not None
        assert [int(faces.identities[label]) for label in faces.labels] == labels
        (tmp_path / "train.idx").unlink(missing_ok=True)


def test_nothing_half_written(tmp_path: Path) -> None:
    def broken() -> object:
        yield b"x", 0
        raise RuntimeError("the source failed")

    with pytest.raises(RuntimeError):
        write_recordio(tmp_path / "train", broken())  # type: ignore[arg-type]
    for items, message in [
        ([], f"{tmp_path}/train.rec: there are no images to write; give a set with images"),
        ([(b"x", -1)], "image 1 has label -1, and labels are whole numbers from 0 on; number them"),
        ([(b"x", 0), (b"", 0)], "image 2 has zero bytes; replace or remove it"),
    ]:
        with pytest.raises(DataError) as caught:
            write_recordio(tmp_path / "train", items)
        assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []
    write_recordio(tmp_path / "train", [(b"x", 0)])
    with pytest.raises(DataError) as caught:
        write_recordio(tmp_path / "train", [(b"y", 0)])
    assert (
        str(caught.value) == f"{tmp_path}/train.rec: is there already; delete it or write into another folder"
    )
