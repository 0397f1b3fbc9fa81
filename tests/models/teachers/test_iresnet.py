"""IResNet: the released layout, its arithmetic written again in float64, and every file that must be refused."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from facedistill.assets import obtain
from facedistill.assets.own_file import card_of
from facedistill.errors import AssetError, ConfigError
from facedistill.models.cost import count_macs, count_params
from facedistill.models.teachers import FrozenTeacher, IResNet
from facedistill.models.teachers.checkpoint import read_state_dict
from facedistill.models.teachers.golden import draw_faces
from facedistill.models.teachers.iresnet import convert
from facedistill.models.weights import write_weights
from facedistill.system.paths import config_dir
from facedistill.types import InputSpec
from tests.helpers.pickles import Hostile
from tests.models.teachers.arcface_layout import BLOCKS, arcface_state

pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return arcface_state()


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any], Path]:
    def write(content: Any) -> Path:
        path = tmp_path / "backbone.pth"
        torch.save(content, path)
        return path

    return write


def reference(state: dict[str, Tensor], images: Tensor, epsilon: float) -> Tensor:
    """arcface_torch's forward pass in float64, read from the keys alone."""
    s = {key: value.double() for key, value in state.items()}

    def norm(maps: Tensor, key: str) -> Tensor:
        shape = (1, -1) + (1,) * (maps.ndim - 2)
        mean, variance, gain, offset = (
            s[f"{key}.{name}"].view(shape) for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (maps - mean) / (variance + epsilon).sqrt() * gain + offset

    def prelu(maps: Tensor, key: str) -> Tensor:
        return torch.where(maps > 0, maps, maps * s[f"{key}.weight"].view(1, -1, 1, 1))

    x = prelu(norm(F.conv2d(images.double(), s["conv1.weight"], padding=1), "bn1"), "prelu")
    for key in dict.fromkeys(".".join(k.split(".")[:2]) for k in s if k.startswith("layer")):
        stride = 2 if key.endswith(".0") else 1
        y = norm(F.conv2d(norm(x, f"{key}.bn1"), s[f"{key}.conv1.weight"], padding=1), f"{key}.bn2")
        y = F.conv2d(prelu(y, f"{key}.prelu"), s[f"{key}.conv2.weight"], stride=stride, padding=1)
        if stride == 2:
            x = norm(F.conv2d(x, s[f"{key}.downsample.0.weight"], stride=2), f"{key}.downsample.1")
        x = norm(y, f"{key}.bn3") + x
    x = norm(x, "bn2").flatten(1) @ s["fc.weight"].T + s["fc.bias"]
    return norm(x, "features")


def test_equals_the_released_arithmetic_in_float64(state: dict[str, Tensor]) -> None:
    network = IResNet(18, embedding_dim=8, epsilon=2e-5).eval().double()
    network.load_state_dict(state)
    images = draw_faces(1)
    with torch.no_grad():
        torch.testing.assert_close(
            network(images.double()), reference(state, images, 2e-5), rtol=0, atol=1e-9
        )


@pytest.mark.parametrize("layers", BLOCKS)
def test_has_the_released_keys(layers: int) -> None:
    with torch.device("meta"):
        network = IResNet(layers, embedding_dim=8)
    released = arcface_state(layers) if layers == 18 else None
    assert len(network.state_dict()) == 7 + sum(18 * n + 6 for n in BLOCKS[layers]) + 12
    if released is not None:
        assert list(network.state_dict()) == list(released)
        assert {k: v.shape for k, v in network.state_dict().items()} == {
            k: v.shape for k, v in released.items()
        }


@pytest.mark.parametrize(("layers", "millions"), [(18, 24.03), (34, 34.14), (50, 43.59), (100, 65.16)])
def test_params_are_the_published_ones(layers: int, millions: float) -> None:
    with torch.device("meta"):
        assert count_params(IResNet(layers)) / 1e6 == pytest.approx(millions, abs=0.02)


@pytest.mark.slow
def test_macs_are_the_published_ones() -> None:
    assert count_macs(IResNet(100)) / 1e9 == pytest.approx(12.1, abs=0.1)


def test_converts_what_others_save(
    state: dict[str, Tensor], save: Callable[[Any], Path], tmp_path: Path
) -> None:
    plain = convert({"backbone.pth": save(state)})
    assert all(torch.equal(plain[key], state[key]) for key in state)
    older = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    wrapped = {f"module.{key}": value for key, value in older.items()}
    magface = {"state_dict": {f"features.module.{key}": value for key, value in state.items()}}
    magface["state_dict"]["fc.weight"] = torch.zeros(8, 3)
    for content in (older, wrapped, magface, {"state_dict": state, "epoch": 3}):
        again = convert({"backbone.pth": save(content)})
        assert all(torch.equal(again[key], state[key]) for key in older)
    half = convert(
        {"backbone.pth": save({k: v.half() if v.is_floating_point() else v for k, v in state.items()})}
    )
    assert half["fc.weight"].dtype == torch.float32
    write_weights(tmp_path / "backbone.safetensors", state, {})
    kept = convert({"backbone.safetensors": tmp_path / "backbone.safetensors"})
    assert all(torch.equal(kept[key], state[key]) for key in state)


def test_one_key_missing_and_one_extra_are_both_named(
    state: dict[str, Tensor], save: Callable[[Any], Path]
) -> None:
    changed = {key: value for key, value in state.items() if key != "layer2.1.bn3.weight"}
    changed["classifier.weight"] = torch.zeros(2, 2)
    with pytest.raises(AssetError) as caught:
        convert({"backbone.pth": save(changed)})
    assert str(caught.value) == (
        "backbone.pth, read as IResNet-18, does not fit IResNet: it lacks layer2.1.bn3.weight, has unknown "
        "classifier.weight; give weights of this network"
    )


@pytest.mark.parametrize("form", ["zip", "bare", "nested"])
def test_a_pickle_that_runs_a_command_runs_nothing(
    state: dict[str, Tensor], save: Callable[[Any], Path], tmp_path: Path, form: str
) -> None:
    mark, bomb = tmp_path / "executed", Hostile(tmp_path / "executed")
    path = tmp_path / "backbone.pth"
    if form == "bare":
        path.write_bytes(pickle.dumps({"conv1.weight": bomb}))
    else:
        save(bomb if form == "zip" else {"state_dict": {"conv1.weight": state["conv1.weight"]}, "hook": bomb})
    with pytest.raises(AssetError) as caught:
        convert({"backbone.pth": path})
    assert not mark.exists()
    assert str(caught.value) == (
        "backbone.pth holds Python objects besides tensors, which could run code when read; extract the tensors "
        "without running it: `facedistill teacher convert backbone.pth --out backbone.safetensors`"
    )
    torch.load(path, weights_only=False) if form != "bare" else pickle.loads(path.read_bytes())
    assert mark.exists()  # so the file was a real bomb


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"\n<!DOCTYPE html><html>quota exceeded",
            "is a web page, not a checkpoint; download the file itself",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "is a Git LFS pointer, not a checkpoint; run `git lfs pull` in its folder",
        ),
        (b"", "is truncated or not a torch checkpoint (EOFError); fetch it again"),
    ],
)
def test_a_file_that_is_no_checkpoint(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "backbone.pth"
    path.write_bytes(content)
    with pytest.raises(AssetError) as caught:
        convert({"backbone.pth": path})
    assert str(caught.value) == f"backbone.pth {message}"


@pytest.mark.parametrize("wrap", [
    lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
    lambda state: {"epoch": 3, "state_dict_backbone": state, "state_dict_softmax_fc": {}, "state_optimizer": {}},
    lambda state: {"model": state, "model_ema": {"x": 0}},
])  # fmt: skip
def test_what_training_scripts_put_around_the_weights(wrap, save, capsys) -> None:
    wrapped = wrap({"conv.weight": torch.ones(2), "conv.bias": torch.zeros(1)})
    assert read_state_dict(save(wrapped)).keys() == {"conv.weight", "conv.bias"}
    if "model_ema" in wrapped:
        expected = "backbone.pth: the weights under 'model' are taken, not those under model_ema\n"
        assert capsys.readouterr().err == expected


def test_a_truncated_checkpoint(state: dict[str, Tensor], save: Callable[[Any], Path]) -> None:
    path = save(state)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(
        AssetError, match=r"^backbone\.pth is truncated or not a torch checkpoint \(\w+\); fetch it again$"
    ):
        convert({"backbone.pth": path})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not a state dict; give a file of tensors by name"),
        ({"a": 3}, "holds a int under 'a'; give a file of tensors by name"),
        (
            {"a": torch.zeros(1)},
            "is not an IResNet: its first keys are a; give an arcface_torch backbone.pth",
        ),
    ],
)
def test_another_content(save: Callable[[Any], Path], content: Any, message: str) -> None:
    with pytest.raises(AssetError) as caught:
        convert({"backbone.pth": save(content)})
    assert str(caught.value) == f"backbone.pth {message}"


