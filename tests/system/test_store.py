"""Stores that are slow, absent or refuse: asked again with a note, or one sentence."""

import errno
from pathlib import Path

import pytest

from facedistill.errors import DataError
from facedistill.system import store as module
from facedistill.system.store import Store
from tests.helpers.errors import error_message


class NoCredentialsError(Exception):
    """As botocore's."""


class Failing:
    """A file system whose first answers are errors."""

    protocol = "failing"

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def cat_file(self, path: str, **kwargs: object) -> bytes:
        if self.errors:
            raise self.errors.pop(0)
        return path.encode()


def failing(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> tuple[Store, list[float]]:
    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    fs = Failing(*errors)
    monkeypatch.setattr(Store, "_connected", lambda self: (fs, "bucket"))
    return Store("s3://bucket"), pauses


def test_a_store_that_fails_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, pauses = failing(monkeypatch, TimeoutError("read timed out"), ConnectionResetError("reset"))
    assert store.read("a.tar") == b"bucket/a.tar"
    assert pauses == [1, 2]
    assert capsys.readouterr().err.splitlines() == [
        "s3://bucket/a.tar: read timed out; asking again in 1 s",
        "s3://bucket/a.tar: reset; asking again in 2 s",
    ]
    store, pauses = failing(monkeypatch, *[TimeoutError("read timed out")] * 9)
    assert error_message(DataError, store.read, "a.tar") == (
        "s3://bucket/a.tar: no answer in 6 attempts (read timed out); check the network and the store, then run the same "
        "command again"
    )
    assert pauses == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FileNotFoundError("no bucket"), "does not exist (no bucket); check the bucket and the path"),
        (PermissionError("Forbidden"), "access refused (Forbidden); check the credentials and their rights"),
        (
            NoCredentialsError("Unable to locate credentials"),
            "no valid credentials (Unable to locate credentials); set AWS_PROFILE or those of your store, then run it again",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "cannot be copied (No space left on device); free space on this machine",
        ),
    ],
)
def test_what_another_attempt_cannot_change(
    monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    store, pauses = failing(monkeypatch, error)
    assert error_message(DataError, store.read, "a.tar") == f"s3://bucket/a.tar: {says}"
    assert pauses == []


def test_protocols_that_cannot_be_opened() -> None:
    assert error_message(DataError, Store("nowhere://bucket").names) == (
        "nowhere://bucket: cannot be opened (Protocol not known: nowhere); s3:// needs `pip install 'facedistill[s3]'`, "
        "other protocols the package that fsspec names"
    )
    assert "chained addresses are not supported" in error_message(
        DataError, Store, "simplecache::s3://bucket"
    )


@pytest.mark.parametrize("address", ["memory://bucket/files", "{}", "file://{}"])
def test_files_come_back(address: str, tmp_path: Path) -> None:
    store = Store(address.format(tmp_path / "folder"))
    assert store.files() == {}
    store.write("a.txt", b"hello")
    (tmp_path / "own").write_bytes(b"of mine")
    store.upload("b.txt", tmp_path / "own")
    assert {name: size for name, (size, _) in store.files().items()} == {"a.txt": 5, "b.txt": 7}
    assert (store.read("a.txt"), store.read_range("b.txt", 3, 9)) == (b"hello", b"mine")
    store.download("b.txt", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"of mine"
    before = store.files()
    store.write("a.txt", b"other")
    assert store.files()["a.txt"] != before["a.txt"]
    store.remove("a.txt")
    store.remove("a.txt")
    assert (store.has("a.txt"), store.names()) == (False, {"b.txt"})
