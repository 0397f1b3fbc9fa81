import os

import pytest
import torch
from omegaconf import OmegaConf

from facedistill.config import compose
from facedistill.errors import UserError
from facedistill.runs.assembly import open_inputs
from facedistill.runs.checkpointing import Origin
from facedistill.runs.folder import RunFolder
from facedistill.runs.resume import checkpoint_to_continue, refuse_edited_config, report_stale_runs

NOW = Origin("aaaaaaaa", {"seed": 1}, {}, {})


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "x-aaaaaaaa")
    made.create()
    return made


def _save(path, origin=NOW):
    torch.save({"state_dict": {}, "origin": origin.as_dict()}, path)


def test_a_torn_checkpoint_is_told_deleted_and_the_one_before_continued(folder):
    for path in (folder.checkpoint, folder.previous_checkpoint):
        _save(path)
    os.truncate(folder.checkpoint, 100)
    (folder.path / ".last.ckpt.writing").touch()
    said = []
    assert checkpoint_to_continue(folder, NOW, said.append) == folder.previous_checkpoint
    assert said == [
        f"{folder.checkpoint} is damaged and is deleted; the checkpoint before it is whole",
        f"continuing {folder.path} from its checkpoint before the last",
    ]
    assert [file.name for file in folder.path.iterdir()] == ["previous.ckpt"]


def test_a_renamed_folder_is_refused_and_loses_nothing(folder):
    _save(folder.checkpoint, Origin("bbbbbbbb", {"seed": 2}, {}, {}))
    said = []
    with pytest.raises(UserError, match="made under something else: seed was 2 and is 1"):
        checkpoint_to_continue(folder, NOW, said.append)
    assert said == []
    assert folder.checkpoint.exists()


def test_there_may_be_nothing_to_continue(folder):
    assert checkpoint_to_continue(folder, NOW, pytest.fail) is None


@pytest.fixture
def composed():
    return compose("train", ["debug=smoke"])


def _keep(folder, config):
    (folder.path / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))


def test_an_edited_config_is_refused_by_its_keys(folder, composed):
    origin = open_inputs(composed).origin
    refuse_edited_config(folder, origin)  # there is none yet
    _keep(folder, composed)
    refuse_edited_config(folder, origin)
    composed.optimizer.lr = 0.5
    composed.callbacks.log_every_steps = 7  # has no effect on the student
    _keep(folder, composed)
    with pytest.raises(UserError) as caught:
        refuse_edited_config(folder, origin)
    assert (
        "not the configuration that its run was started with: optimizer.lr was 0.001 and is 0.5; change"
        in str(caught.value)
    )


def test_a_run_whose_teacher_or_faces_changed_is_named_when_another_begins(tmp_path, composed):
    origin = open_inputs(composed).origin
    now = RunFolder(tmp_path / f"smoke-{origin.identity}")
    for name, status, files, seed in (
        ("smoke-00000001", "interrupted", {**origin.files, "data": "c" * 64}, composed.seed),
        ("smoke-00000002", "finished", {**origin.files, "data": "c" * 64}, composed.seed),
        ("smoke-00000003", "interrupted", origin.files, 77),  # another experiment
    ):
        other = RunFolder(tmp_path / name)
        other.create()
        other.update_record(status=status, files=dict(files))
        _keep(other, OmegaConf.merge(composed, {"seed": seed}))
    said = []
    report_stale_runs(now, origin, "smoke", said.append)
    assert said == [
        f"{tmp_path / 'smoke-00000001'} is unfinished and cannot be continued: data was cccccccccccc and is absent; "
        f"starting {now.path}"
    ]
