"""Whatever lies there is recognized, or refused in one sentence."""

import functools
import subprocess
import sys

import pytest

from facedistill.data.formats.base import all_formats
from facedistill.data.formats.folder import FolderFaces
from facedistill.data.formats.open import format_of, open_faces
from facedistill.data.formats.parquet.reader import ParquetFaces, write_parquet
from facedistill.data.formats.recordio.reader import RecordIOFaces, write_recordio
from facedistill.data.formats.shards.reader import ShardFaces, write_shards
from facedistill.errors import DataError
from facedistill.system.paths import config_dir
from tests.data.formats.drawn_set import DrawnSet
from tests.helpers.errors import error_message

DRAWN = DrawnSet(3, 2)
ITEMS = [(DRAWN.encoded(i), int(label)) for i, label in enumerate(DRAWN.labels)]
ACCEPTED = (
    "accepted are a folder of one folder per identity, an .lmdb file or a folder with data.mdb, .parquet files or a "
    "Hugging Face save_to_disk folder, a folder with train.rec and .tar shards"
)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    write_recordio(root / "rec/train", ITEMS)
    write_shards(root / "shards", ITEMS, ["a", "b", "c"], per_shard=4)
    write_parquet(root / "parquet", ITEMS, ["a", "b", "c"])
    for number, (image, label) in enumerate(ITEMS):
        place = root / "folder" / "abc"[label] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(image)
    return root


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rec", RecordIOFaces),
        ("rec/train.rec", RecordIOFaces),
        ("shards", ShardFaces),
        ("shards/000000.tar", ShardFaces),
        ("shards/{000000..000001}.tar", ShardFaces),
        ("shards/*.tar", ShardFaces),
        ("parquet", ParquetFaces),
        ("parquet/train-00000-of-00001.parquet", ParquetFaces),
        ("parquet/train-*.parquet", ParquetFaces),
        ("folder", FolderFaces),
        ("folder/a", FolderFaces),
    ],
)
def test_every_format_is_recognized(sets, name, kind):
    faces = open_faces(sets / name)
    assert type(faces) is kind
    assert faces.encoded(0) == ITEMS[0][0]
    assert len(faces) == {"shards/000000.tar": 4, "folder/a": 2}.get(name, 6)


refusal = functools.partial(error_message, DataError, format_of)


def test_what_is_no_face_set(tmp_path):
    assert refusal(tmp_path / "absent") == (f"{tmp_path}/absent: does not exist; give a face set: {ACCEPTED}")
    assert refusal(tmp_path) == f"{tmp_path}: holds no file, and no face set; {ACCEPTED}"
    for name in ("a.txt", "b.txt", "lfw.bin"):
        (tmp_path / name).write_text("x")
    assert refusal(tmp_path) == (f"{tmp_path}: holds 2 .txt and 1 .bin files, and no face set; {ACCEPTED}")
    assert refusal(tmp_path / "lfw.bin") == f"{tmp_path}/lfw.bin: a .bin file is no face set; {ACCEPTED}"


def test_two_sets_in_one_folder(tmp_path):
    (tmp_path / "train.rec").write_bytes(b"")
    (tmp_path / "0.tar").write_bytes(b"")
    assert refusal(tmp_path) == (
        f"{tmp_path}: holds several face sets (RecordIO and tar shards); give one of them, or move the others away"
    )


def test_recognizing_a_format_imports_no_reader(sets):
    code = (
        "import sys; from facedistill.data.formats.open import format_of; "
        "print(*(format_of(path).key for path in sys.argv[1:])); "
        "assert 'pyarrow' not in sys.modules and 'facedistill.data.formats.recordio.reader' not in sys.modules"
    )
    paths = [sets / name for name in ("folder", "rec", "parquet", "shards")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["folder", "rec", "parquet", "shards"]


def test_every_format_has_a_configuration():
    configured = {path.stem for path in (config_dir() / "data").glob("*.yaml")}
    assert {form.key: form.config for form in all_formats()} == {
        "folder": "folder", "lmdb": "lmdb", "parquet": "parquet", "rec": "recordio", "shards": "webdataset"
    }  # fmt: skip
    assert {form.config for form in all_formats()} <= configured
