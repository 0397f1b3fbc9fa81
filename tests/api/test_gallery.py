"""A gallery is built, kept, read again and searched."""

import errno
import os
import sys
import zipfile

import numpy as np
import pytest
import torch

import facedistill as fd
from facedistill.api.index import Index
from facedistill.errors import DataError, UserError
from tests.helpers.errors import error_message
from tests.helpers.photographs import photograph


def test_search_ranks_and_decides(student, photos, tmp_path):
    gallery = fd.Gallery.build(student, photos, face="all", quiet=True)
    assert gallery.names == [str(photos / name) for name in ("ann.png", "bo.png", "both.png", "both.png#2")]
    assert [path for path, _ in gallery.failures] == [str(photos / "none.png")]
    for searched in (gallery, fd.Gallery.load(gallery.save(tmp_path / "gallery.npz"))):
        found = student.search(searched, photograph(1), top=3)
        assert [hit.rank for hit in found.hits] == [1, 2, 3]
        assert {hit.name for hit in found.hits[:2]} == {str(photos / "ann.png"), str(photos / "both.png#2")}
        assert [hit.same for hit in found.hits[:2]] == [True, True]
        assert found.threshold == 0.95


def test_a_gallery_of_another_student_is_refused(student, tmp_path):
    rows = torch.eye(32)[:2]
    other = fd.Gallery(["a", "b"], rows, run="other-00000000")
    sentence = error_message(UserError, student.search, other, photograph(1))
    assert sentence.startswith(
        "the gallery was embedded by other-00000000 (32 dimensions) and the model is demo-"
    )
    assert "holds no face" in error_message(
        UserError, student.search, fd.Gallery([], rows[:0]), photograph(1)
    )
    np.savez(tmp_path / "wrong.npz", files=["a"], embeddings=np.full((1, 32), np.nan, np.float32))
    assert "embed it again" in error_message(DataError, fd.Gallery.load, tmp_path / "wrong.npz")
    (tmp_path / "text.npz").write_text("no archive")
    assert "holds no embeddings" in error_message(DataError, fd.Gallery.load, tmp_path / "text.npz")


def test_what_holds_no_gallery_is_refused(student, tmp_path):
    (tmp_path / "folder.png").mkdir()
    for images in ([], tmp_path):
        assert "no image" in error_message(DataError, fd.Gallery.build, student, images, quiet=True)
    path = fd.Gallery(["a"] * 50, torch.rand(50, 32)).save(tmp_path / "damaged.npz")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("embeddings.npy").header_offset
    content[start + 30 + sum(content[start + 26 : start + 30])] = (
        0xFF  # a kind of deflate block that does not exist
    )
    path.write_bytes(content)
    assert "holds no embeddings" in error_message(DataError, fd.Gallery.load, path)
    for arrays in (
        {"files": "a", "embeddings": np.ones((1, 2))},
        {"files": ["a"], "embeddings": [["b", "c"]]},
    ):
        np.savez(tmp_path / "odd.npz", **arrays)
        assert "embed" in error_message(DataError, fd.Gallery.load, tmp_path / "odd.npz")


def test_a_large_gallery_is_searched_by_faiss():
    pytest.importorskip("faiss")
    torch.manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(1200, 16))
    exact, graph = Index(rows), Index(rows, largest_exact=1000)
    recalled = 0
    for row in rows[:50]:
        expected, found = (index.nearest(row[None], 10) for index in (exact, graph))
        assert found[0][1] == pytest.approx(1, abs=1e-5)
        recalled += len({i for i, _ in expected} & {i for i, _ in found})
    assert recalled >= 0.98 * 500


def test_without_faiss_a_large_gallery_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    sentence = error_message(UserError, Index, torch.eye(4), largest_exact=3)
    assert sentence == "a gallery of 4 faces: more than 3 need faiss; pip install faiss-cpu"


def test_a_folder_that_cannot_be_read_is_refused(student, photos, monkeypatch):
    """Its images would be left out without a word."""
    (photos / "locked").mkdir()
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    refused = error_message(DataError, fd.Gallery.build, student, photos, quiet=True)
    assert refused == f"{photos / 'locked'}: cannot be read (Permission denied)"
