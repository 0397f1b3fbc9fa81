"""LMDB in the layouts of public face sets, against LMDB's own library; damage and gadgets are refused."""

import pickle
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from facedistill.data.formats.convert import convert
from facedistill.data.formats.lmdb.msgpack import pack_bytes, pack_list, pack_number, unpack
from facedistill.data.formats.lmdb.reader import LmdbFaces
from facedistill.data.formats.lmdb.tree import entries
from facedistill.data.formats.lmdb.writer import write_lmdb
from facedistill.data.formats.open import format_of, open_faces
from facedistill.data.formats.shards.writer import write_shards
from facedistill.data.formats.verify import open_for_verifying
from facedistill.errors import DataError
from tests.data.formats.packed_shards import DRAWN, NAMES, PNG, items
from tests.helpers.errors import error_message

lmdb = pytest.importorskip("lmdb")
AGAIN = "copy it again, or see what is readable with `facedistill data verify`"


def write(path: Path, values: dict[bytes, bytes], *, subdir: bool = False, page: bytes = b"") -> Path:
    """A database by LMDB's own library."""
    database = lmdb.open(str(path), subdir=subdir, map_size=1 << 28, lock=False, sync=False)
    with database.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key, value)
    database.close()
    return path


def samples(pack, faces=DRAWN) -> dict[bytes, bytes]:
    return {b"%d" % i: pack(faces.encoded(i), int(faces.labels[i])) for i in range(len(faces))}


def in_order(path: Path) -> list[int]:
    """The number of the drawn face of each sample: keys without leading zeros sort as texts."""
    return [int(key) for key in sorted(b"%d" % i for i in range(len(DRAWN)))]


