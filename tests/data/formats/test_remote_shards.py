"""Shards in a store: the same faces as on disk, through a bounded cache that processes share."""

import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

from facedistill.data.formats.open import format_of, open_faces
from facedistill.data.formats.shards.reader import ShardFaces, write_shards
from facedistill.data.sources.stored import StoredFaces
from facedistill.errors import ConfigError, DataError
from facedistill.system.store import Store
from tests.data.formats.packed_shards import NAMES, items
from tests.helpers.errors import error_message


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path / "cache"))
    write_shards(tmp_path / "set", items(), NAMES, per_shard=5)
    return tmp_path / "set"


def uploaded(local: Path, address: str) -> str:
    store = Store(address)
    for path in local.iterdir():
        store.upload(path.name, path)
    return address


def cached(tmp_path: Path) -> list[str]:
    return sorted(
        path.name[:6] + path.suffix for path in tmp_path.glob("cache/remote/*/*.*") if path.stem[0] != "."
    )


def test_a_remote_set_is_the_local_one_and_copied_once(
    local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = uploaded(local, "memory://bucket/once")
    remote, there = open_faces(address), open_faces(local)
    assert format_of(address).config == "webdataset"
    assert (remote.fingerprint, remote.identities) == (there.fingerprint, there.identities)
    assert [remote.encoded(i) for i in range(12)] == [there.encoded(i) for i in range(12)]
    assert remote.where(5) == "memory://bucket/once/000001.tar, byte 0"
    batches = [StoredFaces(faces, seed=3).raw(7, batch_size=4) for faces in (remote, there)]
    assert np.array_equal(batches[0]["images"], batches[1]["images"])
    assert cached(tmp_path) == sorted(f"00000{n}.{kind}" for n in range(3) for kind in ("npz", "tar"))
    monkeypatch.setattr(Store, "download", None)
    again = pickle.loads(pickle.dumps(open_faces(address)))
    assert again.encoded(11) == there.encoded(11)
    assert len(open_faces("memory://bucket/once/{000001..000002}.tar")) == 7


def test_what_does_not_fit_is_read_image_by_image(
    local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {path.name: path.stat().st_size for path in local.glob("*.tar")}
    monkeypatch.setenv("FACEDISTILL_REMOTE_CACHE_GB", str((sizes["000000.tar"] + 1000) / 1e9))
    there = open_faces(local)
    for address in (
        "memory://bucket/first",
        "memory://bucket/second",
    ):  # the second takes the place of the first
        uploaded(local, address)
        for _ in range(2):
            remote = open_faces(address)
            assert [remote.encoded(i) for i in range(12)] == [there.encoded(i) for i in range(12)]
        assert [name for name in cached(tmp_path) if not name.endswith("npz")] == ["000000.tar"]
    monkeypatch.setenv("FACEDISTILL_REMOTE_CACHE_GB", "much")
    assert error_message(ConfigError, open_faces, address) == (
        "FACEDISTILL_REMOTE_CACHE_GB=much: must be a number of gigabytes from 0"
    )


def test_processes_that_open_at_once_copy_once(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, copied = uploaded(local, "memory://bucket/shared"), []
    download = Store.download
    monkeypatch.setattr(
        Store, "download", lambda self, name, target: (copied.append(name), download(self, name, target))
    )
    threads = [threading.Thread(target=ShardFaces, args=(address,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(copied) == ["000000.tar", "000001.tar", "000002.tar"]


def test_a_shard_that_changed_in_the_store(local: Path, tmp_path: Path) -> None:
    address = uploaded(local, "memory://bucket/changed")
    before = open_faces(address).fingerprint
    (local / "faces.json").unlink()
    Store(address).remove("faces.json")
    (local / "000001.tar").write_bytes((local / "000002.tar").read_bytes())
    uploaded(local, address)
    assert open_faces(address).fingerprint == open_faces(local).fingerprint != before
    write_shards(tmp_path / "other", items(), NAMES, per_shard=5)
    Store(address).upload("faces.json", tmp_path / "other/faces.json")
    assert not [name for name in cached(tmp_path) if name.endswith("writing")]
    changed = (local / "000001.tar").read_bytes()[:-512] + bytes(1024)
    Store(address).write("000001.tar", changed)
    assert error_message(DataError, open_faces, address) == (
        f"{address}/000001.tar: its sha256 is not the one in faces.json; upload it again"
    )


def test_no_shards_there(local: Path) -> None:
    assert error_message(DataError, open_faces, "memory://bucket/none") == (
        "memory://bucket/none: holds no .tar file; check the bucket and the path"
    )
    address = uploaded(local, "memory://bucket/some")
    assert error_message(DataError, open_faces, f"{address}/000009.tar") == (
        f"{address}/000009.tar: 000009.tar is not there; give the address of existing shards"
    )
