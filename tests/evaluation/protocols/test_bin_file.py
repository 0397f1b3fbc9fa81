"""insightface .bin files: read, and never run."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facedistill.errors import DataError
from facedistill.evaluation.protocols.bin_file import load_bin
from tests.evaluation.protocols.miniature_benchmark import draw, write_bin

SAME = [number % 2 == 0 for number in range(23)]


def images() -> list[bytes]:
    """Two images a pair; the first image of every pair is the same one."""
    return [draw(0, 0) if number % 2 == 0 else draw(number, 1) for number in range(46)]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pairs_come_back(tmp_path: Path, protocol: int) -> None:
    found = load_bin(write_bin(tmp_path / "agedb_30.bin", images(), SAME, protocol))
    assert found.name == "agedb_30"
    assert found.num_images == 24  # 23 and the shared one
    assert found.same.tolist() == SAME
    assert found.left.tolist() == [0] * 23
    faces = torch.cat(list(found.images(10)))
    other = load_bin(write_bin(tmp_path / "x.bin", [draw(5, 1), draw(5, 1)] * 23, SAME, protocol))
    assert torch.equal(faces[found.right[2]], next(other.images(1))[0])


def test_python_2_files_are_read(tmp_path: Path) -> None:
    # protocol 0 of Python 2: strings as S'...' lines, flags as I01 and I00
    body = b"((lp0\n" + b"".join(f"S{image!r}\na".encode() for image in ["ab", "cd"] * 10)
    body += b"(lp1\n" + b"I01\naI00\na" * 5 + b"tp2\n."
    path = tmp_path / "old.bin"
    path.write_bytes(body)
    found = load_bin(path)
    assert found.num_images == 2
    assert found.same.tolist() == [True, False] * 5


def test_folds_are_insightfaces(tmp_path: Path) -> None:
    fold = load_bin(write_bin(tmp_path / "x.bin", images(), SAME)).fold
    # KFold(10) without shuffling: neighbors stay together, the first 23 % 10 folds are one longer
    assert fold.tolist() == [n for n in range(3) for _ in range(3)] + [
        n for n in range(3, 10) for _ in range(2)
    ]


class Runs:
    """A pickle of this calls a function when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("function", [os.mkdir, os.system, exec, eval, __import__])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_executes_nothing(tmp_path: Path, function: Any, protocol: int) -> None:
    mark = tmp_path / "executed"
    argument = str(mark) if function is os.mkdir else f"__import__('os').mkdir({str(mark)!r})"
    path = tmp_path / "evil.bin"
    path.write_bytes(pickle.dumps(([Runs(function, argument)], [True]), protocol=protocol))
    with pytest.raises(DataError) as caught:
        load_bin(path)
    assert not mark.exists()
    message = str(caught.value)
    assert message.startswith(f"{path}: is not a plain insightface .bin of bytes and booleans (names ")
    assert message.endswith("); nothing was executed")
    if function is os.mkdir:  # the trap is real: the standard reader falls into it
        pickle.loads(path.read_bytes())
        assert mark.exists()


@pytest.mark.parametrize(
    "stream",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"Pwhatever\n.",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.",
        b"\x80\x02]q\x00h\x00a.",  # a list that holds itself
        b"",
        b"\x80",
        b"garbage",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02(K\x01K\x02d.",
    ],
)
def test_any_other_stream_is_refused(tmp_path: Path, stream: bytes) -> None:
    path = tmp_path / "evil.bin"
    path.write_bytes(stream)
    with pytest.raises(DataError, match=r"evil.bin: "):
        load_bin(path)


def test_truncated_file_is_refused_at_every_length(tmp_path: Path) -> None:
    whole = pickle.dumps(([b"ab", b"cd"] * 10, [True] * 10), protocol=2)
    for length in range(len(whole)):
        path = tmp_path / "cut.bin"
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            load_bin(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2, 3], "must hold images and same-or-not flags, got list"),
        (([b"a", "b"] * 10, [True] * 10), "its images must be a list of encoded images (bytes)"),
        (([b"a"] * 20, [2] * 10), "its same-or-not flags must be a list of booleans"),
        (
            ([b"a"] * 19, [True] * 10),
            "holds 19 images for 10 pairs; two a pair and at least 10 pairs are needed",
        ),
        (([b"a"] * 20, [False] * 10), "all 10 pairs are impostor; a verification set needs both kinds"),
        (([b"a"] * 4, [True] * 2), "holds 4 images for 2 pairs; two a pair and at least 10 pairs are needed"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "x.bin"
    data = io.BytesIO()
    pickle.dump(content, data, protocol=4)
    path.write_bytes(data.getvalue())
    with pytest.raises(DataError) as caught:
        load_bin(path)
    assert str(caught.value) == f"{path}: {message}"


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_bin(tmp_path / "none.bin")
    assert str(caught.value) == f"{tmp_path / 'none.bin'}: cannot be read (No such file or directory)"


@pytest.mark.parametrize("protocol", [2, 4])
def test_images_stay_in_the_file_where_they_can_and_read_the_same(tmp_path: Path, protocol: int) -> None:
    images = [draw(number % 7, 0) for number in range(20)]
    loaded = load_bin(write_bin(tmp_path / "x.bin", images, [True, False] * 5, protocol))
    archive = loaded.image_set.archive  # type: ignore[attr-defined]
    assert type(archive).__name__ == ("_FileArchive" if protocol == 4 else "_ListArchive")
    for number, image in enumerate(images):
        side = loaded.right if number % 2 else loaded.left
        assert archive.read(str(int(side[number // 2]))) == image


def test_numpy_in_a_bin_is_refused_with_the_way_on(tmp_path: Path) -> None:
    path = tmp_path / "np.bin"
    path.write_bytes(pickle.dumps(([b"x"], [np.bool_(True)])))
    with pytest.raises(DataError, match=r"nothing was executed; pickle it again as \(\[bytes\(image\)"):
        load_bin(path)


def test_an_image_is_encoded_once(tmp_path):
    name = b"X\x06\x00\x00\x00latin1"
    first = b"c_codecs\nencode\nX\x00\x04\x00\x00" + 1024 * b"a" + b"q\x01" + name + b"\x86R"
    again = b"c_codecs\nencode\nh\x01" + name + b"\x86R"
    path = tmp_path / "again.bin"
    path.write_bytes(b"\x80\x02](" + first + 99 * again + b"e](" + 50 * b"\x88" + b"e\x86.")
    with pytest.raises(DataError, match="encodes more bytes than the file holds"):
        load_bin(path)
