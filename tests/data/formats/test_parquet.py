"""Parquet and Hugging Face tables."""

import functools
import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facedistill.data.formats.describe import describe
from facedistill.data.formats.parquet.reader import ParquetFaces, table_paths, write_parquet
from facedistill.errors import DataError
from tests.data.formats.drawn_set import DrawnSet
from tests.helpers.errors import error_message

DRAWN = DrawnSet(3, 4)
PNG = DRAWN.encoded(0)
NAMES = ["zoe", "anna", "chen"]
IMAGES = [DRAWN.encoded(i) for i in range(12)]
LABELS = DRAWN.labels.tolist()


def table(images=IMAGES, **columns):
    struct = [{"bytes": image, "path": None} for image in images]
    return pa.table({"image": struct, **columns})


def save(path, content, **options):
    pq.write_table(content, path, **options)
    return path


def save_to_disk(root, content, per_file=5):
    """The layout of `datasets.Dataset.save_to_disk`, written by hand."""
    root.mkdir()
    files = []
    for start in range(0, content.num_rows, per_file):
        files.append({"filename": f"data-{len(files):05d}-of-00003.arrow"})
        part = content.slice(start, per_file)
        place = str(root / files[-1]["filename"])
        with pa.OSFile(place, "wb") as file, pa.ipc.new_stream(file, part.schema) as stream:
            stream.write_table(part, max_chunksize=2)
    (root / "state.json").write_text(
        json.dumps({"_data_files": files, "_fingerprint": "x", "_split": "train"})
    )
    (root / "dataset_info.json").write_text("{}")
    return root


def class_labels(content, names):
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    return content.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


message_of = functools.partial(error_message, DataError, ParquetFaces)


def check(faces, identities=NAMES, labels=LABELS):
    assert [faces.encoded(i) for i in range(len(faces))] == IMAGES
    assert faces.labels.dtype == np.int64
    assert faces.labels.tolist() == labels
    assert faces.identities == identities
    assert len(faces.fingerprint) == 16


@pytest.mark.parametrize("name", ["one.parquet", "folder"])
def test_what_is_written_is_read(tmp_path, name):
    assert write_parquet(tmp_path / name, zip(IMAGES, LABELS, strict=True), NAMES) == 12
    check(ParquetFaces(tmp_path / name))


def test_the_layout_is_hugging_faces(tmp_path):
    write_parquet(tmp_path / "f", zip(IMAGES, LABELS, strict=True), NAMES)
    content = pq.read_table(tmp_path / "f/train-00000-of-00001.parquet")
    assert content.schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert content.schema.field("label").type == pa.int64()
    assert json.loads(content.schema.metadata[b"huggingface"])["info"]["features"] == {
        "image": {"_type": "Image"},
        "label": {"names": NAMES, "_type": "ClassLabel"},
    }
    assert content["image"][3].as_py() == {"bytes": IMAGES[3], "path": "000000003.png"}


def test_many_row_groups_in_many_files(tmp_path):
    (tmp_path / "data").mkdir()
    for number in range(3):
        part = slice(4 * number, 4 * number + 4)
        save(
            tmp_path / f"data/train-{number:05d}-of-00003.parquet",
            class_labels(table(IMAGES[part], label=LABELS[part]), NAMES),
            row_group_size=3,
        )
    faces = ParquetFaces(tmp_path)
    check(faces)
    assert faces.where(7) == f"{tmp_path}/data/train-00001-of-00003.parquet, row 3"
    assert faces.where(8) == f"{tmp_path}/data/train-00002-of-00003.parquet, row 0"
    check(pickle.loads(pickle.dumps(faces)))
    check(ParquetFaces(tmp_path / "data/train-*.parquet"))


def test_few_row_groups_stay_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("facedistill.data.formats.parquet.reader._KEPT_BYTES", 3 * len(PNG))
    path = save(tmp_path / "one.parquet", table(label=LABELS), row_group_size=1)
    faces = ParquetFaces(path)
    for index in (0, 11, 5, 0, 7, 0):
        assert faces.encoded(index) == IMAGES[index]
        assert len(faces._kept) <= 3
    assert 0 in faces._kept


def test_save_to_disk(tmp_path):
    root = save_to_disk(tmp_path / "saved", class_labels(table(label=LABELS), NAMES))
    faces = ParquetFaces(root)
    check(faces)
    assert faces.where(6) == f"{root}/data-00001-of-00003.arrow, row 1"
    check(pickle.loads(pickle.dumps(faces)))