def test_the_tree_is_that_of_the_library(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    values = {b"key-%d" % n: draw.bytes(int(size)) for n, size in enumerate(draw.integers(0, 5000, 900))}
    path = write(tmp_path / "some.lmdb", values)
    database = lmdb.open(str(path), subdir=False, map_size=1 << 28, lock=False, sync=False)
    for key in list(values)[::3]:  # a second transaction: the newer meta page, pages in another order
        with database.begin(write=True) as transaction:
            transaction.delete(key)
        del values[key]
    database.close()
    with path.open("rb") as file:
        found = list(entries(file.fileno(), path.stat().st_size, "some.lmdb"))
    content = path.read_bytes()
    assert {entry.key: content[entry.start : entry.start + entry.size] for entry in found} == values
    assert [entry.key for entry in found] == sorted(values)


def old_bytes(value: bytes) -> bytes:
    """As msgpack before 1.0 wrote bytes: as a raw text."""
    return struct.pack(">BI", 0xDB, len(value)) + value


@pytest.mark.parametrize(
    "pack",
    [
        lambda image, label: pack_list([pack_bytes(image), pack_number(label + 200)]),  # HSFace
        lambda image, label: pack_list([old_bytes(image), bytes([label])]),
        lambda image, label: pack_list(
            [pack_bytes(image), pack_bytes(bytes(64)), bytes([label])]
        ),  # Vec2Face
        lambda image, label: pickle.dumps((image, label), 4),
        lambda image, label: pickle.dumps(((image, None), np.int64(label)), 2),
        lambda image, label: pickle.dumps({"height": 112, "image": image, "label": f"name {label}"}),
        lambda image, label: pickle.dumps([np.frombuffer(image, np.uint8), label]),
    ],
    ids=["msgpack", "old-msgpack", "with-features", "pickle", "pickle-2", "dictionary", "array"],
)
def test_layouts_of_public_sets(tmp_path: Path, pack) -> None:
    described = {b"__len__": pack_number(12), b"__classnum__": pack_number(3), b"__keys__": b"?"}
    path = write(tmp_path / "set.lmdb", samples(pack) | described)
    faces = open_faces(path)
    order = in_order(path)
    assert [faces.encoded(i) for i in range(12)] == [DRAWN.encoded(n) for n in order]
    assert faces.labels.tolist() == [int(DRAWN.labels[n]) for n in order]
    assert pickle.loads(pickle.dumps(faces)).encoded(3) == faces.encoded(3)


def test_images_alone_are_unlabeled_and_folders_are_recognized(tmp_path: Path) -> None:
    path = write(tmp_path / "folder", samples(lambda image, label: image), subdir=True)
    faces = open_faces(path)
    assert (format_of(path).config, faces.labels, len(faces)) == ("lmdb", None, 12)
    assert faces.fingerprint == open_faces(path / "data.mdb").fingerprint


def test_there_and_back(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards", items(), NAMES)
    for target in ("as.lmdb", "folder"):
        convert(tmp_path / "shards", tmp_path / target, "lmdb")
    convert(tmp_path / "as.lmdb", tmp_path / "back", "shards")
    for name in ("as.lmdb", "folder", "back"):
        faces = open_faces(tmp_path / name)
        assert (faces.identities, faces.labels.tolist()) == (NAMES, DRAWN.labels.tolist())
        assert [faces.encoded(i) for i in range(12)] == [DRAWN.encoded(i) for i in range(12)]
    assert (tmp_path / "as.lmdb").is_file()
    database = lmdb.open(str(tmp_path / "folder"), readonly=True, lock=False)
    with database.begin() as transaction:  # what the loaders of HSFace read
        assert unpack(transaction.get(b"__len__")) == 12
        assert unpack(transaction.get(unpack(transaction.get(b"__keys__"))[5])) == [
            DRAWN.encoded(5),
            int(DRAWN.labels[5]),
        ]


class Gadget:
    def __reduce__(self):
        return (print, ("executed",))


def test_values_that_are_no_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = samples(lambda image, label: pack_list([pack_bytes(image), bytes([label])]))
    for value, says in (
        (
            pickle.dumps((Gadget(), 1)),
            "holds no JPEG, PNG or WebP file; write the set again with encoded images",
        ),
        (
            bytes([0xDD, 255, 255, 255, 255]),
            "MessagePack nor a pickle of one (is cut short); write the set again",
        ),
        (b"\x91" * 2000, "is cut short or nested too deeply"),
        (pack_list([pack_bytes(PNG), b"\xff"]), "says the label -1, and a label is a whole number from 0 on"),
        (b"\x80\x04" + b"]" * 40, "is truncated or no pickle"),
    ):
        path = write(tmp_path / "bad.lmdb", good | {b"5": value})
        sentence = error_message(DataError, LmdbFaces, path)
        assert sentence.startswith(f"{path}, byte ")
        assert says in sentence
        faces, problems = open_for_verifying(path)
        assert (len(faces), problems) == (11, [sentence])
        path.unlink()
    assert "executed" not in capsys.readouterr().out


def test_files_that_are_damaged(tmp_path: Path) -> None:
    pack = lambda image, label: pack_list([pack_bytes(image + bytes(5000)), bytes([label])])  # noqa: E731
    path = write(tmp_path / "set.lmdb", samples(pack))
    whole = path.read_bytes()
    path.write_bytes(whole[:12_000])
    assert "is cut short: " in error_message(DataError, LmdbFaces, path)
    path.write_bytes(b"x" * 20_000)
    assert error_message(DataError, LmdbFaces, path) == (
        f"{path}: is no LMDB database of a 64-bit machine; give its data.mdb or .lmdb file"
    )
    path.write_bytes(b"")
    assert "is no LMDB database" in error_message(DataError, LmdbFaces, path)
    for at in range(0, len(whole), 4096):  # every page header and the nodes behind it
        damaged = bytearray(whole)
        damaged[at : at + 64] = np.random.default_rng(at).bytes(64)
        path.write_bytes(damaged)
        with suppress(DataError):  # anything else would be a fault of the reader
            assert len(LmdbFaces(path)) == 12
    cut = write(tmp_path / "few.lmdb", samples(pack) | {b"__len__": pack_number(13)})
    assert error_message(DataError, LmdbFaces, cut) == (
        f"{cut}: says 13 samples and holds 12; copy it again, or write it again"
    )
    huge = write(tmp_path / "huge.lmdb", {b"0": bytes(17 << 20)})
    assert "has 17,825,792 bytes, too many for a face; leave it out" in error_message(
        DataError, LmdbFaces, huge
    )
    named = lmdb.open(str(tmp_path / "named.lmdb"), subdir=False, max_dbs=2, lock=False)
    named.open_db(b"train")
    named.close()
    assert "holds databases inside the database" in error_message(
        DataError, LmdbFaces, tmp_path / "named.lmdb"
    )


def test_pages_in_a_circle_end(tmp_path: Path) -> None:
    """A branch page that names its parent would be walked for ever."""
    values = {b"%06d" % n: bytes(100) for n in range(500)}
    path = write(tmp_path / "set.lmdb", values)
    content = bytearray(path.read_bytes())
    _, root = max(struct.unpack_from("<Q8xQ", content, page * 4096 + 128)[::-1] for page in (0, 1))
    place = struct.unpack_from("<H", content, root * 4096 + 16)[0]
    struct.pack_into("<HHH", content, root * 4096 + place, root & 0xFFFF, root >> 16, 0)
    path.write_bytes(content)
    sentence = error_message(DataError, LmdbFaces, path)
    assert sentence == f"{path}: is damaged: page {root} is reached twice; {AGAIN}"


def test_writing_needs_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    sentence = "writing LMDB needs its library: pip install 'facedistill[lmdb]'"
    assert error_message(DataError, write_lmdb, tmp_path / "a", items(), NAMES) == sentence
