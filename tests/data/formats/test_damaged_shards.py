"""Damaged tar shards: every one is read alike or refused, with shard and byte."""

import tarfile

import numpy as np
import pytest

from facedistill.data.formats.shards.reader import ShardFaces, write_shards
from facedistill.errors import DataError
from tests.data.formats.packed_shards import NAMES, PNG, items, message_of, pack


def test_a_shard_cut_short_names_shard_and_byte(tmp_path):
    write_shards(tmp_path / "s", items(), NAMES, per_shard=12)
    path = tmp_path / "s/000000.tar"
    whole = path.read_bytes()
    mend = "copy it again, or see what is readable with `facedistill data verify`"
    path.write_bytes(whole[:700])
    assert message_of(path) == (
        f"{path}: is cut short: byte 0 begins a member of {len(PNG)} bytes, and the file ends at 700; {mend}"
    )
    sample = 512 + 512 * -(-len(PNG) // 512) + 1024
    path.write_bytes(whole[: 2 * sample])
    assert message_of(path) == (
        f"{path}: is cut short: it ends at byte {2 * sample} without the mark that ends a tar; {mend}"
    )
    faces = ShardFaces(path, truncated="drop")
    assert len(faces) == 2
    assert faces.labels.tolist() == [0, 1]
    assert faces.damage == [
        f"{path}: is cut short: it ends at byte {2 * sample} without the mark that ends a tar; {mend}"
    ]


def test_a_label_that_is_cut_off_takes_its_image_along(tmp_path):
    write_shards(tmp_path / "s", items(), NAMES, per_shard=12)
    path = tmp_path / "s/000000.tar"
    sample = 512 + 512 * -(-len(PNG) // 512) + 1024
    path.write_bytes(path.read_bytes()[: 4 * sample - 1024])
    faces = ShardFaces(path, truncated="drop")
    assert faces.labels.tolist() == [0, 1, 2]
    bare = pack(tmp_path / "bare.tar", [(f"{n}.png", PNG) for n in range(4)])
    bare.write_bytes(bare.read_bytes()[: 3 * (sample - 1024)])
    assert len(ShardFaces(bare, truncated="drop")) == 3


def test_damage_never_hides_images(tmp_path):
    path = pack(tmp_path / "one.tar", [("1.png", PNG), ("2.png", PNG)])
    whole = bytearray(path.read_bytes())
    second = 512 + 512 * -(-len(PNG) // 512)
    mend = "copy it again, or see what is readable with `facedistill data verify`"

    flipped = whole.copy()
    flipped[second + 3] ^= 1
    path.write_bytes(flipped)
    assert message_of(path) == f"{path}: is damaged: at byte {second} there is no valid header; {mend}"

    erased = whole.copy()
    erased[second : second + 512] = bytes(512)
    path.write_bytes(erased)
    assert message_of(path) == f"{path}: is damaged: it goes on after the end mark at byte {second}; {mend}"

    path.write_bytes(b"not a tar" * 200)
    assert message_of(path) == (
        f"{path}: is no tar file (its first header is none); give uncompressed .tar shards"
    )


def test_links_are_refused(tmp_path):
    path = tmp_path / "one.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert message_of(path) == f"{path}: byte 0 holds a symbolic link (1.png); pack the files themselves"


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    path = pack(tmp_path / "one.tar", [("1.png", PNG), ("2.png", PNG)])
    faces = ShardFaces(path)
    with path.open("r+b") as file:
        file.truncate(600)
    with pytest.raises(DataError) as caught:
        faces.encoded(1)
    assert str(caught.value) == f"{faces.where(1)} is gone: the file changed while it was read; start again"


def test_mutated_shards_are_read_alike_or_refused(tmp_path):
    """No mutation of a header or its end may crash, hang, or lose an image in silence."""
    path = pack(tmp_path / "one.tar", [(f"{n}.png", PNG[:300]) for n in range(4)])
    whole = path.read_bytes()
    draw = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        mutated = bytearray(whole)
        for _ in range(draw.integers(1, 4)):
            mutated[draw.integers(0, 4096)] = draw.integers(0, 256)
        path.write_bytes(mutated[: draw.integers(0, len(whole))] if draw.random() < 0.3 else mutated)
        try:
            faces = ShardFaces(path)
        except DataError:
            refused += 1
        else:
            assert len(faces) == 4
            assert all(len(faces.encoded(i)) == 300 for i in range(4))
    assert 100 < refused < 400


@pytest.mark.parametrize("kind", [b"3", b"g", b"K", b"L", b"Z", b"x", b"5"])
def test_an_image_whose_kind_is_damaged_is_not_left_out(tmp_path, kind):
    path = pack(tmp_path / "one.tar", [("1.png", PNG), ("2.png", PNG)], tarfile.USTAR_FORMAT)
    content = bytearray(path.read_bytes())
    content[156:157] = kind
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    path.write_bytes(content)
    assert message_of(path).startswith(f"{path}: ")
