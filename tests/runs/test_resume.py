import os

import pytest
import torch
from omegaconf import OmegaConf

from facedistill.config import compose
from facedistill.errors import UserError
from facedistill.runs.checkpointing import Origin
from facedistill.runs.folder import RunFolder
from facedistill.runs.inputs import open_inputs
from facedistill.runs.resume import checkpoint_to_continue, refuse_edited_config, report_stale_runs

NOW = Origin("aaaaaaaa", {"seed": 1}, {}, {})


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "x-aaaaaaaa")
    made.create()
    return made


def _save(path, origin=NOW):
    torch.save({"state_dict": {}, "origin": origin.as_dict()}, path)


def test_damaged_checkpoint_is_deleted_and_the_previous_one_continued(folder, capsys):
    for path in (folder.checkpoint, folder.previous_checkpoint):
        _save(path)
    os.truncate(folder.checkpoint, 100)
    (folder.path / ".last.ckpt.writing").touch()
    assert checkpoint_to_continue(folder, NOW) == folder.previous_checkpoint
    assert capsys.readouterr().err.splitlines() == [
        f"{folder.checkpoint} is damaged and is deleted; the checkpoint before it is intact",
        f"continuing {folder.path} from its checkpoint before the last",
    ]
    assert [file.name for file in folder.path.iterdir()] == ["previous.ckpt"]


def test_renamed_folder_is_refused_and_unchanged(folder, capsys):
    _save(folder.checkpoint, Origin("bbbbbbbb", {"seed": 2}, {}, {}))
    with pytest.raises(UserError, match="belongs to another run: seed was 2 and is 1"):
        checkpoint_to_continue(folder, NOW)
    assert capsys.readouterr().err == ""
    assert folder.checkpoint.exists()


def test_nothing_to_continue(folder, capsys):
    assert checkpoint_to_continue(folder, NOW) is None
    assert capsys.readouterr().err == ""


@pytest.fixture
def composed():
    return compose("train", ["debug=smoke"])


def _save_config(folder, config):
    (folder.path / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))


def test_edited_config_is_refused_and_its_keys_named(folder, composed):
    origin = open_inputs(composed).origin
    refuse_edited_config(folder, origin)  # there is none yet
    _save_config(folder, composed)
    refuse_edited_config(folder, origin)
    composed.optimizer.lr = 0.5
    composed.callbacks.log_every_steps = 7  # has no effect on the student
    _save_config(folder, composed)
    with pytest.raises(UserError) as caught:
        refuse_edited_config(folder, origin)
    assert (
        "not the configuration that its run was started with: optimizer.lr was 0.001 and is 0.5; change"
        in str(caught.value)
    )


def test_unfinished_run_with_changed_faces_is_reported(tmp_path, composed, capsys):
    origin = open_inputs(composed).origin
    now = RunFolder(tmp_path / f"smoke-{origin.run_id}")
    for name, status, files, seed in (
        ("smoke-00000001", "interrupted", {**origin.files, "data": "c" * 64}, composed.seed),
        ("smoke-00000002", "finished", {**origin.files, "data": "c" * 64}, composed.seed),
        ("smoke-00000003", "interrupted", origin.files, 77),  # another experiment
    ):
        other = RunFolder(tmp_path / name)
        other.create()
        other.update_record(status=status, files=dict(files))
        _save_config(other, OmegaConf.merge(composed, {"seed": seed}))
    report_stale_runs(now, origin, "smoke")
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path / 'smoke-00000001'} is unfinished and cannot be continued: data was cccccccccccc and is absent; "
        f"starting {now.path}"
    ]