def test_kinds_of_columns(tmp_path):
    binary = pa.table({"image": pa.array(IMAGES, pa.binary()), "label": pa.array(LABELS, pa.int32())})
    check(ParquetFaces(save(tmp_path / "binary.parquet", binary)), ["0", "1", "2"])
    names = [NAMES[label] for label in LABELS]
    by_name = [sorted(NAMES).index(name) for name in names]
    check(ParquetFaces(save(tmp_path / "names.parquet", table(label=names))), sorted(NAMES), by_name)
    check(ParquetFaces(save(tmp_path / "identity.parquet", table(identity=names))), sorted(NAMES), by_name)
    coded = pa.array(names).dictionary_encode()
    check(ParquetFaces(save(tmp_path / "coded.parquet", table(label=coded))), sorted(NAMES), by_name)
    gaps = [10 * label + 3 for label in LABELS]
    check(ParquetFaces(save(tmp_path / "gaps.parquet", table(label=gaps))), ["3", "13", "23"])
    assert ParquetFaces(save(tmp_path / "none.parquet", table())).labels is None
    assert ParquetFaces(save(tmp_path / "alone.parquet", table(label=[7] * 12))).labels is None


def test_the_fingerprint_follows_content(tmp_path):
    def fingerprint(name, content):
        return ParquetFaces(save(tmp_path / name, content, row_group_size=4)).fingerprint

    first = fingerprint("a.parquet", table(label=LABELS))
    (tmp_path / "elsewhere").mkdir()
    assert fingerprint("elsewhere/b.parquet", table(label=LABELS)) == first
    others = {
        fingerprint("c.parquet", table(IMAGES[::-1], label=LABELS)),
        fingerprint("d.parquet", table(label=LABELS[::-1])),
        fingerprint("e.parquet", table([*IMAGES[:-1], IMAGES[-1] + b"x"], label=LABELS)),
        fingerprint("f.parquet", table()),
    }
    assert len(others | {first}) == 5


def test_bad_tables_are_named(tmp_path):
    path = tmp_path / "one.parquet"
    save(path, pa.table({"img": IMAGES, "label": LABELS}))
    assert message_of(path) == (
        f"{path}: has no column image, only img, label; rename the column of the images"
    )
    save(path, pa.table({"image": [1, 2]}))
    assert message_of(path) == (
        f"{path}: column image is int64; it must hold encoded images, binary or {{bytes, path}}"
    )
    save(path, table(label=[None, *LABELS[1:]]))
    assert message_of(path) == (
        f"{path}: 1 of 12 images have no label; label all, or none for an unlabeled set"
    )
    save(path, table(label=[-1, -1, *LABELS[2:]]))
    assert message_of(path) == f"{path}: 2 labels are below 0, which means unknown; remove these rows"
    save(path, class_labels(table(label=LABELS), NAMES[:2]))
    assert message_of(path) == (
        f"{path}: label 2 is beyond the 2 names of column label; write the table again"
    )
    save(path, table(label=[0.5] * 12))
    assert message_of(path) == f"{path}: column label is double; labels are whole numbers or names"
    save(path, table([], label=pa.array([], pa.int64())))
    assert message_of(path) in (
        f"{path}: holds no rows; give the table of a face set",
        f"{path}: column image is null; it must hold encoded images, binary or {{bytes, path}}",
    )
    path.write_bytes(b"PAR1 and nothing else")
    assert message_of(path).startswith(f"{path}: cannot be read (")
    assert message_of(path).endswith("; copy it again or write it again")


def test_rows_without_bytes_are_named(tmp_path):
    rows = [{"bytes": PNG, "path": None}, {"bytes": None, "path": "a/b.jpg"}, None]
    path = save(tmp_path / "one.parquet", pa.table({"image": rows}))
    faces = ParquetFaces(path)
    for index, what in ((1, "only the path a/b.jpg of an image"), (2, "no image")):
        with pytest.raises(DataError) as caught:
            faces.encoded(index)
        assert str(caught.value) == (
            f"{path}, row {index} holds {what}; write the table with the images' bytes in it"
        )


def test_a_damaged_row_group_is_named(tmp_path):
    path = save(tmp_path / "one.parquet", table(label=LABELS), row_group_size=4, compression="zstd")
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    place = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(path.read_bytes())
    content[place : place + 64] = bytes([255]) * 64
    path.write_bytes(content)
    faces = ParquetFaces(path)
    assert faces.encoded(0) == IMAGES[0]
    with pytest.raises(DataError, match=r"one\.parquet, row group 1: cannot be read \(.+\); copy it again"):
        faces.encoded(5)


