"""Class-per-folder images: order, labels, and each thing that a folder can be wrong in."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from facedistill.data.formats.folder import FolderFaces
from facedistill.errors import DataError
from tests.helpers.errors import error_message


def tree(root: Path, *files: str) -> Path:
    """Files whose content is their own name."""
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def refused(path: Path, message: str) -> None:
    assert error_message(DataError, FolderFaces, path) == message


def test_identities_and_images_are_sorted_by_name(tmp_path: Path) -> None:
    names = ["b/1.JPG", "b/0.png", "a-b/x.webp", "a/2.jpeg", "a/deep/1.bmp", "a/10.jpg", "c/z.jpg"]
    faces = FolderFaces(tree(tmp_path, *names))
    expected = ["a/10.jpg", "a/2.jpeg", "a/deep/1.bmp", "a-b/x.webp", "b/0.png", "b/1.JPG", "c/z.jpg"]
    assert [faces.encoded(index).decode() for index in range(len(faces))] == expected
    assert faces.identities == ["a", "a-b", "b", "c"]
    assert faces.labels is not None
    assert faces.labels.dtype == np.int64
    assert faces.labels.tolist() == [0, 0, 0, 1, 2, 2, 3]
    assert faces.where(3) == f"{tmp_path}/a-b/x.webp"


def test_hidden_and_other_files_are_no_images(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.jpg", "b/1.jpg", "a/.2.jpg", ".git/1.jpg", "a/notes.txt", "list.txt", "a/Thumbs.db")
    (tmp_path / "empty").mkdir()
    faces = FolderFaces(tmp_path)
    assert [faces.encoded(index).decode() for index in range(len(faces))] == ["a/1.jpg", "b/1.jpg"]
    assert faces.identities == ["a", "b"]


def test_a_flat_folder_is_unlabeled(tmp_path: Path) -> None:
    faces = FolderFaces(tree(tmp_path, "2.jpg", "1.jpg"))
    assert faces.labels is None
    assert faces.identities == []
    assert [faces.encoded(index) for index in range(2)] == [b"1.jpg", b"2.jpg"]


def test_what_is_refused(tmp_path: Path) -> None:
    refused(
        tmp_path / "no", f"{tmp_path}/no: is not a folder; give the folder that holds one folder per identity"
    )
    one = tree(tmp_path / "one", "anna/1.jpg", "anna/2.jpg")
    refused(
        one,
        f"{one}: holds one identity only (anna, 2 images), and labels need two; give the folder of several "
        f"identities, or {one}/anna for an unlabeled set",
    )
    assert FolderFaces(one / "anna").labels is None
    mixed = tree(tmp_path / "mixed", "a/1.jpg", "a/2.jpg", "b/1.jpg", "3.jpg")
    refused(
        mixed,
        f"{mixed}: holds 1 images itself and 3 in 2 folders; move the former into folders of their identities, "
        "or give one kind alone",
    )
    bare = tree(tmp_path / "bare", "a/notes.txt")
    refused(
        bare,
        f"{bare}: holds no images (.bmp, .jfif, .jpe, .jpeg, .jpg, .png, .webp); give a folder of images",
    )
    empty = tree(tmp_path / "empty", "a/1.jpg", "b/1.jpg", "b/2.jpg")
    for name in ("b/1.jpg", "b/2.jpg"):
        (empty / name).write_bytes(b"")
    refused(empty, f"{empty}: 2 of 3 images have zero bytes, the first b/1.jpg; replace or remove them")


def test_empty_images_are_dropped_where_damage_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.jpg")
    (tmp_path / "b/1.jpg").write_bytes(b"")
    faces = FolderFaces(tmp_path, truncated="drop")
    assert [faces.encoded(index) for index in range(len(faces))] == [b"a/1.jpg", b"b/2.jpg"]
    assert faces.damage == [f"{tmp_path}/b/1.jpg has zero bytes; replace or remove it"]
    assert capsys.readouterr().err == f"left out: {faces.damage[0]}\n"
    (tmp_path / "a/1.jpg").write_bytes(b"")
    (tmp_path / "b/2.jpg").write_bytes(b"")
    message = f"{tmp_path}: 3 of 3 images have zero bytes, the first a/1.jpg; replace or remove them"
    assert error_message(DataError, FolderFaces, tmp_path, truncated="drop") == message


def test_types_that_are_not_read_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path, "a/1.jfif", "a/2.JPE", "b/1.gif", "b/2.GIF", "b/3.tiff", "b/4.jpg", "b/note.txt")
    faces = FolderFaces(tmp_path)
    assert [faces.encoded(index) for index in range(len(faces))] == [b"a/1.jfif", b"a/2.JPE", b"b/4.jpg"]
    said = "left out images of types that are not read: 2 .gif, 1 .tiff; convert them to PNG"
    assert capsys.readouterr().err == f"{tmp_path}: {said}\n"


def test_an_image_that_vanishes(tmp_path: Path) -> None:
    faces = FolderFaces(tree(tmp_path, "1.jpg", "2.jpg"))
    (tmp_path / "2.jpg").unlink()
    with pytest.raises(DataError) as caught:
        faces.encoded(1)
    assert str(caught.value) == f"{tmp_path}/2.jpg cannot be read (No such file or directory)"


def test_fingerprint_follows_content_and_not_the_place(tmp_path: Path) -> None:
    names = ("a/1.jpg", "a/2.jpg", "b/1.jpg")
    first = FolderFaces(tree(tmp_path / "x", *names))
    assert FolderFaces(tree(tmp_path / "y", *names)).fingerprint == first.fingerprint
    assert pickle.loads(pickle.dumps(first)).encoded(2) == b"b/1.jpg"
    (tmp_path / "y/a/2.jpg").write_bytes(b"a/3.jpg")
    assert FolderFaces(tmp_path / "y").fingerprint != first.fingerprint
    (tmp_path / "x/b").rename(tmp_path / "x/c")
    assert FolderFaces(tmp_path / "x").fingerprint != first.fingerprint
