"""Students, timm networks and torch programs as teachers."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import timm
import torch
import yaml
from torch import Tensor, nn

from facedistill.assets import obtain
from facedistill.assets.own_file import card_of
from facedistill.config import compose, validate
from facedistill.errors import AssetError, ConfigError
from facedistill.export import save_student
from facedistill.models.backbones import TinyFaR
from facedistill.models.teachers import FrozenTeacher, Student, TimmNetwork, TorchProgram
from facedistill.models.teachers.golden import draw_faces
from facedistill.models.teachers.student import convert as convert_student
from facedistill.models.teachers.timm_network import convert as convert_timm
from facedistill.models.teachers.torch_program import convert as convert_program
from facedistill.models.weights import read_weights, write_weights
from facedistill.system.paths import config_dir
from facedistill.types import InputSpec

pytestmark = pytest.mark.usefixtures("empty_cache")


class Pooled(nn.Module):
    """(N, 3, 112, 112) to (N, 48)."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.linspace(0.5, 2, 48))

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images, 4).flatten(1) * self.gain


@pytest.fixture
def student(tmp_path: Path) -> tuple[TinyFaR, Path]:
    torch.manual_seed(0)
    network = TinyFaR("c", embedding_dim=16).eval()
    save_student(network, tmp_path / "student.safetensors", {"run": "x"})
    return network, tmp_path / "student.safetensors"


def test_a_student_teaches(student: tuple[TinyFaR, Path]) -> None:
    network, path = student
    words = ["teacher=student", f"teacher.file={path}", "teacher.embedding_dim=16"]
    config = compose("train", words)
    validate(config)
    teacher = FrozenTeacher(Student(16), obtain(card_of(config.teacher, "teacher"), quiet=True), InputSpec())
    images = draw_faces(2)
    with torch.no_grad():
        torch.testing.assert_close(teacher(images), network(images))
    assert torch.equal(copy.deepcopy(teacher)(images), teacher(images))


def test_a_student_that_is_not_complete_or_of_another_width(
    student: tuple[TinyFaR, Path], tmp_path: Path
) -> None:
    _, path = student
    write_weights(tmp_path / "w.safetensors", convert_student({path.name: path}), {})
    with pytest.raises(ConfigError) as caught:
        FrozenTeacher(Student(512), tmp_path / "w.safetensors", InputSpec())
    assert str(caught.value) == (
        "teacher.embedding_dim: 512, but the student's embeddings have 16 dimensions; set it to 16"
    )
    state, metadata = read_weights(path)
    key = next(iter(state))
    state["extra"] = state.pop(key)
    write_weights(path, state, metadata)
    with pytest.raises(AssetError) as caught_asset:
        convert_student({path.name: path})
    assert str(caught_asset.value) == (
        f"student.safetensors does not fit TinyFaR: it lacks {key}, has unknown extra; give weights of this network"
    )
    write_weights(path, state, {"facedistill": '{"backbone": {"class": "Module", "arguments": {}}}'})
    with pytest.raises(
        AssetError, match=r"^student\.safetensors is a student of the backbone 'Module' with {}, which"
    ):
        convert_student({path.name: path})
    write_weights(path, state, {})
    with pytest.raises(AssetError) as caught_asset:
        convert_student({path.name: path})
    assert (
        str(caught_asset.value)
        == "student.safetensors describes no student; give a student.safetensors of a run"
    )


def program(path: Path, kind: str) -> Path:
    if kind == "script":
        torch.jit.save(torch.jit.script(Pooled()), path)
    elif kind == "trace":
        torch.jit.save(torch.jit.trace(Pooled(), draw_faces(1)), path)
    else:
        dynamic = {"images": {0: torch.export.Dim("n")}} if kind == "export" else None
        faces = draw_faces(2 if kind == "export" else 1)
        torch.export.save(torch.export.export(Pooled(), (faces,), dynamic_shapes=dynamic), path)
    return path


@pytest.mark.parametrize("kind", ["script", "trace", "export", "export of one"])
def test_a_program_answers_as_the_module_did(tmp_path: Path, kind: str) -> None:
    path = program(tmp_path / ("m.pt2" if "export" in kind else "m.pt"), kind)
    write_weights(tmp_path / "w.safetensors", convert_program({path.name: path}), {})
    teacher = FrozenTeacher(TorchProgram(48, trusted=True), tmp_path / "w.safetensors", InputSpec())
    images = draw_faces(3)
    with torch.no_grad():
        torch.testing.assert_close(teacher(images), Pooled()(images))
    assert torch.equal(copy.deepcopy(teacher)(images), teacher(images))
    assert teacher.state_dict() == {}
    narrow = FrozenTeacher(TorchProgram(7, trusted=True), tmp_path / "w.safetensors", InputSpec())
    with pytest.raises(
        ConfigError, match=r"^teacher\.embedding_dim: 7, but the program's embeddings have shape \(48,\)"
    ):
        narrow(images)


def test_a_program_runs_only_where_it_is_trusted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        TorchProgram(48)
    assert str(caught.value) == (
        "teacher.network.trusted: a TorchScript or torch.export file is a program, which can read and write your files; "
        "set teacher.network.trusted=true if you trust its author, or give weights or ONNX"
    )
    node = yaml.safe_load((config_dir() / "teacher" / "torch_program.yaml").read_text())
    assert node["network"]["trusted"] is False
    path = tmp_path / "weights.pt"
    torch.save(Pooled().state_dict(), path)
    with pytest.raises(AssetError) as caught_asset:
        convert_program({path.name: path})
    assert str(caught_asset.value) == (
        "weights.pt is neither TorchScript nor a torch.export file; save it with torch.jit.save or torch.export.save"
    )


def test_any_timm_network_with_a_local_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    wanted = timm.create_model("tinynet_e", num_classes=16).eval()
    path = tmp_path / "net.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in wanted.state_dict().items()}}, path)
    words = [
        "teacher=timm",
        f"teacher.file={path}",
        "teacher.embedding_dim=16",
        "teacher.network.name=tinynet_e",
    ]
    config = compose("train", words)
    validate(config)
    weights = obtain(card_of(config.teacher, "teacher"), quiet=True)
    teacher = FrozenTeacher(TimmNetwork("tinynet_e", 16), weights, InputSpec())
    with torch.no_grad():
        torch.testing.assert_close(teacher(draw_faces(2)), wanted(draw_faces(2)))
    state = convert_timm({path.name: path})
    del state["model.conv_stem.weight"]
    write_weights(tmp_path / "cut.safetensors", state, {})
    with pytest.raises(
        AssetError, match=r"does not fit TimmNetwork: it lacks model\.conv_stem\.weight; give weights"
    ):
        FrozenTeacher(TimmNetwork("tinynet_e", 16), tmp_path / "cut.safetensors", InputSpec())


def test_mistakes_with_timm() -> None:
    with pytest.raises(
        ConfigError, match=r"^teacher\.network\.name=tinynet_x: timm .* has no such network; did you mean"
    ):
        TimmNetwork("tinynet_x")
    with pytest.raises(ConfigError, match=r"^teacher\.network\.arguments: timm's tinynet_e does not take "):
        TimmNetwork("tinynet_e", 16, {"no_such": 1})
    with pytest.raises(
        ConfigError, match=r"^teacher\.embedding_dim: 16, but tinynet_e ends in 1280; set it to 1280$"
    ):
        TimmNetwork("tinynet_e", 16, {"num_classes": 0})