def settings(name: str, **changes: Any) -> dict[str, Any]:
    return yaml.safe_load((config_dir() / "teacher" / f"{name}.yaml").read_text()) | changes


def test_a_file_of_ones_own_becomes_a_teacher(
    state: dict[str, Tensor], save: Callable[[Any], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(state)
    node = settings("iresnet18", file=str(path))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    card = card_of(node, "teacher")
    assert f"backbone.pth has sha256 {found}; pin it with teacher.sha256={found}" in capsys.readouterr().err
    teacher = FrozenTeacher(IResNet(18, 8), obtain(card, quiet=True), InputSpec(**node["input_spec"]))
    images = draw_faces(1)
    torch.testing.assert_close(teacher(images).double(), reference(state, images, 1e-5), rtol=0, atol=1e-4)
    assert obtain(card_of(node | {"sha256": found}, "teacher"), quiet=True) == obtain(card, quiet=True)
    plain = obtain(card_of(node | {"convert": None}, "teacher"), quiet=True)  # nothing to convert
    assert plain.read_bytes() == path.read_bytes()


def test_a_wrong_hash_stops(state: dict[str, Tensor], save: Callable[[Any], Path]) -> None:
    path = save(state)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(AssetError) as caught:
        obtain(card_of(settings("iresnet18", file=str(path), sha256="f" * 64), "teacher"), quiet=True)
    assert str(caught.value) == (
        f"asset iresnet18: member backbone.pth has sha256 {found}, the card demands {'f' * 64}; it was altered or cut "
        "short, do not use it"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"file": None},
            "teacher.file: iresnet18 needs the path of your own weights; give teacher.file=/path/to/file",
        ),
        ({"file": "/no/such.pth"}, "teacher.file=/no/such.pth: there is no such file"),
        (
            {"asset": "w600k_mbf", "file": "/a"},
            "teacher.file: has no meaning with teacher.asset=w600k_mbf; give one",
        ),
        (
            {"file": __file__, "sha256": "abc"},
            "teacher.sha256: expected 64 lower-case hexadecimal digits, got 'abc'",
        ),
    ],
)
def test_mistakes_in_the_configuration(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        card_of(settings("iresnet18", **changes), "teacher")
    assert str(caught.value) == message


def test_a_named_asset_keeps_its_card() -> None:
    assert card_of(settings("w600k_mbf"), "teacher").name == "w600k_mbf"


def test_unknown_depth() -> None:
    with pytest.raises(
        ConfigError,
        match=re.escape("backbone.layers: IResNet has no size 101; choose one of 18, 34, 50, 100, 200"),
    ):
        IResNet(101)
