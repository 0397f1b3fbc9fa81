"""Miniature benchmarks in a folder and a tar; each malformed one raises a clear error."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facedistill.errors import DataError
from facedistill.evaluation.protocols import pairs
from facedistill.evaluation.protocols.archives import FolderArchive, TarArchive
from facedistill.evaluation.protocols.base import checked_embeddings
from facedistill.evaluation.protocols.images import EncodedImages, decode_tensor
from facedistill.evaluation.protocols.pairs import pairs_protocol, parse_lfw_pairs, parse_tsv_pairs
from tests.evaluation.protocols.miniature_benchmark import draw, lfw_list, write_lfw, write_tar


def test_lfw_list_is_read_as_written() -> None:
    pairs = parse_lfw_pairs("1 2\nAnn 1 4\nBob_B 2 13\nAnn 1 Bob_B 2\nCy 10 Ann 3\n", "pairs.txt")
    assert pairs.left == ["Ann/Ann_0001", "Bob_B/Bob_B_0002", "Ann/Ann_0001", "Cy/Cy_0010"]
    assert pairs.right == ["Ann/Ann_0004", "Bob_B/Bob_B_0013", "Bob_B/Bob_B_0002", "Ann/Ann_0003"]
    assert pairs.same == [True, True, False, False]
    assert pairs.fold == [0, 0, 0, 0]
    assert parse_lfw_pairs(lfw_list(), "").fold == [0] * 8 + [1] * 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "p: line 1 must hold the numbers of folds and of pairs (10 300), got []"),
        ("300\nA 1 2\n", "p: line 1 must hold the numbers of folds and of pairs (10 300), got ['300']"),
        (
            "2 2\nA 1 2\nB 1 2\nA 1 B 1\n",
            "p: holds 3 pairs, and its first line announces 8; download it again",
        ),
        ("1 1\nA 1 B 2\nA 1 B 2\n", "p: line 2 must read 'Name i j', got 'A 1 B 2'"),
        ("1 1\nA 1 2\nA 1 2\n", "p: line 3 must read 'Name i Other j', got 'A 1 2'"),
        ("1 1\n\nA 1 x\nA 1 B 2\n", "p: line 3 must read 'Name i j', got 'A 1 x'"),
        *(
            (f"1 1\nA 1 {digits}\nA 1 B 2\n", f"p: line 2 must read 'Name i j', got 'A 1 {digits}'")
            for digits in ("٣", "²", "1_0", "+1", "-1", "1" * 5000)
        ),
        (
            "1 ¹\nA 1 2\nA 1 B 2\n",
            "p: line 1 must hold the numbers of folds and of pairs (10 300), got ['1', '¹']",
        ),
    ],
)
def test_broken_lfw_list_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_lfw_pairs(text, "p")
    assert str(caught.value) == message


def test_tsv_list_is_read_as_written() -> None:
    pairs = parse_tsv_pairs("# a comment\n001/f/01.jpg\t001/p/02.jpg\t1\t0\n1.png\tb c.jpg\t0\t9\n", "t")
    assert (pairs.left, pairs.right) == (["001/f/01", "1"], ["001/p/02", "b c"])
    assert (pairs.same, pairs.fold) == ([True, False], [0, 9])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\t1\n", "t: line 1 must hold imageA, imageB, same (0 or 1), fold; got 'a\\tb\\t1'"),
        ("a\tb\t1\t²\n", "t: line 1 must hold imageA, imageB, same (0 or 1), fold; got 'a\\tb\\t1\\t²'"),
        ("a\tb\tyes\t0\n", "t: line 1 must hold imageA, imageB, same (0 or 1), fold; got 'a\\tb\\tyes\\t0'"),
        ("# none\n", "t: needs genuine and impostor pairs in at least two folds; found 0 pairs"),
        (
            "a\tb\t1\t0\na\tb\t1\t1\n",
            "t: needs genuine and impostor pairs in at least two folds; found 2 pairs",
        ),
    ],
)
def test_broken_tsv_list_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_tsv_pairs(text, "t")
    assert str(caught.value) == message


def test_tar_equals_folder(tmp_path: Path) -> None:
    folder = write_lfw(tmp_path)
    pairs = parse_lfw_pairs(lfw_list(), "")
    unpacked = pairs_protocol("lfw", FolderArchive(folder), pairs)
    packed = pairs_protocol("lfw", TarArchive(write_tar(folder, tmp_path / "x.tar")), pairs)
    assert unpacked.num_images == packed.num_images == 16
    a = dict(zip(unpacked.image_set.names, torch.cat(list(unpacked.images(5))), strict=True))
    b = dict(zip(packed.image_set.names, torch.cat(list(packed.images(7))), strict=True))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    left = [unpacked.image_set.names[i] for i in unpacked.left]
    assert left == [packed.image_set.names[i] for i in packed.left] == pairs.left


def test_only_wanted_images_are_read_and_each_once(tmp_path: Path) -> None:
    folder = write_lfw(tmp_path)
    (folder / "other.png").write_bytes(b"not an image")
    text = "a.png\tb.png\t1\t0\nPerson_A/Person_A_0001.png\tPerson_B/Person_B_0001.png\t0\t1\n"
    text = text.replace("a.png\tb.png", "Person_A/Person_A_0001.png\tPerson_A/Person_A_0002.png")
    protocol = pairs_protocol("x", FolderArchive(folder), parse_tsv_pairs(text, "t"))
    assert protocol.num_images == 3
    faces = torch.cat(list(protocol.images(2)))
    assert faces.shape == (3, 3, 112, 112)
    assert faces.dtype == torch.uint8
    pixels = Image.open(io.BytesIO(draw(1, 1))).convert("RGB")
    third = torch.tensor(list(pixels.tobytes()), dtype=torch.uint8).view(112, 112, 3).permute(2, 0, 1)
    assert torch.equal(faces[protocol.right[1]], third)


def test_missing_image_is_named(tmp_path: Path) -> None:
    folder = write_lfw(tmp_path)
    (folder / "Person_C" / "Person_C_0002.png").unlink()
    with pytest.raises(DataError) as caught:
        pairs_protocol("lfw", FolderArchive(folder), parse_lfw_pairs(lfw_list(), ""))
    assert str(caught.value) == (
        f"lfw: 1 of 16 images are missing from {folder}, the first is Person_C/Person_C_0002; "
        "add them, or use the list that belongs to these images"
    )


def test_wrong_size_is_named(tmp_path: Path) -> None:
    folder = write_lfw(tmp_path)
    (folder / "Person_A" / "Person_A_0001.png").write_bytes(draw(0, 1, size=250))
    protocol = pairs_protocol("lfw", FolderArchive(folder), parse_lfw_pairs(lfw_list(), ""))
    with pytest.raises(DataError) as caught:
        list(protocol.images())
    assert str(caught.value) == (
        f"{folder}: image Person_A/Person_A_0001 is 250x250 pixels, and faces are 112x112; run `facedistill data "
        "align` on the photographs, or on the whole set after `facedistill data convert` to a folder"
    )


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "has zero bytes"),
        (b"no image", "is no JPEG, PNG, WebP or BMP image"),
        (draw(0, 1)[:400], "is cut short or damaged (image file is truncated)"),
    ],
)
def test_broken_image_is_named(data: bytes, what: str) -> None:
    with pytest.raises(DataError) as caught:
        decode_tensor(data, "here")
    assert str(caught.value) == f"here {what}; replace or remove it"


def test_gray_image_becomes_three_equal_channels() -> None:
    data = io.BytesIO()
    Image.new("L", (112, 112), 77).save(data, "PNG")
    assert torch.equal(decode_tensor(data.getvalue(), ""), torch.full((3, 112, 112), 77, dtype=torch.uint8))


def test_sixteen_bit_gray_is_scaled_and_not_clipped() -> None:
    data = io.BytesIO()
    Image.fromarray(np.full((112, 112), 77 * 256 + 5, dtype=np.uint16)).save(data, "PNG")
    assert torch.equal(decode_tensor(data.getvalue(), ""), torch.full((3, 112, 112), 77, dtype=torch.uint8))


def test_compressed_tar_is_refused(tmp_path: Path) -> None:
    path = write_tar(write_lfw(tmp_path), tmp_path / "x.tar", "w:gz")
    with pytest.raises(
        DataError, match=r"^.*x.tar: is not an uncompressed tar \(.*\); unpack it or use plain tar$"
    ):
        TarArchive(path)


def test_truncated_tar_is_refused(tmp_path: Path) -> None:
    path = write_tar(write_lfw(tmp_path), tmp_path / "x.tar")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 100])
    with pytest.raises(DataError):
        TarArchive(path)


def test_links_out_of_a_tar_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("a/evil.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
        for name in ("a/one.png", "b/two.png"):
            info = tarfile.TarInfo(name)
            info.size = len(draw(1, 1))
            tar.addfile(info, io.BytesIO(draw(1, 1)))
    assert TarArchive(path).names() == ["a/one", "b/two"]  # two top folders: nothing is left out


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        (tmp_path / name).write_bytes(draw(0, 0))
    with pytest.raises(DataError) as caught:
        FolderArchive(tmp_path)
    assert str(caught.value) == f"{tmp_path}: holds two images named a; remove one of them"


def test_fingerprint_tells_content_apart(tmp_path: Path) -> None:
    folder = write_lfw(tmp_path)
    archive = FolderArchive(folder)
    before = EncodedImages(archive, archive.names()).fingerprint()
    assert EncodedImages(FolderArchive(folder), archive.names()).fingerprint() == before
    (folder / "Person_A" / "Person_A_0001.png").write_bytes(draw(0, 7))
    assert EncodedImages(archive, archive.names()).fingerprint() != before


@pytest.mark.parametrize(
    ("embeddings", "what"),
    [
        (torch.zeros(4, 3), "all 4 embeddings are zero; the network has collapsed"),
        (
            torch.tensor([[1.0, 2.0]]) * torch.arange(1, 5)[:, None],
            "all 4 embeddings point in one direction; the",
        ),
        (torch.full((4, 3), torch.nan), "4 of 4 embeddings are not finite; the network has diverged"),
    ],
)
def test_embeddings_that_tell_no_two_faces_apart_are_refused(embeddings: torch.Tensor, what: str) -> None:
    with pytest.raises(DataError, match=f"^lfw: {what}"):
        checked_embeddings("lfw", embeddings)


def test_embeddings_that_differ_a_little_are_measured() -> None:
    nearly = torch.ones(4, 3) + 1e-4 * torch.eye(4, 3)
    assert checked_embeddings("lfw", nearly) is nearly


def test_lines_of_blocks_are_those_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a.jpg\tb\t1\t0\r\n\n# c\nb\ta.jpg\t0\t1"
    wanted = parse_tsv_pairs(text, "")
    monkeypatch.setattr(pairs, "_BLOCK", 1)
    assert parse_tsv_pairs(text, "") == wanted
    assert (wanted.left, wanted.right, wanted.fold) == (["a", "b"], ["b", "a"], [0, 1])
