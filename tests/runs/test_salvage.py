import pytest
import torch
from omegaconf import OmegaConf

from facedistill.config import compose
from facedistill.errors import UserError
from facedistill.export import load_student, read_metadata
from facedistill.models.backbones import TinyFaR
from facedistill.runs.evaluate import evaluate_run
from facedistill.runs.folder import RunFolder
from facedistill.runs.salvage import export_last_checkpoint, is_unfinished
from facedistill.runs.sources import instantiate


@pytest.fixture
def cut_short(tmp_path):
    """A run that was killed after 48 of 128 images, and its student."""
    folder = RunFolder(tmp_path / "smoke-0a0a0a0a")
    folder.create()
    config = compose("train", ["debug=smoke"])
    (folder.path / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    folder.update_record(status="running")
    torch.manual_seed(5)
    student = instantiate(config.backbone)
    state = {f"student.{name}": value for name, value in student.state_dict().items()}
    torch.save({"state_dict": {**state, "head.weight": torch.zeros(2)}, "images_seen": 48}, folder.checkpoint)
    return folder, student


def test_the_student_of_the_last_checkpoint_can_be_used_and_says_that_it_is_unfinished(cut_short):
    folder, student = cut_short
    assert is_unfinished(folder)
    assert export_last_checkpoint(folder) == (
        f"{folder.student} is unfinished: 48 of 128 images; the command in run.json goes on"
    )
    loaded = load_student(folder.student)
    assert isinstance(loaded, TinyFaR)
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in student.state_dict().items())
    assert read_metadata(folder.student)["metadata"]["unfinished"] == {"images_seen": 48, "images": 128}
    assert folder.record().unfinished == {"images_seen": 48, "images": 128}


def test_without_a_checkpoint_there_is_nothing_to_export(cut_short):
    folder, _ = cut_short
    folder.checkpoint.unlink()
    assert export_last_checkpoint(folder) is None
    with pytest.raises(UserError, match=r"has no student.safetensors yet"):
        evaluate_run(folder)


@pytest.mark.parametrize("status", ["trained", "finished"])
def test_a_trained_run_is_not_unfinished(cut_short, status):
    folder, _ = cut_short
    folder.update_record(status=status)
    assert not is_unfinished(folder)


def test_evaluate_says_it_and_the_results_say_it(cut_short, monkeypatch, capsys):
    folder, _ = cut_short
    monkeypatch.setattr("facedistill.runs.evaluate.load_teacher", lambda *parts: torch.nn.Identity())
    monkeypatch.setattr("facedistill.runs.evaluate.uses_generated_faces", lambda config: False)
    monkeypatch.setattr("facedistill.runs.evaluate.count_macs", lambda network: 0)
    monkeypatch.setattr("facedistill.runs.evaluate._run", lambda *parts: {})
    monkeypatch.setattr(torch.nn.Identity, "network", torch.nn.Identity(), raising=False)
    results = evaluate_run(folder)
    assert results.unfinished == {"images_seen": 48, "images": 128}
    assert "is unfinished: 48 of 128 images" in capsys.readouterr().err
