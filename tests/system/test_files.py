"""The atomic writer: a complete file or the old one, one sentence, nothing left behind."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from facedistill.errors import DataError, UserError
from facedistill.system import files
from facedistill.system.files import (
    UNFINISHED,
    atomic_path,
    new_target,
    read_npz,
    refuse_aliases,
    write_atomically,
    write_npz,
)  # fmt: skip


def _fail(code: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@contextmanager
def _only(folder: Path, name: str, content: bytes) -> Iterator[None]:
    """Demands that the block leaves one file of this content in the folder."""
    (folder / name).write_bytes(content)
    yield
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_bytes() == content


@pytest.mark.parametrize(
    "content", ["grüße", "grüße".encode(), lambda path: path.write_text("grüße", encoding="utf-8")]
)
def test_text_bytes_and_functions_are_written(tmp_path: Path, content: str) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    assert write_atomically(path, content) == path
    assert path.read_bytes() == "grüße".encode()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_failing_disk_leaves_the_old_file_and_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, code: int
) -> None:
    with _only(tmp_path, "a.txt", b"old"):
        monkeypatch.setattr(os, broken, _fail(code))
        with pytest.raises(UserError) as caught:
            write_atomically(tmp_path / "a.txt", "new")
    assert str(caught.value) == (
        f"{tmp_path / 'a.txt'} cannot be written ({os.strerror(code)}); free space or choose another folder"
    )


def test_a_disk_that_fills_up_while_it_is_written(tmp_path: Path) -> None:
    def half(path: Path) -> None:
        path.write_bytes(b"half")
        _fail(errno.ENOSPC)()

    with _only(tmp_path, "a.txt", b"old"), pytest.raises(UserError, match="No space left on device"):
        write_atomically(tmp_path / "a.txt", half)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o500)
    try:
        if os.access(folder, os.W_OK):  # root writes everywhere; a file in place of the folder stops it too
            folder.rmdir()
            folder.touch()
        with pytest.raises(UserError, match=r"a\.txt cannot be written \((Permission denied|File exists)\)"):
            write_atomically(folder / "a.txt", "text")
    finally:
        folder.chmod(0o700)


def test_an_interruption_leaves_the_old_file(tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with _only(tmp_path, "a.txt", b"old"), pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.txt", interrupted)


def test_a_killed_process_leaves_a_file_that_can_be_recognized(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from facedistill.system.files import write_atomically;"
        "write_atomically(pathlib.Path(sys.argv[1]), lambda path: (path.write_text('half'), os._exit(9)))"
    )
    (tmp_path / "a.txt").write_text("old")
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.txt")]).returncode == 9
    (left,) = (path for path in tmp_path.iterdir() if path.name != "a.txt")
    assert left.name.startswith(".a.txt.")
    assert left.suffix == UNFINISHED
    assert (tmp_path / "a.txt").read_text() == "old"


def test_concurrent_writers_leave_the_file_of_one(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda content: write_atomically(tmp_path / "a.bin", content), contents))
    assert (tmp_path / "a.bin").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_bytes_are_flushed_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(files, "flush", lambda path: order.append(path.suffix or "folder"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (order.append("rename"), replace(old, new)))
    write_atomically(tmp_path / "a.txt", "text")
    assert order == [UNFINISHED, "rename", "folder"]


def test_permissions_are_those_of_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    path = write_atomically(tmp_path / "a", lambda path: path.chmod(0o600))
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_the_kind_of_error_and_the_fix_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "a"
    with pytest.raises(DataError) as caught, atomic_path(path, DataError, "change DST"):
        pass
    assert str(caught.value) == f"{path} cannot be written (File exists); change DST"


def test_a_new_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "set"
    with new_target(target) as stage:
        stage.mkdir()
        (stage / "a.tar").write_bytes(b"a")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["a.tar"]
    assert list(target.parent.iterdir()) == [target]


def test_a_new_folder_never_replaces_one(tmp_path: Path) -> None:
    target = tmp_path / "set"

    def write() -> None:
        with new_target(target) as stage:
            stage.mkdir()
            target.mkdir()

    with pytest.raises(DataError, match="set was created by another process"):
        write()
    with pytest.raises(DataError, match="set exists already; delete it"), new_target(target):
        pass
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interrupted_new_folder_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def write() -> None:
        with new_target(tmp_path / "set") as stage:
            stage.mkdir()
            (stage / "a.tar").write_bytes(b"half")
            raise error

    with pytest.raises((KeyboardInterrupt, DataError)):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_replaced_and_its_target_stays(tmp_path):
    target = tmp_path / "elsewhere"
    target.write_text("old")
    (tmp_path / "link").symlink_to(target)
    write_atomically(tmp_path / "link", "new")
    assert target.read_text() == "old"
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_text() == "new"


def test_an_archive_of_arrays_is_read_up_to_a_limit(tmp_path, monkeypatch):
    path = write_npz(tmp_path / "a.npz", kept=np.arange(3), zeros=np.zeros(1 << 18))
    assert read_npz(path, ["kept", "missing"])["kept"].tolist() == [0, 1, 2]
    monkeypatch.setattr(files, "_UNPACKED_BYTES", 1 << 20)
    with pytest.raises(ValueError, match=r"it unpacks to 2,097,\d+ bytes, too much for its size"):
        read_npz(path, ["kept"])
    with zipfile.ZipFile(path, "w") as archive, archive.open("kept.npy", "w") as member:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 1000)}
        np.lib.format.write_array_header_1_0(member, header)
    with pytest.raises(ValueError, match=r"claims an array|EOF"):
        read_npz(path, ["kept"])


def test_a_configuration_repeats_nothing():
    refuse_aliases("a: '*x & y'\nb: *", "x.yaml")
    with pytest.raises(UserError) as caught:
        refuse_aliases("a: &a [1, 1]\nb: [*a, *a]\n", "x.yaml")
    assert str(caught.value) == "x.yaml, line 2: repeats a part by *a; write it out"
