"""Training from a store through the command itself: interrupted, continued, with the weights of an uninterrupted run."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from facedistill.cli.main import main
from facedistill.data.formats.shards.reader import write_shards
from facedistill.data.module import FaceDataModule
from facedistill.system.store import Store
from tests.data.formats.drawn_set import DrawnSet
from tests.data.formats.packed_shards import items

pytestmark = pytest.mark.slow

OVERRIDES = (
    "debug=smoke", "images=160", "method=supervised", "data=webdataset", "data.batch_size=16", "data.validation.faces=8",
    "augment@data.source.augment=light",
)  # fmt: skip


@pytest.mark.parametrize(("protocol", "workers"), [("memory", 0), ("file", 2)])
def test_an_interrupted_run_ends_with_the_same_weights(
    protocol: str,
    workers: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    write_shards(tmp_path / "set", items(DrawnSet(8, 12)), [str(k) for k in range(8)], per_shard=40)
    local = sorted((tmp_path / "set").iterdir())
    address = f"{protocol}://{tmp_path}/store"
    for path in local:
        Store(address).upload(path.name, path)
    size = (tmp_path / "set/000000.tar").stat().st_size
    monkeypatch.setenv("FACEDISTILL_REMOTE_CACHE_GB", str(1.5 * size / 1e9))  # some are read image by image

    def train(runs: str) -> tuple[int, Path]:
        monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path / f"cache-{runs}"))
        code = main(
            [
                "train",
                *OVERRIDES,
                f"data.path={address}",
                f"data.num_workers={workers}",
                f"runs_dir={tmp_path / runs}",
            ]
        )
        (run,) = (tmp_path / runs).iterdir()
        return code, run

    code, whole = train("whole")
    assert code == 0
    assert len(list(tmp_path.glob("cache-whole/remote/*/*.tar"))) < len(local) - 1
    step = FaceDataModule.finish_step

    def interrupted(self: FaceDataModule, agreement: None) -> None:
        step(self, agreement)
        if self.next_step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(FaceDataModule, "finish_step", interrupted)
        code, cut = train("cut")
    assert code == 143
    record = json.loads((cut / "run.json").read_text())
    assert (record["status"], record["images_seen"]) == ("interrupted", 5 * 16)
    assert train("cut") == (0, cut)
    assert f"continuing {cut} from its last checkpoint" in capsys.readouterr().err
    assert (cut / "student.safetensors").read_bytes() == (whole / "student.safetensors").read_bytes()
