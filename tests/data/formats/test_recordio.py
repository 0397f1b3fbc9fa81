"""RecordIO against layouts that are written here, byte by byte."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from facedistill.data.formats import index_cache as recordio_kept
from facedistill.data.formats.recordio.labels import Headers, _first_identity
from facedistill.data.formats.recordio.reader import RecordIOFaces
from facedistill.errors import DataError
from tests.data.formats.recordio_bytes import (
    IMAGES,
    MAGIC,
    insightface_records,
    part,
    payload,
    plain,
    refused,
    write,
)


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
    faces = RecordIOFaces(write(tmp_path, records, idx=idx))
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
    faces = RecordIOFaces(tmp_path)
    assert [faces.encoded(index) for index in range(3)] == [IMAGES[2], IMAGES[0], IMAGES[1]]


@pytest.mark.parametrize("idx", [True, False])
def test_split_records(tmp_path: Path, idx: bool) -> None:
    image = b"abcd" + MAGIC + MAGIC + b"efgh!" + MAGIC + b"x"  # the third is not at a multiple of four
    body = payload([1, 1], 1, b"abcd")
    split = part(body, 1) + part(b"", 2) + part(b"efgh!" + MAGIC + b"x", 3)
    whole = part(payload([2, 1], 2, b"plain"))
    at_front = part(b"", 1) + part(payload([5], 3, b"y")[4:], 3)  # a flag field equal to the magic
    faces = RecordIOFaces(write(tmp_path, [(1, split), (2, whole)], idx=idx))
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
    assert len(RecordIOFaces(tmp_path)) == 6
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
        return RecordIOFaces(write(tmp_path / name, records, idx=idx)).fingerprint

    base = [(key, part(plain(key, key, image))) for key, image in enumerate(IMAGES)]
    first = of("a", base)
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert of("b", base, idx=False) == first
    changed = part(plain(5, 5, IMAGES[5].replace(b"5", b"6")))
    relabeled = part(plain(4, 5, IMAGES[5]))
    swapped = [(key, part(plain(key, key, image))) for key, image in enumerate(IMAGES[:4] + IMAGES[5:3:-1])]
    others = [of("c", [*base[:5], (5, changed)]), of("d", [*base[:5], (5, relabeled)]), of("e", swapped)]
    assert len({first, of("f", base[:5]), *others}) == 5


def test_a_slow_index_is_kept_and_found_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(recordio_kept, "_SLOW_S", 0.0)
    path = write(tmp_path / "set", insightface_records(), idx=False)
    first = RecordIOFaces(path)
    (kept,) = (tmp_path / "cache/recordio").iterdir()
    monkeypatch.setattr("facedistill.data.formats.recordio.reader.find_records", None)
    assert RecordIOFaces(path).fingerprint == first.fingerprint
    monkeypatch.undo()
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path / "cache"))
    kept.write_bytes(b"damaged")
    assert RecordIOFaces(path).fingerprint == first.fingerprint
    write(tmp_path / "set", insightface_records()[:5], idx=False)
    assert len(RecordIOFaces(path)) == 5