def test_splits_are_never_mixed(tmp_path):
    for split in ("train", "test"):
        save(tmp_path / f"{split}-00000-of-00001.parquet", table(label=LABELS))
    assert message_of(tmp_path) == (
        f"{tmp_path}: holds the splits test, train; give one, for example '{tmp_path}/test-*.parquet'"
    )
    assert len(ParquetFaces(tmp_path / "test-*.parquet")) == 12
    saved = tmp_path / "saved"
    saved.mkdir()
    save_to_disk(saved / "train", table(label=LABELS))
    (saved / "dataset_dict.json").write_text('{"splits": ["train"]}')
    with pytest.raises(DataError) as caught:
        table_paths(saved)
    assert str(caught.value) == f"{saved}: holds the splits train; give one, for example {saved}/train"


def test_a_saved_folder_that_is_not_complete(tmp_path):
    root = save_to_disk(tmp_path / "saved", table(label=LABELS))
    (root / "data-00001-of-00003.arrow").unlink()
    assert message_of(root) == (
        f"{root}: 1 of 3 files are missing, data-00001-of-00003.arrow first; copy it again"
    )
    (root / "state.json").write_text("{")
    assert message_of(root) == f"{root}: its state.json is damaged; save the data set again"


def test_writing_is_all_or_nothing(tmp_path):
    with pytest.raises(DataError) as caught:
        write_parquet(tmp_path / "f", [*zip(IMAGES, LABELS, strict=True), (PNG, 9)], NAMES)
    assert str(caught.value) == "image 12 has label 9, outside the 3 identities; name them all"
    assert list(tmp_path.iterdir()) == []


def test_info_warns_of_row_groups_that_make_random_reading_slow(tmp_path, monkeypatch):
    def warnings(faces):
        return [line for line in describe(faces) if "row groups" in line]

    slow = save(tmp_path / "slow.parquet", table(IMAGES * 4, label=LABELS * 4), row_group_size=48)
    assert not warnings(ParquetFaces(slow))  # all of it stays in memory
    monkeypatch.setattr("facedistill.data.formats.parquet.reader._KEPT_BYTES", 100)
    assert warnings(ParquetFaces(slow)) == [
        "warning       row groups of up to 48 images (0 MiB) are read whole for one image, which is slow in random "
        f"order; write smaller ones with `facedistill data convert {slow} NEW --to parquet`"
    ]
    assert not warnings(
        ParquetFaces(save(tmp_path / "quick.parquet", table(IMAGES * 4, label=LABELS * 4), row_group_size=16))
    )


def repeated(rows, size):
    """A table whose rows are one value of `size` bytes: a few kilobytes that unpack to rows x size."""
    return pa.table({"image": pa.array([b"\x89PNG" + bytes(size - 4)] * rows, pa.binary())})


def test_a_table_that_claims_more_than_it_holds_is_refused_before_it_is_read(tmp_path):
    content = pa.table({"image": pa.nulls(1_000_000, pa.binary()), "label": pa.nulls(1_000_000, pa.int8())})
    path = save(tmp_path / "rows.parquet", content, compression="zstd")
    size = path.stat().st_size
    assert size < 20_000
    assert message_of(path) == (
        f"{path}: claims 1,000,000 rows in {size:,} bytes, too few for images; remove the file"
    )


def test_a_table_is_unpacked_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("facedistill.data.formats.parquet.tables._MOST_BYTES", 1 << 20)
    path = save(tmp_path / "bytes.parquet", repeated(300, 1 << 16), compression="zstd")
    assert path.stat().st_size < 10_000
    assert message_of(path) == (
        f"{path}, row group 0: unpacks to more than 1 MiB, too much for its size; remove the file, or write it again "
        "without compression"
    )


def test_a_compressed_arrow_file_is_refused(tmp_path):
    path = tmp_path / "zeros.arrow"
    content = repeated(10, 1 << 16)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    for make in (pa.ipc.new_stream, pa.ipc.new_file):
        with make(str(path), content.schema, options=options) as stream:
            stream.write_table(content)
        assert message_of(path).startswith(f"{path}: is compressed; write it again")
        with make(str(path), content.schema) as stream:
            stream.write_table(content)
        assert len(ParquetFaces(path)) == 10


def test_a_long_name_does_not_make_all_names_long(tmp_path):
    path = save(tmp_path / "names.parquet", table(label=["a", "b" * 5_000, *"cdefghijkl"]))
    assert message_of(path) == f"{path}: column label has a name of 5000 bytes; use at most 255 characters"
