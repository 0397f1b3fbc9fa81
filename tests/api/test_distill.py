"""`distill` starts the run of the command line; modules of a program take the places of groups."""

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

import facedistill as fd
from facedistill.api import distill as api
from facedistill.api.overrides import as_overrides
from facedistill.config import compose, validate
from facedistill.config.overrides import parsed
from facedistill.errors import ConfigError
from facedistill.models.backbones import MobileFaceNet
from facedistill.models.teachers import FrozenTeacher
from facedistill.runs.frozen_networks import load_teacher
from facedistill.runs.inputs import open_inputs
from facedistill.runs.sources import instantiate
from facedistill.types import InputSpec
from tests.helpers.errors import error_message
from tests.helpers.photographs import small_student


class Own(nn.Module):
    """A network that facedistill does not know."""

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(56), nn.Flatten(), nn.Linear(12, width))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


class Stopped(Exception):  # noqa: N818
    """Carries what would have been trained."""


@pytest.fixture
def started(monkeypatch, tmp_path, empty_cache):
    """Calls `distill`, which stops before the training; returns configuration, overrides and inputs."""

    def stop(*arguments):
        raise Stopped(*arguments)

    monkeypatch.setattr(api, "train", stop)

    def call(*overrides, **settings):
        with pytest.raises(Stopped) as caught:
            fd.distill(*overrides, runs_dir=str(tmp_path / "runs"), **settings)
        return caught.value.args

    return call


def test_the_same_settings_are_the_same_run(started, tmp_path):
    config, overrides, inputs = started(
        "experiment=demo", student="mobilenetv2", teacher="w600k_mbf", data="stylegan", images=32_000,
        optimizer={"lr": 1e-3}, seed=7,
    )  # fmt: skip
    line = [
        "experiment=demo",
        "data=stylegan",
        "optimizer.lr=1e-3",
        "seed=7",
        f"runs_dir={tmp_path / 'runs'}",
    ]
    expected = compose("train", [*line, "backbone=mobilenetv2", "teacher=w600k_mbf", "images=32000"])
    assert config == expected
    assert inputs.folder.path == open_inputs(expected).folder.path
    assert compose("train", overrides) == expected


@pytest.mark.parametrize(
    "value", ["a b", "it's", "a,b", "7", "null", "x=y", "[1]", "a b/ü.onnx", "", "${a}", "a\\"]
)
def test_texts_are_read_back(value):
    (line,) = as_overrides({"key": value})
    assert parsed(line).value() == value


def test_modules_take_the_places_of_groups(started):
    torch.manual_seed(0)
    student, teacher = Own(16), Own(16)
    teacher.input_spec = InputSpec(color="BGR")
    modules = {"student": student, "teacher": teacher, "images": 256, "teacher.licence": "MIT"}
    first, recorded, inputs = started(**modules)
    validate(first)
    assert "backbone=<Own of a program>" in recorded
    faces = torch.rand(2, 3, 112, 112) * 2 - 1
    torch.testing.assert_close(instantiate(first.backbone)(faces), student(faces))
    loaded = load_teacher(first)
    assert isinstance(loaded, FrozenTeacher)
    torch.testing.assert_close(loaded(faces), teacher(faces.flip(1)).detach())
    assert first.teacher.licence == "MIT"
    assert started(**modules)[2].folder.path == inputs.folder.path
    with torch.no_grad():
        student.layers[2].bias += 1
    assert started(**modules)[2].folder.path != inputs.folder.path


def test_a_student_file_is_a_start_and_a_teacher(started, tmp_path):
    path = small_student(tmp_path / "student.safetensors")
    config, _, _ = started(student=path, teacher=path, images=256)
    validate(config)
    assert isinstance(instantiate(config.backbone), MobileFaceNet)
    assert OmegaConf.select(config, "teacher.embedding_dim") == 32


def test_a_list_names_several_teachers(started):
    config, _, _ = started(student="mobilenetv2", teacher=["w600k_mbf", "edgeface_s"], images=256)
    assert list(config.teacher.others) == ["edgeface_s"]


def test_keys_below_a_module_have_their_kind(started):
    below = {"teacher.compile": True, "teacher.licence": "MIT, or so", "teacher.input_spec.mean": 3}
    config, _, _ = started("++teacher.card.accuracy=0.5", teacher=Own(), images=256, **below)
    assert config.teacher.compile is True
    assert config.teacher.licence == "MIT, or so"
    assert (config.teacher.input_spec.mean, config.teacher.card.accuracy) == (3, 0.5)
    sentence = error_message(ConfigError, fd.distill, teacher=Own(), images=256, **{"teacher.licens": "MIT"})
    assert sentence.startswith(
        "teacher.licens=MIT: cannot be set below a module, whose keys are name, file, "
    )


def test_mistakes_are_sentences(started):
    assert error_message(ConfigError, fd.distill, data="no/such/folder").startswith(
        "data=no/such/folder: is no path, and no choice; there are faces, folder, "
    )
    assert "unknown override 'imagse'" in error_message(ConfigError, fd.distill, imagse=3)
    sentence = error_message(ConfigError, fd.distill, student=nn.Conv2d(1, 1, 1))
    assert sentence.startswith("Conv2d cannot embed faces (2, 3, 112, 112) (RuntimeError: ")
    wrong = Own(16)
    for width in (8, -1, "16"):
        wrong.embedding_dim = width
        for use in (
            fd.load,
            lambda network: fd.distill(student=network),
            lambda network: fd.distill(teacher=network),
        ):
            assert error_message(ConfigError, use, wrong) == (
                f"Own has embedding_dim={width}, and its embeddings have 16 dimensions; correct the attribute"
            )
    sentence = error_message(ConfigError, fd.distill, student=Own(), **{"backbone.embedding_dim": 64})
    assert sentence.startswith("backbone.embedding_dim=64: the student is a module, which is used as it is")
    assert "expected a number, a text" in error_message(ConfigError, fd.distill, seed=object())
    assert error_message(ConfigError, fd.distill, student=Own).endswith(
        "; give an object, Own(…), not the class"
    )
    assert error_message(ConfigError, fd.distill, Own()).startswith("Own: expected key=value or group=choice")
    assert "data=['a', 'b']: expected a choice" in error_message(ConfigError, fd.distill, data=["a", "b"])
    sentence = error_message(ConfigError, fd.distill, student=Own(64), images=256, method="cosine")
    assert "give a student with 512 outputs, or use a method that compares relations" in sentence
    sentence = error_message(ConfigError, fd.distill, "teacher=sface", teacher=Own(), images=256)
    assert sentence == "teacher=sface: a module is given as teacher already; leave one out"
