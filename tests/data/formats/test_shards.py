"""Tar shards: what WebDataset's rules say, what damage says, and that the same faces give the same bytes."""

import hashlib
import json
import pickle
import tarfile

import numpy as np
import pytest

from facedistill.data.formats.shards.reader import ShardFaces, shard_paths, write_shards
from facedistill.errors import DataError
from tests.data.formats.packed_shards import DRAWN, NAMES, PNG, items, message_of, pack


def test_what_is_written_is_read(tmp_path):
    assert write_shards(tmp_path / "s", items(), NAMES, per_shard=5, meta={"from": "drawn"}) == 12
    faces = ShardFaces(tmp_path / "s")
    assert [faces.encoded(i) for i in range(12)] == [image for image, _ in items()]
    assert faces.labels.dtype == np.int64
    assert faces.labels.tolist() == DRAWN.labels.tolist()
    assert faces.identities == NAMES
    note = json.loads((tmp_path / "s/faces.json").read_text(encoding="utf-8"))
    assert (note["images"], note["identities"], note["names"], note["meta"]) == (
        12,
        3,
        NAMES,
        {"from": "drawn"},
    )
    assert {name: shard["images"] for name, shard in note["shards"].items()} == {
        "000000.tar": 5,
        "000001.tar": 5,
        "000002.tar": 2,
    }
    for name, shard in note["shards"].items():
        assert hashlib.sha256((tmp_path / "s" / name).read_bytes()).hexdigest() == shard["sha256"]


def test_the_standard_library_reads_the_shards(tmp_path):
    write_shards(tmp_path / "s", items(), NAMES, per_shard=100)
    with tarfile.open(tmp_path / "s/000000.tar") as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
    assert found["000000007.png"] == DRAWN.encoded(7)
    assert found["000000007.cls"] == b"1"
    assert len(found) == 24


def test_same_faces_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_shards(tmp_path / name, items(), NAMES, per_shard=5)
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_as_the_standard_library_reads_them(tmp_path, form):
    deep = "f" * 90 + "/" + "g" * 60 + "/1"  # beyond 100 characters: a prefix, a long name or a pax header
    members = [("1.png", PNG), ("1.cls", b"7\n"), (f"{deep}.png", PNG + b"x"), (f"{deep}.cls", b"2")]
    path = pack(tmp_path / "one.tar", members, form)
    faces = ShardFaces(path)
    assert faces.identities == ["2", "7"]
    assert faces.labels.tolist() == [1, 0]
    with tarfile.open(path) as tar:
        images = [member for member in tar.getmembers() if member.name.endswith(".png")]
    assert [faces.encoded(i) for i in range(2)] == [PNG, PNG + b"x"]
    assert faces._starts.tolist() == [member.offset_data for member in images]
    assert faces.where(0) == f"{path}, byte 0"


def test_json_labels_and_foreign_members(tmp_path):
    path = pack(
        tmp_path / "one.tar",
        [
            ("README", b"hello"),
            ("._junk.png", b"mac"),
            ("1.jpg", b"\xff\xd8a"),
            ("1.json", b'{"identity": "zoe"}'),
            ("1.txt", b"caption"),
            ("2.JPEG", b"\xff\xd8b"),
            ("2.json", b'{"identity": "adam", "age": 3}'),
        ],
    )
    faces = ShardFaces(path)
    assert faces.identities == ["adam", "zoe"]
    assert faces.labels.tolist() == [1, 0]
    assert faces.encoded(1) == b"\xff\xd8b"


def test_tables_next_to_the_faces_are_no_samples(tmp_path):
    """A benchmark's archive, as `data audit` is given it."""
    path = pack(
        tmp_path / "lfw.tar",
        [("a/1.png", PNG), ("pairs.tsv", b"x"), ("b/2.png", PNG), ("lfw_pairs.txt", b"y")],
    )
    faces = ShardFaces(path)
    assert (len(faces), faces.labels, faces.damage) == (2, None, [])


def test_unlabeled_and_one_identity_have_no_labels(tmp_path):
    bare = pack(tmp_path / "bare.tar", [("1.png", PNG), ("2.png", PNG)])
    alone = pack(tmp_path / "alone.tar", [("1.png", PNG), ("1.cls", b"4"), ("2.png", PNG), ("2.cls", b"4")])
    for path in (bare, alone):
        faces = ShardFaces(path)
        assert faces.labels is None
        assert faces.identities == []
        assert len(faces) == 2


def test_a_pickled_copy_reads(tmp_path):
    write_shards(tmp_path / "s", items(), NAMES, per_shard=5)
    faces = ShardFaces(tmp_path / "s")
    copy = pickle.loads(pickle.dumps(faces))
    assert copy.encoded(11) == DRAWN.encoded(11)
    assert copy.where(11) == faces.where(11)


def test_the_fingerprint_follows_content_and_order_and_not_the_place(tmp_path):
    def fingerprint(name, given, names=NAMES):
        write_shards(tmp_path / name, given, names, per_shard=5)
        return ShardFaces(tmp_path / name).fingerprint

    first = fingerprint("a", items())
    assert first == fingerprint("elsewhere/b", items())
    assert len(first) == 16
    swapped = [*items()[1:], items()[0]]
    relabeled = [(image, 2 - label) for image, label in items()]
    others = {fingerprint("c", swapped), fingerprint("d", relabeled), fingerprint("e", items()[:-1])}
    assert len(others | {first}) == 4


