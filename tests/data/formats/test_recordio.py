"""RecordIO against layouts that are written here, byte by byte."""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from facedistill.data.formats import index_cache as recordio_kept
from facedistill.data.formats.recordio.labels import Headers, _first_identity
from facedistill.data.formats.recordio.reader import RecordIOFaces
from facedistill.errors import DataError
from tests.data.formats.recordio_bytes import IMAGES, MAGIC, insightface_records, part, payload, plain, write
from tests.helpers.errors import error_message


def refused(path: Path, message: str, **arguments: str) -> None:
    assert error_message(DataError, RecordIOFaces, path, **arguments) == message


@pytest.mark.parametrize("idx", [True, False])
def test_insightfaces_layout(tmp_path: Path, idx: bool, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, insightface_records(), idx=idx, prop="3,112,112\n")
    faces = RecordIOFaces(tmp_path)
    assert [faces.encoded(index) for index in range(len(faces))] == IMAGES
    assert faces.labels is not None
    assert faces.labels.dtype == np.int64
    assert faces.labels.tolist() == [0, 0, 1, 1, 1, 2]
    assert faces.identities == ["3", "7", "12"]
    assert faces.where(1) == f"{path}, byte {len(part(payload([3, 1], 1, IMAGES[0])))}"
    note = "" if idx else f"{path}: train.idx is missing; found 10 records by walking the file\n"
    assert capsys.readouterr().err == note
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        ["train.rec", "property", *(["train.idx"] if idx else [])]
    )


def test_header_record_in_front(tmp_path: Path) -> None:
    records = insightface_records()
    records.insert(0, records.pop(6))
    faces = RecordIOFaces(write(tmp_path, records))
    assert [faces.encoded(index) for index in range(6)] == IMAGES


@pytest.mark.parametrize("idx", [True, False])
def test_images_only_with_single_labels(tmp_path: Path, idx: bool) -> None:
    records = [(key, part(plain(label, key, IMAGES[key]))) for key, label in enumerate([4, 0, 4])]
    faces = RecordIOFaces(write(tmp_path, records, idx=idx), quiet=True)
    assert faces.labels is not None
    assert faces.labels.tolist() == [1, 0, 1]
    assert faces.identities == ["0", "4"]
    assert [faces.encoded(index) for index in range(3)] == IMAGES[:3]


def test_images_come_in_the_order_of_their_keys(tmp_path: Path) -> None:
    records = [
        (key, part(plain(key % 2, 99, IMAGES[key]))) for key in (2, 0, 1)
    ]  # ids in the file mean nothing
    faces = RecordIOFaces(write(tmp_path, records))
    assert [faces.encoded(index) for index in range(3)] == IMAGES[:3]
    (tmp_path / "train.idx").unlink()
    faces = RecordIOFaces(tmp_path, quiet=True)
    assert [faces.encoded(index) for index in range(3)] == [IMAGES[2], IMAGES[0], IMAGES[1]]


@pytest.mark.parametrize("idx", [True, False])
def test_split_records(tmp_path: Path, idx: bool) -> None:
    image = b"abcd" + MAGIC + MAGIC + b"efgh!" + MAGIC + b"x"  # the third is not at a multiple of four
    body = payload([1, 1], 1, b"abcd")
    split = part(body, 1) + part(b"", 2) + part(b"efgh!" + MAGIC + b"x", 3)
    whole = part(payload([2, 1], 2, b"plain"))
    at_front = part(b"", 1) + part(payload([5], 3, b"y")[4:], 3)  # a flag field equal to the magic
    faces = RecordIOFaces(write(tmp_path, [(1, split), (2, whole)], idx=idx), quiet=True)
    assert [faces.encoded(0), faces.encoded(1)] == [image, b"plain"]
    assert faces.identities == ["1", "2"]
    assert faces.where(1).endswith(f"byte {len(split)}")
    path = write(tmp_path / "b", [(1, at_front), (2, whole)], idx=idx)
    refused(
        path,
        f"{path}: the record at byte 0 is shorter than its header says; copy the file again, or list what is "
        "readable with `facedistill data verify`",
    )


def test_one_label_for_all_is_no_label(tmp_path: Path) -> None:
    faces = RecordIOFaces(write(tmp_path, [(key, part(plain(0, key, b"x"))) for key in range(3)]))
    assert faces.labels is None
    assert faces.identities == []


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
    assert len(RecordIOFaces(path, truncated="drop", quiet=True)) == 2


@pytest.mark.parametrize("cut", [30, 47])
def test_a_cut_file_with_its_complete_idx_is_read_up_to_the_damage(tmp_path: Path, cut: int) -> None:
    """The keys are those of the idx, which need not count from 0."""
    path = write(tmp_path, insightface_records())
    complete = RecordIOFaces(path, quiet=True)
    images = [complete.encoded(index) for index in range(len(complete))]
    offsets = sorted(int(line.split("\t")[1]) for line in (tmp_path / "train.idx").read_text().splitlines())
    path.write_bytes(path.read_bytes()[: offsets[3] + cut])
    faces = RecordIOFaces(path, truncated="drop", quiet=True)
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
    assert len(RecordIOFaces(path, truncated="drop", quiet=True)) == 2
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
    mend = "copy .rec and .idx again, both of the same set"
    refused(path, f"{path}: its header record names 6 images, but the file holds 5; {mend}")
    assert len(RecordIOFaces(path, truncated="drop")) == 5
    extra = (10, part(payload([1, 1], 10, b"late")))
    path = write(tmp_path, [*records, extra])
    refused(path, f"{path}: its header record names 6 images, but the file holds 7; {mend}")
    path = write(tmp_path, [(0, part(payload([1, 1], 0)))])
    refused(path, f"{path}: holds no images; give the .rec of a training set")
    records[6] = (0, part(payload([float("nan"), 10], 0)))
    path = write(tmp_path, records)
    refused(path, f"{path}: its header record says that images end at nan; copy the file again")


