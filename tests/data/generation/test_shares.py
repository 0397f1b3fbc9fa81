"""A set that several processes render: the bytes of one process, whatever is repeated, interrupted or copied in."""

import json
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from facedistill.data.formats.open import open_faces
from facedistill.data.generation import shard as shard_module
from facedistill.data.generation.plan import SetPlan, describe
from facedistill.data.generation.synthetic_set import make_synthetic_set
from facedistill.errors import ConfigError, DataError
from facedistill.models.synthetic_identities import (
    ChosenIdentities,
    SyntheticIdentities,
    render_identity_images,
)
from facedistill.system.store import Store
from tests.helpers.tiny_networks import TinyGenerator, TinyTeacher

SETTINGS = SyntheticIdentities(identities=6, seed=5, spread=0.4, max_identity_cosine=0.9)
GENERATOR, TEACHER = TinyGenerator(), TinyTeacher()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path / "cache"))


def make(folder: Path | str, share: tuple[int, int] | None = None, seed: int = 5, per_shard: int = 5):
    settings = replace(SETTINGS, seed=seed)
    return make_synthetic_set(
        GENERATOR, TEACHER, folder, settings, 4, per_shard=per_shard, share=share, quiet=True
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shares_are_together_what_one_process_makes(tmp_path: Path) -> None:
    alone = make(tmp_path / "alone")
    out = tmp_path / "out"
    assert make(out, (1, 2)).missing == 3
    with pytest.raises(DataError) as caught:
        open_faces(out)
    assert str(caught.value) == (
        f"{out}/faces.json: the generation of this set is not finished; run the remaining `facedistill generate --shard`"
    )
    again = make(out, (1, 2))
    assert (again.missing, again.is_new, again.meta) == (3, False, {})
    assert make(out, (0, 3)).missing == 2
    made = make(out, (0, 2))
    assert (made.missing, made.meta) == (0, alone.meta)
    assert contents(out) == contents(tmp_path / "alone")
    assert not make(out, (2, 3)).is_new
    memory = make("memory://bucket/shares")
    assert memory.meta == alone.meta
    store = Store("memory://bucket/shares")
    assert {name: store.read(name) for name in store.names()} == contents(out)
    assert not any(path.suffix != ".lock" for path in (tmp_path / "cache/generation").rglob("*.*"))


def test_an_interrupted_shard_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_module, "_PART", 2)
    calls: list[int] = []

    def counted(fail_at: int, *arguments: object) -> object:
        if len(calls) == fail_at:
            raise KeyboardInterrupt
        calls.append(1)
        return render_identity_images(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(shard_module, "render_identity_images", partial(counted, 4))
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "out", (0, 1))
    monkeypatch.setattr(shard_module, "render_identity_images", partial(counted, -1))
    make(tmp_path / "out", (0, 1))
    assert len(calls) == 4 * 3 + 2  # the parts of five shards, none twice
    make(tmp_path / "alone")
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_another_set_is_refused(tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    make(out, (0, 2))
    for changed, says in (
        ({"seed": 6}, "seed 5 instead of 6"),
        ({"per_shard": 6}, "per_shard 5 instead of 6"),
    ):
        with pytest.raises(DataError) as caught:
            make(out, (1, 2), **changed)
        assert str(caught.value) == f"{out}: holds another set ({says}); name another folder or delete it"
    make(other, (1, 2), seed=6)
    for name in ("000001.tar", "000001.safetensors"):
        (out / name).write_bytes((other / name).read_bytes())
    with pytest.raises(DataError) as caught:
        make(out, (1, 2))
    assert str(caught.value) == (
        f"{out}/000001.tar: holds another set (seed 6 instead of 5); name another folder or delete it"
    )
    (tmp_path / "photos/anna").mkdir(parents=True)
    with pytest.raises(DataError, match="photos: is there and is no set of generated faces"):
        make(tmp_path / "photos")
    with pytest.raises(ConfigError, match=r"share 2/2: must be i/n"):
        make(out, (2, 2))


def test_the_id_of_a_set_covers_every_byte(tmp_path: Path) -> None:
    """Two renderings that differ in one image among thousands have different fingerprints."""
    make(tmp_path / "out")
    before = open_faces(tmp_path / "out").fingerprint
    path = tmp_path / "out/faces.json"
    note = json.loads(path.read_text())
    note["shards"]["000001.tar"]["sha256"] = "0" * 64
    path.write_text(json.dumps(note))
    with pytest.raises(DataError, match="is damaged"):
        open_faces(tmp_path / "out")
    from facedistill.data.formats.shards.note import bytes_id

    path.write_text(json.dumps({**note, "id": bytes_id(note["shards"])}))
    assert open_faces(tmp_path / "out").fingerprint != before
    del note["id"]  # as written before sets had one: the fingerprint is that of the records
    path.write_text(json.dumps(note))
    assert open_faces(tmp_path / "out").fingerprint not in (before, "")


def _job(folder: str, share: tuple[int, int], cache: str) -> None:
    os.environ["FACEDISTILL_CACHE"] = cache
    make(folder, share)


def test_processes_that_begin_at_once_choose_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    def slow(*arguments: object) -> ChosenIdentities:
        calls.append(arguments)
        time.sleep(0.1)
        return ChosenIdentities(torch.zeros(6, dtype=torch.int64), torch.ones(6, 4))

    monkeypatch.setattr(shard_module, "choose_identities", slow)
    plan = SetPlan(describe(GENERATOR, TEACHER, SETTINGS, 4), SETTINGS, 4, 95, 5)
    store = Store(tmp_path / "out")
    choose = partial(shard_module.choose, GENERATOR, TEACHER, plan, store, tmp_path, quiet=True)
    with ThreadPoolExecutor(3) as pool:
        found = [job.result() for job in [pool.submit(choose) for _ in range(3)]]
    assert len(calls) == 1
    assert [len(one.candidates) for one in found] == [6, 6, 6]


@pytest.mark.slow
def test_jobs_that_run_at_once(tmp_path: Path) -> None:
    """Every share twice at the same moment, on one machine and on two."""
    make(tmp_path / "alone")
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        for round_ in range(4):
            out = tmp_path / f"out{round_}"
            caches = [tmp_path / f"cache{round_}-{job // 4 if round_ % 2 else 0}" for job in range(8)]
            pool.starmap(_job, [(str(out), (job % 4, 4), str(caches[job])) for job in range(8)], chunksize=1)
            assert contents(out) == contents(tmp_path / "alone")