def test_patterns(tmp_path):
    for name in ("a-08.tar", "a-09.tar", "a-10.tar", "b-08.tar"):
        pack(tmp_path / name, [(f"{name[:4]}.png", PNG)])

    def names(pattern):
        return [path.name for path in shard_paths(str(tmp_path / pattern))]

    assert names("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert names("{b,a}-08.tar") == ["b-08.tar", "a-08.tar"]
    assert names("a-*.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert names("") == ["a-08.tar", "a-09.tar", "a-10.tar", "b-08.tar"]
    assert len(ShardFaces(tmp_path / "a-{08..10}.tar")) == 3
    with pytest.raises(DataError) as caught:
        names("a-{08..11}.tar")
    assert str(caught.value) == (
        f"{tmp_path}/a-11.tar: is not there; give .tar shards, their folder or a pattern of existing ones"
    )
    with pytest.raises(DataError, match=r"\{9\.\.8\} names nothing; put the smaller number first$"):
        names("a-{9..8}.tar")


BAD_MEMBERS = {
    "no images": ([("README", b"x"), ("._1.png", b"y")], None),
    "two": ([("img.1.png", PNG), ("img.2.png", PNG)], "byte 0: sample 'img' has 2 images and must have one; give each "
            "image a name of its own up to the first dot"),
    "lonely": ([("1.png", PNG), ("2.cls", b"3")], "byte 1536: sample '2' has 0 images and must have one; give each "
               "image a name of its own up to the first dot"),
    "words": ([("1.png", PNG), ("1.cls", b"anna")], "byte 0: 1.cls says 'anna', and a label is a whole number from 0 "
              "on"),
    "negative": ([("1.png", PNG), ("1.cls", b"-1")], "byte 0: 1.cls says '-1', and a label is a whole number from 0 "
                 "on"),
    "json": ([("1.png", PNG), ("1.json", b"{")], "byte 0: 1.json is not JSON; write it again"),
    "list": ([("1.png", PNG), ("1.json", b"[]")], 'byte 0: 1.json must hold an object with "label" or "identity"; '
             "write it again"),
    "fraction": ([("1.png", PNG), ("1.json", b'{"label": 1.5}')], 'byte 0: 1.json says "label": 1.5, and a label is a '
                 "whole number from 0 on"),
    "nested": ([("1.png", PNG), ("1.json", b'{"identity": []}')], 'byte 0: 1.json says "identity": [], and an '
               "identity is a name"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_MEMBERS)
def test_bad_samples_are_named(tmp_path, name):
    members, message = BAD_MEMBERS[name]
    path = pack(tmp_path / "one.tar", members)
    if message is None:
        expected = f"{path}: holds no images (jpeg, jpg, png, webp); give the shards of a face set"
    else:
        place = 512 + 512 * -(-len(PNG) // 512)
        expected = f"{path}, {message}".replace("byte 1536", f"byte {place}")
    assert message_of(path) == expected


def test_labels_that_do_not_go_together(tmp_path):
    mixed = pack(tmp_path / "mixed.tar", [("1.png", PNG), ("1.cls", b"0"), ("2.png", PNG)])
    assert message_of(mixed) == (
        f"{mixed}: 1 of 2 images have no label; label all, or none for an unlabeled set"
    )
    kinds = [("1.png", PNG), ("1.cls", b"0"), ("2.png", PNG), ("2.json", b'{"identity": "a"}')]
    path = pack(tmp_path / "kinds.tar", kinds)
    assert message_of(path) == f"{path}: 1 labels are numbers and 1 are names; use one of the two"


def test_faces_json_is_held_to_the_shards(tmp_path):
    root = tmp_path / "s"
    write_shards(root, items(), NAMES, per_shard=5)
    note = (root / "faces.json").read_text(encoding="utf-8")
    (root / "000002.tar").rename(root / "kept")
    assert message_of(root) == (f"{root}/faces.json: names 3 shards, and 2 are there; copy the others too")
    assert ShardFaces(root / "000001.tar").identities == NAMES  # a single shard, asked for, is fine
    (root / "kept").rename(root / "000002.tar")
    pack(root / "000003.tar", [("9.png", PNG), ("9.cls", b"0")])
    assert message_of(root) == f"{root}/faces.json: does not list 1 of 4 shards; remove those"
    (root / "000003.tar").unlink()
    (root / "faces.json").write_text(note.replace('"images": 5', '"images": 6', 1), encoding="utf-8")
    assert message_of(root) == f"{root}/faces.json: says 13 images, and the shards hold 12; copy all again"
    (root / "faces.json").write_text(note[:100], encoding="utf-8")
    assert message_of(root) == (
        f"{root}/faces.json: is damaged; copy it again, or delete it to go by the shards alone"
    )


def test_writing_is_all_or_nothing(tmp_path):
    def breaks_off():
        yield from items()[:7]
        raise DataError("the source ends here")

    for given, names, message in (
        (breaks_off(), NAMES, "the source ends here"),
        ([(PNG, 3)], NAMES, "image 0 has label 3, outside the 3 identities; name them all"),
        ([(PNG, None)], NAMES, "image 0 has no label, and the set has 3 identities; label it"),
        ([(b"GIF89a", 0)], NAMES, "image 0 is no JPEG, PNG or WebP file; leave it out or convert it"),
    ):
        with pytest.raises(DataError) as caught:
            write_shards(tmp_path / "s", given, names, per_shard=5)
        assert str(caught.value) == message
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match=r"there are no images to write; give a set with images$"):
        write_shards(tmp_path / "s", [], NAMES)
    (tmp_path / "s").mkdir()
    with pytest.raises(DataError) as caught:
        write_shards(tmp_path / "s", items(), NAMES)
    assert str(caught.value) == f"{tmp_path}/s exists already; delete it or choose another path"
