"""Which student a run quantizes, and how a checkpoint of it is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from facedistill.config import compose
from facedistill.errors import ConfigError
from facedistill.export import load_student
from facedistill.export.int8 import _quantized, _with_weights_of
from facedistill.models.backbones.quantized import QuantizedBackbone
from facedistill.runs.folder import RunFolder
from facedistill.runs.quantization import quantized_student, student_file
from facedistill.runs.salvage import export_last_checkpoint
from tests.helpers.onnx_graphs import float_graph


def _config(student: Path) -> DictConfig:
    return compose("train", ["debug=smoke", "quantization=qat", f"quantization.student={student}"])


def _images() -> torch.Tensor:
    return torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def interrupted(tmp_path: Path) -> tuple[RunFolder, QuantizedBackbone]:
    """A run in 8 bits that was killed, and its student."""
    model = float_graph()
    student = _with_weights_of(model, _quantized(model, _images(), method="MinMax", extra={})).eval()
    folder = RunFolder(tmp_path / "qat-0a0a0a0a")
    folder.create()
    (tmp_path / "student.safetensors").touch()
    config = _config(tmp_path / "student.safetensors")
    (folder.path / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    folder.update_record(status="running")
    state = {f"student.{name}": value for name, value in student.state_dict().items()}
    torch.save({"state_dict": state, "images_seen": 48}, folder.checkpoint)
    return folder, student


def test_a_run_folder_or_a_file_names_the_student(tmp_path: Path) -> None:
    assert student_file(compose("train", [])) is None
    with pytest.raises(ConfigError, match=r"quantization.student=.*: there is no .*; give a finished run's"):
        student_file(_config(tmp_path / "absent"))
    path = tmp_path / "student.safetensors"
    path.touch()
    assert student_file(_config(path)) == student_file(_config(tmp_path)) == path


def test_a_run_continues_with_the_ranges_of_its_checkpoint(
    interrupted: tuple[RunFolder, QuantizedBackbone],
) -> None:
    folder, student = interrupted
    config = folder.config()
    assert config is not None
    found = quantized_student(config, folder, generator=None)
    assert found is not None
    assert found.arguments == student.arguments
    found.load_state_dict(student.state_dict())
    assert torch.equal(found(_images()), student(_images()))


def test_the_student_of_an_interrupted_run_is_salvaged_in_8_bits(
    interrupted: tuple[RunFolder, QuantizedBackbone],
) -> None:
    folder, student = interrupted
    assert export_last_checkpoint(folder) is not None
    loaded = load_student(folder.student)
    assert isinstance(loaded, QuantizedBackbone)
    assert torch.equal(loaded(_images()), student(_images()))
