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
def interrupted(tmp_path):
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


def test_student_of_the_last_checkpoint_is_exported_as_unfinished(interrupted):
    folder, student = interrupted
    assert is_unfinished(folder)
    assert export_last_checkpoint(folder) == (
        f"{folder.student} is unfinished: 48 of 128 images; the command in run.json continues it"
    )
    loaded = load_student(folder.student)
    assert isinstance(loaded, TinyFaR)
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in student.state_dict().items())
    assert read_metadata(folder.student)["metadata"]["unfinished"] == {"images_seen": 48, "images": 128}
    assert folder.record().unfinished == {"images_seen": 48, "images": 128}


def test_files_of_an_earlier_student_are_deleted(interrupted, capsys):
    folder, _ = interrupted
    exported = [folder.path / f"student.{name}" for name in ("int8.onnx", "onnx", "rgb.pt2")]
    export_last_checkpoint(folder)
    (folder.path / "student.openvino").mkdir()
    for path in exported:
        path.touch()
    export_last_checkpoint(folder)  # of the same checkpoint
    assert all(path.exists() for path in exported)
    torch.save({**torch.load(folder.checkpoint), "images_seen": 64}, folder.checkpoint)
    export_last_checkpoint(folder)
    assert [path.name for path in folder.path.glob("student.*")] == ["student.safetensors"]
    assert capsys.readouterr().err == (
        "student.int8.onnx, student.openvino, student.rgb.pt2: of the student before this one, and deleted; export again\n"
    )


def test_no_checkpoint_no_student(interrupted):
    folder, _ = interrupted
    folder.checkpoint.unlink()
    assert export_last_checkpoint(folder) is None
    with pytest.raises(UserError, match=r"has no student.safetensors yet"):
        evaluate_run(folder)


@pytest.mark.parametrize("status", ["trained", "finished"])
def test_trained_run_is_not_unfinished(interrupted, status):
    folder, _ = interrupted
    folder.update_record(status=status)
    assert not is_unfinished(folder)


def test_evaluation_and_results_say_that_the_student_is_unfinished(interrupted, monkeypatch, capsys):
    folder, _ = interrupted
    monkeypatch.setattr("facedistill.runs.evaluate.load_teacher", lambda *parts: torch.nn.Identity())
    monkeypatch.setattr("facedistill.runs.evaluate.evaluates_generated_pairs", lambda config: False)
    monkeypatch.setattr("facedistill.runs.evaluate.count_macs", lambda network: 0)
    monkeypatch.setattr("facedistill.runs.evaluate._run", lambda *parts: {})
    monkeypatch.setattr(torch.nn.Identity, "network", torch.nn.Identity(), raising=False)
    results = evaluate_run(folder)
    assert results.unfinished == {"images_seen": 48, "images": 128}
    assert "is unfinished: 48 of 128 images" in capsys.readouterr().err
