import errno
import os

import pytest
import torch

from facedistill.errors import UserError
from facedistill.runs.checkpointing import LastCheckpoint, newest_intact, previous_of, remove_leftovers
from facedistill.runs.checkpointing.files import replace_checkpoint


class FullDisk:
    """A trainer whose disk fills up while it writes."""

    is_global_zero, loggers = True, ()

    def save_checkpoint(self, path):
        path.write_bytes(b"half a checkpoint")
        raise OSError(errno.ENOSPC, "No space left on device")


def _save(path, number):
    torch.save({"state_dict": {"weight": torch.full((100,), float(number))}}, path)


def _two(folder):
    for number in (1, 2):
        _save(folder / ".last.ckpt.writing", number)
        replace_checkpoint(folder / ".last.ckpt.writing", folder / "last.ckpt")
    return folder / "last.ckpt"


def _number(path):
    return torch.load(path, weights_only=True)["state_dict"]["weight"][0].item()


def test_full_disk_leaves_the_last_good_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"good")
    with pytest.raises(UserError) as caught:
        LastCheckpoint(path, every_images=1)._save(FullDisk(), None)
    assert str(caught.value) == (
        f"cannot write the checkpoint {path} (No space left on device); the last good one stays: free some space and "
        "give the same command again to continue from it"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    assert path.read_bytes() == b"good"


def test_death_of_a_data_worker_is_not_reported_as_a_full_disk(tmp_path):
    class WorkerDies(FullDisk):
        def save_checkpoint(self, path):
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    with pytest.raises(RuntimeError, match="DataLoader worker"):
        LastCheckpoint(tmp_path / "last.ckpt", every_images=1)._save(WorkerDies(), None)


def test_newest_and_previous_checkpoint_exist(tmp_path):
    path = _two(tmp_path)
    assert (_number(path), _number(previous_of(path))) == (2, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert newest_intact(path) == (path, [])


@pytest.mark.parametrize("names", [["previous.ckpt"], ["previous.ckpt", ".last.ckpt.writing"]])
def test_kill_between_the_renames_leaves_the_previous_checkpoint(tmp_path, names):
    path = _two(tmp_path)
    os.replace(path, tmp_path / ".last.ckpt.writing")
    for file in tmp_path.iterdir():
        if file.name not in names:
            file.unlink()
    assert newest_intact(path) == (previous_of(path), [])


def test_truncated_at_any_byte_the_previous_checkpoint_is_used(tmp_path):
    path = _two(tmp_path)
    intact = path.read_bytes()
    for length in [*range(0, len(intact), 97), len(intact) - 1]:
        path.write_bytes(intact[:length])
        assert newest_intact(path) == (previous_of(path), [path]), length


def test_changed_byte_of_a_weight_is_detected(tmp_path):
    path = _two(tmp_path)
    content = bytearray(path.read_bytes())
    place = content.index(torch.full((100,), 2.0).numpy().tobytes()) + 40
    content[place] ^= 1
    path.write_bytes(content)
    assert newest_intact(path) == (previous_of(path), [path])


def test_message_names_both_damaged_checkpoints(tmp_path):
    path = _two(tmp_path)
    path.write_bytes(b"")
    previous_of(path).write_bytes(b"PK")
    with pytest.raises(UserError) as caught:
        newest_intact(path)
    assert str(caught.value) == (
        f"{path} and {previous_of(path)} are damaged and cannot be continued; force=true starts the run over"
    )


def test_no_checkpoint(tmp_path):
    assert newest_intact(tmp_path / "last.ckpt") == (None, [])


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    for name in (
        ".last.ckpt.writing",
        "run.json.part",
        ".run.json.0a1b2c3d.writing",
        ".student.safetensors.x1.partial",
        "student.safetensors",
    ):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["student.safetensors"]


def test_bytes_are_flushed_before_the_names_change(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(os, "fsync", lambda handle: order.append("flush"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append(b.name), replace(a, b)))
    _two(tmp_path)
    assert order[-4:] == ["flush", "previous.ckpt", "last.ckpt", "flush"]
