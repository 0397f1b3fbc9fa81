"""RecordIO files and indexes that are cut short, damaged or contradict each other."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from facedistill.data.formats.recordio.reader import RecordIOFaces
from tests.data.formats.recordio_bytes import (
    MAGIC,
    insightface_records,
    part,
    payload,
    plain,
    refused,
    write,
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "train.idx is damaged"),
        ("\xff\xfe\x00", "train.idx is damaged"),
        ("0\t0\n1", "train.idx is damaged"),
        ("0\t0\n0\t40\n", "train.idx is damaged"),
        ("0\t0\n1\t99999999999999999999999\n", "train.idx is damaged"),
        ("0\t0\n", "train.idx does not name each record of train.rec once"),
        ("0\t0\n1\t44\n2\t88\n", "train.idx does not name each record of train.rec once"),
        ("0\t4\n1\t40\n2\t80\n", "train.idx does not name each record of train.rec once"),
    ],
)
def test_a_wrong_idx_is_replaced_and_reported(
    tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, [(key, part(plain(key, key, b"face5678"))) for key in range(3)])
    assert (tmp_path / "train.idx").read_text() == "0\t0\n1\t40\n2\t80\n"
    (tmp_path / "train.idx").write_text(text)
    faces = RecordIOFaces(path)
    assert len(faces) == 3
    assert faces.labels is not None
    assert faces.labels.tolist() == [0, 1, 2]
    assert capsys.readouterr().err == f"{path}: {said}; found 3 records by walking the file\n"
    assert (tmp_path / "train.idx").read_text() == text


def test_an_idx_of_a_longer_file_is_refused(tmp_path: Path) -> None:
    records = [(key, part(plain(key, key, b"face5678"))) for key in range(3)]
    path = write(tmp_path, records)
    path.write_bytes(path.read_bytes()[:80])  # cut between two records: the file alone looks whole
    refused(
        path,
        f"{path}: has 80 bytes, but train.idx names a record at byte 80 (delete train.idx if it belongs to another file), "
        "with 2 whole records before it; copy it again, or list what is readable with `facedistill data verify`",
    )
    assert len(RecordIOFaces(path, truncated="drop")) == 2


@pytest.mark.parametrize("cut", [30, 47])
def test_a_cut_file_with_its_complete_idx_is_read_up_to_the_damage(tmp_path: Path, cut: int) -> None:
    """The keys are those of the idx, which need not count from 0."""
    path = write(tmp_path, insightface_records())
    complete = RecordIOFaces(path)
    images = [complete.encoded(index) for index in range(len(complete))]
    offsets = sorted(int(line.split("\t")[1]) for line in (tmp_path / "train.idx").read_text().splitlines())
    path.write_bytes(path.read_bytes()[: offsets[3] + cut])
    faces = RecordIOFaces(path, truncated="drop")
    assert 0 < len(faces) < len(images)
    assert [faces.encoded(index) for index in range(len(faces))] == images[: len(faces)]
    assert len(faces.damage) == 1


@pytest.mark.parametrize("cut", [1, 3, 8, 15, 40])
@pytest.mark.parametrize("idx", [True, False])
def test_a_cut_file(tmp_path: Path, cut: int, idx: bool, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, [(key, part(plain(key, key, b"face5678"))) for key in range(3)], idx=idx)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut] if cut < 40 else whole + MAGIC + struct.pack("<I", 500) + b"x" * 92)
    lacks = cut if cut < 40 else 408
    start, size = (80, 120 - cut) if cut < 40 else (120, 220)
    problem = f"is cut short: the record at byte {start} lacks {lacks} of its bytes (file of {size})"
    refused(
        path,
        f"{path}: {problem}, with {start // 40} whole records before it; copy it again, or list what is "
        "readable with `facedistill data verify`",
    )
    faces = RecordIOFaces(path, truncated="drop")
    assert faces.damage == [f"{path}: {problem}, with {start // 40} whole records before it"]
    assert [faces.encoded(index) for index in range(len(faces))] == [b"face5678"] * (start // 40)
    assert capsys.readouterr().err == (
        f"{path}: {problem}; reading the {start // 40} whole records before it, leaving out {size - start} bytes\n"
    )


def test_a_preallocated_or_damaged_file(tmp_path: Path) -> None:
    path = write(tmp_path, [(key, part(plain(key, key, b"face5678"))) for key in range(3)])
    path.write_bytes(path.read_bytes()[:80] + bytes(80))
    tail = "copy it again, or list what is readable with `facedistill data verify`"
    refused(
        path,
        f"{path}: is damaged: no record begins at byte 80 of 160, with 2 whole records before it; {tail}",
    )
    assert len(RecordIOFaces(path, truncated="drop")) == 2
    path.write_bytes(b"PK\x03\x04" * 40)
    refused(
        path, f"{path}: is damaged: no record begins at byte 0 of 160, with 0 whole records before it; {tail}"
    )
    path.write_bytes(b"")
    refused(
        path,
        f"{path}: is cut short: it has 0 bytes, less than one record, with 0 whole records before it; {tail}",
    )


def test_header_record_that_names_other_images(tmp_path: Path) -> None:
    records = insightface_records()
    path = write(tmp_path, records[1:])
    fix = "copy .rec and .idx again, both of the same set"
    refused(path, f"{path}: its header record names 6 images, but the file holds 5; {fix}")
    assert len(RecordIOFaces(path, truncated="drop")) == 5
    extra = (10, part(payload([1, 1], 10, b"late")))
    path = write(tmp_path, [*records, extra])
    refused(path, f"{path}: its header record names 6 images, but the file holds 7; {fix}")
    path = write(tmp_path, [(0, part(payload([1, 1], 0)))])
    refused(path, f"{path}: holds no images; give the .rec of a training set")
    records[6] = (0, part(payload([float("nan"), 10], 0)))
    path = write(tmp_path, records)
    refused(path, f"{path}: its header record says that images end at nan; copy the file again")


@pytest.mark.parametrize("idx", [True, False])
def test_headers_longer_than_their_record(tmp_path: Path, idx: bool) -> None:
    good = part(plain(1, 0, b"face5678"))
    for bad in (part(b"x" * 23), part(struct.pack("<IfQQ", 2**31, 0, 1, 0) + b"face"), part(b"")):
        path = write(tmp_path, [(0, good), (1, bad)], idx=idx)
        refused(
            path,
            f"{path}: the record at byte 40 is shorter than its header says; copy the file again, or list what is "
            "readable with `facedistill data verify`",
        )