def test_a_header_beyond_what_float32_holds() -> None:
    # 2^24 images: the first identity record has key 2^24 + 1, which float32 cannot say
    keys = np.array([0, 1, 2**24 - 1, 2**24, 2**24 + 1, 2**24 + 2])
    sizes = np.array([0, 9, 9, 9, 0, 0])
    labels = np.full(6, 2**24 + 1, dtype=np.float32)
    assert labels[0] == 2**24
    none = np.zeros(6, dtype=np.int64)
    headers = Headers(none, none, none > 0, keys, none + 2, labels, none, sizes)
    assert _first_identity(Path("x"), headers, np.arange(6)) == 2**24 + 1


@pytest.mark.parametrize("label", [-1, 0.5, float("nan"), float("inf"), 2.0**24])
def test_labels_that_are_none(tmp_path: Path, label: float) -> None:
    path = write(tmp_path, [(0, part(plain(1, 0, b"face5678"))), (1, part(plain(label, 1, b"x")))])
    refused(
        path,
        f"{path}, byte 40 has label {label:g}, and labels are whole numbers from 0 on (1 of 2 images are wrong); "
        "copy the file again",
    )


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


def test_property_must_agree(tmp_path: Path) -> None:
    write(tmp_path, insightface_records(), prop="13,112,112")  # with gaps, the largest label counts
    assert len(RecordIOFaces(tmp_path)) == 6
    place = tmp_path / "property"
    for text, message in {
        "4,112,112": f"{place}: says 4 identities, but train.rec holds 3 in 6 images; copy both again, or delete "
        "property if it belongs to another set",
        "3,112,96": f"{place}: says that the faces are 96x112 pixels, and faces are 112x112; run `facedistill "
        "data align` on the photographs, or fix the file if it is wrong",
        "three": f"{place}: must say `identities,112,112`, got 'three'; fix or delete it",
    }.items():
        place.write_text(text)
        refused(tmp_path, message)


def test_which_file_a_folder_means(tmp_path: Path) -> None:
    refused(
        tmp_path / "no",
        f"{tmp_path / 'no'}: is not there; give a .rec file or the folder that holds train.rec",
    )
    refused(tmp_path, f"{tmp_path}: holds 0 .rec files and no train.rec; give the file itself")
    write(tmp_path, insightface_records()).rename(tmp_path / "other.rec")
    (tmp_path / "train.idx").unlink()
    assert len(RecordIOFaces(tmp_path, quiet=True)) == 6
    (tmp_path / "more.rec").write_bytes(b"")
    refused(tmp_path, f"{tmp_path}: holds 2 .rec files and no train.rec; give the file itself")


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, [(key, part(plain(key, key, b"face5678"))) for key in range(3)])
    faces = RecordIOFaces(path)
    path.write_bytes(path.read_bytes()[:100])
    assert faces.encoded(1) == b"face5678"
    with pytest.raises(DataError) as caught:
        faces.encoded(2)
    assert str(caught.value) == f"{path}, byte 80 is gone: the file changed while it was read; start again"


def test_pickles_to_worker_processes(tmp_path: Path) -> None:
    faces = RecordIOFaces(write(tmp_path, insightface_records()))
    faces.encoded(0)
    again = pickle.loads(pickle.dumps(faces))
    assert again.encoded(5) == IMAGES[5]
    assert again.fingerprint == faces.fingerprint


def test_fingerprint_follows_content_and_nothing_else(tmp_path: Path) -> None:
    def of(name: str, records: Sequence[tuple[int, bytes]], idx: bool = True) -> str:
        return RecordIOFaces(write(tmp_path / name, records, idx=idx), quiet=True).fingerprint

    base = [(key, part(plain(key, key, image))) for key, image in enumerate(IMAGES)]
    first = of("a", base)
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert of("b", base, idx=False) == first
    changed = part(plain(5, 5, IMAGES[5].replace(b"5", b"6")))
    relabelled = part(plain(4, 5, IMAGES[5]))
    swapped = [(key, part(plain(key, key, image))) for key, image in enumerate(IMAGES[:4] + IMAGES[5:3:-1])]
    others = [of("c", [*base[:5], (5, changed)]), of("d", [*base[:5], (5, relabelled)]), of("e", swapped)]
    assert len({first, of("f", base[:5]), *others}) == 5


def test_a_slow_index_is_kept_and_found_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(recordio_kept, "_SLOW_S", 0.0)
    path = write(tmp_path / "set", insightface_records(), idx=False)
    first = RecordIOFaces(path, quiet=True)
    (kept,) = (tmp_path / "cache/recordio").iterdir()
    monkeypatch.setattr("facedistill.data.formats.recordio.reader.find_records", None)
    assert RecordIOFaces(path).fingerprint == first.fingerprint
    monkeypatch.undo()
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path / "cache"))
    kept.write_bytes(b"damaged")
    assert RecordIOFaces(path, quiet=True).fingerprint == first.fingerprint
    write(tmp_path / "set", insightface_records()[:5], idx=False)
    assert len(RecordIOFaces(path, quiet=True)) == 5
