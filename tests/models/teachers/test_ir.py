"""IR and IR-SE: the layout of AdaFace, CVLface and InsightFace_Pytorch, and their arithmetic written again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.errors import AssetError, ConfigError
from facedistill.models.cost import count_params
from facedistill.models.teachers import IR
from facedistill.models.teachers.golden import draw_faces
from facedistill.models.teachers.ir import convert, describe
from facedistill.models.weights import write_weights

WIDTHS = [64] * 2 + [128] * 2 + [256] * 2 + [512] * 2  # IR-18


def ir_state(
    squeeze: bool = False, middle_norm: bool = True, affine: bool = False, dim: int = 8
) -> dict[str, Tensor]:
    """An IR-18 under the released names, random, independently of facedistill's module."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def conv(key: str, width: int, before: int, side: int) -> None:
        state[f"{key}.weight"] = (
            torch.randn(width, before, side, side, generator=generator) / (before * side**2) ** 0.5
        )

    def norm(key: str, width: int, gain: bool = True) -> None:
        if gain:
            state[f"{key}.weight"] = 1 + 0.1 * torch.randn(width, generator=generator)
            state[f"{key}.bias"] = 0.1 * torch.randn(width, generator=generator)
        state[f"{key}.running_mean"] = 0.1 * torch.randn(width, generator=generator)
        state[f"{key}.running_var"] = 0.5 + torch.rand(width, generator=generator)
        state[f"{key}.num_batches_tracked"] = torch.tensor(5)

    def prelu(key: str, width: int) -> None:
        state[f"{key}.weight"] = 0.5 * torch.rand(width, generator=generator)

    conv("input_layer.0", 64, 3, 3)
    norm("input_layer.1", 64)
    prelu("input_layer.2", 64)
    before = 64
    for number, width in enumerate(WIDTHS):
        unit, n = f"body.{number}", 2 + middle_norm
        if before != width:
            conv(f"{unit}.shortcut_layer.0", width, before, 1)
            norm(f"{unit}.shortcut_layer.1", width)
        norm(f"{unit}.res_layer.0", before)
        conv(f"{unit}.res_layer.1", width, before, 3)
        if middle_norm:
            norm(f"{unit}.res_layer.2", width)
        prelu(f"{unit}.res_layer.{n}", width)
        conv(f"{unit}.res_layer.{n + 1}", width, width, 3)
        norm(f"{unit}.res_layer.{n + 2}", width)
        if squeeze:
            block = f"{unit}.res_layer.{'se_block' if middle_norm else '5'}"
            conv(f"{block}.fc1", width // 16, width, 1)
            conv(f"{block}.fc2", width, width // 16, 1)
        before = width
    norm("output_layer.0", 512)
    state["output_layer.3.weight"] = torch.randn(dim, 512 * 49, generator=generator) / 158
    state["output_layer.3.bias"] = torch.randn(dim, generator=generator)
    norm("output_layer.4", dim, affine)
    return state


def reference(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """The released forward pass in float64, read from the keys alone."""
    s = {key: value.double() for key, value in state.items()}

    def norm(maps: Tensor, key: str) -> Tensor:
        gain, offset = s.get(f"{key}.weight"), s.get(f"{key}.bias")
        return F.batch_norm(maps, s[f"{key}.running_mean"], s[f"{key}.running_var"], gain, offset, eps=1e-5)

    x = norm(F.conv2d(images.double(), s["input_layer.0.weight"], padding=1), "input_layer.1")
    x = F.prelu(x, s["input_layer.2.weight"])
    for number in range(len(WIDTHS)):
        stride, res = 2 if number % 2 == 0 else 1, f"body.{number}.res_layer"
        kept = x[:, :, ::stride, ::stride]
        if f"body.{number}.shortcut_layer.0.weight" in s:
            key = f"body.{number}.shortcut_layer"
            kept = norm(F.conv2d(x, s[f"{key}.0.weight"], stride=stride), f"{key}.1")
        y, n = F.conv2d(norm(x, f"{res}.0"), s[f"{res}.1.weight"], padding=1), 2
        if f"{res}.2.running_mean" in s:
            y, n = norm(y, f"{res}.2"), 3
        y = F.conv2d(F.prelu(y, s[f"{res}.{n}.weight"]), s[f"{res}.{n + 1}.weight"], stride=stride, padding=1)
        y = norm(y, f"{res}.{n + 2}")
        for block in (f"{res}.se_block", f"{res}.5"):
            if f"{block}.fc1.weight" in s:
                means = y.mean((2, 3)) @ s[f"{block}.fc1.weight"].flatten(1).T
                y = y * torch.sigmoid(means.relu() @ s[f"{block}.fc2.weight"].flatten(1).T)[:, :, None, None]
        x = y + kept
    x = norm(x, "output_layer.0").flatten(1) @ s["output_layer.3.weight"].T + s["output_layer.3.bias"]
    return norm(x, "output_layer.4")


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any], Path]:
    def write(content: Any) -> Path:
        torch.save(content, tmp_path / "ir.ckpt")
        return tmp_path / "ir.ckpt"

    return write


@pytest.mark.parametrize(
    "layout", [{}, {"squeeze": True}, {"squeeze": True, "middle_norm": False, "affine": True}], ids=str
)
def test_equals_the_released_arithmetic_in_float64(
    layout: dict[str, bool], save: Callable[[Any], Path]
) -> None:
    state = ir_state(**layout)
    converted = convert({"ir.ckpt": save(state)})
    arguments = describe(state)
    assert arguments == {"layers": 18, "embedding_dim": 8, **layout}
    network = IR(**arguments).eval().double()
    network.load_state_dict(converted)
    images = draw_faces(1)
    with torch.no_grad():
        torch.testing.assert_close(network(images.double()), reference(state, images), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("layers", "millions"), [(18, 24.02), (50, 43.59), (100, 65.15)])
def test_params_are_the_published_ones(layers: int, millions: float) -> None:
    with torch.device("meta"):
        assert count_params(IR(layers)) / 1e6 == pytest.approx(millions, abs=0.02)


def test_takes_the_network_out_of_full_checkpoints(save: Callable[[Any], Path], tmp_path: Path) -> None:
    state = ir_state()
    adaface = {f"model.{key}": value for key, value in state.items()}
    adaface |= {"head.kernel": torch.zeros(8, 3), "head.t": torch.zeros(1), "head.batch_mean": torch.zeros(1)}
    for content in (
        {
            "epoch": 25,
            "global_step": 9,
            "state_dict": adaface,
            "optimizer_states": [],
            "hyper_parameters": {},
        },
        {f"net.{key}": value for key, value in state.items()},
        {f"model.net.{key}": value.half() for key, value in state.items() if "num_batches" not in key},
    ):
        found = convert({"ir.ckpt": save(content)})
        for key, value in found.items():
            assert value.dtype in (torch.float32, torch.int64)
            if "num_batches" not in key:
                torch.testing.assert_close(value, state[key], rtol=1e-3, atol=1e-3)
    write_weights(
        tmp_path / "model.safetensors", {f"model.net.{key}": value for key, value in state.items()}, {}
    )
    found = convert({"model.safetensors": tmp_path / "model.safetensors"})
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_one_key_missing_and_one_extra_are_both_named(save: Callable[[Any], Path]) -> None:
    state = {f"model.{key}": value for key, value in ir_state().items()} | {"neck.weight": torch.zeros(1)}
    del state["model.body.3.res_layer.5.weight"]
    with pytest.raises(AssetError) as caught:
        convert({"ir.ckpt": save({"state_dict": state})})
    assert str(caught.value) == (
        "ir.ckpt, read as IR-18, does not fit IR: it lacks body.3.res_layer.5.weight, has unknown neck.weight; give "
        "weights of this network"
    )


def test_another_content_and_an_unknown_depth(save: Callable[[Any], Path]) -> None:
    with pytest.raises(AssetError) as caught:
        convert({"ir.ckpt": save({"a": torch.zeros(1)})})
    assert str(caught.value) == (
        "ir.ckpt is not an IR network: its first keys are a; give an AdaFace, CVLface or TFace checkpoint"
    )
    with pytest.raises(
        ConfigError, match=r"^teacher\.network\.layers: expected one of 18, 34, 50, 100, got 101$"
    ):
        IR(101)
