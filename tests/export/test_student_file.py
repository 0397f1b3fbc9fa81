"""A student's file builds the same student again, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from facedistill.errors import AssetError, ConfigError, UserError
from facedistill.export import Embedder, load_student, read_metadata, save_student
from facedistill.models.backbones import Backbone, MobileFaceNet, TinyFaR, backbone_classes
from facedistill.models.weights import read_weights, write_weights
from tests.helpers.errors import error_message

FACTS = {
    "run_id": "abc123",
    "teacher": "w600k_mbf",
    "licences": [{"asset": "w600k_mbf", "licence": "research"}],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.manual_seed(5)
    save_student(MobileFaceNet("tface", embedding_dim=8), tmp_path / "student.safetensors", FACTS)
    return tmp_path / "student.safetensors"


def rewrite(path: Path, description: object) -> None:
    save_file(load_file(path), path, metadata={"facedistill": json.dumps(description)})


@pytest.mark.parametrize(
    "backbone", [TinyFaR("c", 8), MobileFaceNet("insightface", 8)], ids=lambda b: type(b).__name__
)
def test_round_trip(backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "student.safetensors"
    save_student(backbone.train(), path, FACTS)
    again = load_student(path)
    assert type(again) is type(backbone)
    assert not again.training
    assert backbone.training
    images = torch.rand(2, 3, 112, 112) * 2 - 1
    with torch.no_grad():
        assert torch.equal(again(images), backbone.eval()(images))


def test_says_what_is_inside(path: Path) -> None:
    assert read_metadata(path) == {
        "format": 1,
        "backbone": {"class": "MobileFaceNet", "arguments": {"variant": "tface", "embedding_dim": 8}},
        "embedding_dim": 8,
        "input_spec": {"size_px": 112, "color": "RGB", "mean": 127.5, "std": 127.5},
        "metadata": FACTS,
    }


def test_the_file_has_no_time_in_it(path: Path, tmp_path: Path) -> None:
    save_student(load_student(path), tmp_path / "again.safetensors", FACTS)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "backbone",
    [
        {"class": "os.system", "arguments": {"command": "true"}},
        {"class": "Backbone", "arguments": {}},
        {"class": "backbone_classes", "arguments": {}},
        {"class": "any_timm.timm_network", "arguments": {"name": "resnet18", "pretrained": False}},
        {"class": "timm_network", "arguments": {"name": "resnet18", "pretrained": False}},
        {"class": "SqueezeExcite", "arguments": {"width": 8}},
        {"class": "facedistill.models.backbones.any_timm.timm_network", "arguments": {}},
        {"class": "MobileFaceNet", "arguments": {"variant": "huge"}},
        {"class": "MobileFaceNet", "arguments": {"depth": 3}},
        {"class": ["MobileFaceNet"], "arguments": {}},
        "MobileFaceNet",
    ],
)
def test_builds_only_known_backbones(path: Path, backbone: object) -> None:
    rewrite(path, {**read_metadata(path), "backbone": backbone})
    with pytest.raises(AssetError) as caught:
        load_student(path)
    kind, arguments = (
        (backbone["class"], backbone["arguments"]) if isinstance(backbone, dict) else (None, None)
    )
    if kind is None:
        expected = "describes no backbone; give a file that facedistill has exported"
    elif "." in kind:
        module = kind.rpartition(".")[0]
        expected = (
            f"is a student of {kind}, which is no class of facedistill: loading it runs that code; if you trust it, add "
            f"trust={module} to the command line"
        )
    else:
        expected = (
            f"is a student of the backbone {kind!r} with {arguments!r}, which this version does not have"
        )
    assert str(caught.value) == f"{path} {expected}"


@pytest.mark.parametrize("width", [-1, 0, 10**8, "512", 2.5])
def test_refuses_an_impossible_width(path: Path, width: object) -> None:
    description = read_metadata(path)
    rewrite(path, {**description, "embedding_dim": width})
    message = f"{path} says embedding_dim={width!r}; expected 1 to 65536; give an intact file"
    assert error_message(AssetError, load_student, path) == message
    backbone = {
        **description["backbone"],
        "arguments": {**description["backbone"]["arguments"], "embedding_dim": width},
    }
    rewrite(path, {**description, "backbone": backbone})
    assert error_message(AssetError, load_student, path) == message


def test_a_wider_network_than_the_file_takes_no_memory(path: Path) -> None:
    description = read_metadata(path)
    backbone = {
        **description["backbone"],
        "arguments": {**description["backbone"]["arguments"], "embedding_dim": 65_536},
    }
    rewrite(path, {**description, "backbone": backbone})
    assert f"{path} does not fit" in error_message(AssetError, load_student, path)


@pytest.mark.parametrize(("change", "problem"), [
    (lambda tensor: tensor.fill_(torch.nan), "holds values that are not finite in"),
    (lambda tensor: tensor.view(torch.int32), "of int32 instead of float32"),
])  # fmt: skip
def test_refuses_damaged_values(path: Path, change, problem: str) -> None:
    state, metadata = read_weights(path)
    name = next(key for key, value in state.items() if value.is_floating_point())
    write_weights(path, {**state, name: change(state[name])}, metadata)
    message = error_message(AssetError, load_student, path)
    assert problem in message
    assert name in message


@pytest.mark.parametrize("description", [{}, [], {"format": 2}, "text"])
def test_refuses_files_of_others(path: Path, description: object) -> None:
    rewrite(path, description)
    with pytest.raises(AssetError) as caught:
        load_student(path)
    assert str(caught.value) == (
        f"{path} carries no facedistill description; give a file that facedistill has exported"
    )


def test_refuses_weights_of_another_width(path: Path) -> None:
    described = read_metadata(path)
    described["backbone"]["arguments"]["embedding_dim"] = 16
    rewrite(path, described)
    with pytest.raises(AssetError, match="does not fit MobileFaceNet: it holds head"):
        load_student(path)


def test_refuses_a_truncated_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AssetError, match="is truncated or not a safetensors file"):
        load_student(path)


def test_saves_no_network_that_nobody_could_build_again(tmp_path: Path) -> None:
    class Own(MobileFaceNet):
        pass

    with pytest.raises(ConfigError) as caught:
        save_student(Own(), tmp_path / "s.safetensors", {})
    assert (
        str(caught.value)
        == f"backbone: Own cannot be saved as a student; use one of {', '.join(backbone_classes())}"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_written(path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        save_student(MobileFaceNet(), path / "student.safetensors", {})


def test_shared_and_strided_weights_are_saved(tmp_path: Path) -> None:
    backbone = MobileFaceNet("tface", 8).to(memory_format=torch.channels_last)
    convs = [m for m in backbone.modules() if isinstance(m, nn.Conv2d) and m.weight.shape == (128, 64, 1, 1)]
    convs[1].weight = convs[0].weight
    save_student(backbone, tmp_path / "s.safetensors", {})
    images = torch.rand(1, 3, 112, 112)
    with torch.no_grad():
        torch.testing.assert_close(load_student(tmp_path / "s.safetensors")(images), backbone.eval()(images))


def test_a_collapsed_student_and_a_pytorch_file_embed_nothing(path: Path, tmp_path: Path) -> None:
    dead = MobileFaceNet(embedding_dim=8).eval()
    for tensor in dead.state_dict().values():
        tensor.zero_()
    save_student(dead, path, FACTS)
    with pytest.raises(
        AssetError, match=r"gives embeddings that are zero; the network has collapsed, take an"
    ):
        Embedder(path).embed_images(torch.zeros(1, 3, 112, 112))
    state = dead.state_dict()
    [state[name] for name in state if name.endswith("running_mean")][-1].add_(1)  # alike, and not zero
    save_student(dead, path, FACTS)
    with pytest.raises(
        AssetError, match=r"embeds noise and a ramp alike; the network has collapsed and tells"
    ):
        Embedder(path)
    torch.save({}, tmp_path / "s.pt")
    with pytest.raises(
        AssetError, match=r"s\.pt is a PyTorch file and not safetensors; `facedistill teacher add`"
    ):
        load_student(tmp_path / "s.pt")
