"""insightface's and FaceX-Zoo's MobileFaceNets: their names, and their arithmetic read from those names alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.errors import AssetError
from facedistill.models.backbones import MobileFaceNet
from facedistill.models.teachers import FaceXZooMobileFaceNet
from facedistill.models.teachers.golden import draw_faces
from facedistill.models.teachers.mobilefacenet import convert_facexzoo, convert_mbf

# (entry block, its inner width, output width at scale 1, blocks after it, their inner width)
STAGES = ((2, 128, 64, 4, 128), (4, 256, 128, 6, 256), (6, 512, 128, 2, 256))
FACEX = {2: "conv_23", 3: "conv_3", 4: "conv_34", 5: "conv_4", 6: "conv_45", 7: "conv_5"}
Layer = Callable[[str, Tensor, int, int, bool], Tensor]


def walk(layer: Layer, images: Tensor, scale: int, facex: bool) -> Tensor:
    """Calls `layer(key, maps, stride, groups, prelu)` for every convolution, under the released names."""

    def bottleneck(key: str, maps: Tensor, inner: int, stride: int) -> Tensor:
        parts = ("conv", "conv_dw", "project") if facex else ("layers.0", "layers.1", "layers.2")
        y = layer(f"{key}.{parts[0]}", maps, 1, 1, True)
        y = layer(f"{key}.{parts[1]}", y, stride, inner, True)
        y = layer(f"{key}.{parts[2]}", y, 1, 1, False)
        return y + maps if stride == 1 else y

    x = layer("conv1" if facex else "layers.0", images, 2, 1, True)
    x = layer("conv2_dw" if facex else "layers.1", x, 1, 64, True)
    for place, entry, _, count, inner in STAGES:
        x = bottleneck(FACEX[place] if facex else f"layers.{place}", x, entry, 2)
        for block in range(count):
            key = f"{FACEX[place + 1]}.model.{block}" if facex else f"layers.{place + 1}.layers.{block}"
            x = bottleneck(key, x, inner, 1)
    x = layer("conv_6_sep" if facex else "conv_sep", x, 1, 1, True)
    return layer("conv_6_dw" if facex else "features.layers.0", x, 1, 512, False)


def released(scale: int, facex: bool) -> tuple[dict[str, Tensor], Tensor]:
    """A random state under the released names, and what its makers' arithmetic says of two faces, in float64."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}
    names = ("conv", "bn", "prelu") if facex else ("layers.0", "layers.1", "layers.2")
    inner_of = [
        w
        for _, entry, out, count, inner in STAGES
        for w in (entry, entry, out * scale) + (inner, inner, out * scale) * count
    ]
    widths = iter([64 * scale, 64 * scale, *inner_of, 512, 512])

    def norm(key: str, width: int) -> None:
        state[f"{key}.weight"] = 1 + 0.1 * torch.randn(width, generator=generator)
        state[f"{key}.bias"] = 0.1 * torch.randn(width, generator=generator)
        state[f"{key}.running_mean"] = 0.1 * torch.randn(width, generator=generator)
        state[f"{key}.running_var"] = 0.5 + torch.rand(width, generator=generator)
        state[f"{key}.num_batches_tracked"] = torch.tensor(1)

    def apply_norm(maps: Tensor, key: str) -> Tensor:
        s = {k: state[f"{key}.{k}"].double() for k in ("running_mean", "running_var", "weight", "bias")}
        return F.batch_norm(maps, s["running_mean"], s["running_var"], s["weight"], s["bias"])

    def layer(key: str, maps: Tensor, stride: int, groups: int, prelu: bool) -> Tensor:
        width, last = next(widths), key in ("conv_6_dw", "features.layers.0")
        side = 7 if last else 3 if groups > 1 or key in ("conv1", "layers.0") else 1
        before = maps.shape[1] // groups
        weight = torch.randn(width, before, side, side, generator=generator) / (before * side**2) ** 0.5
        state[f"{key}.{names[0]}.weight"] = weight
        norm(f"{key}.{names[1]}", width)
        y = F.conv2d(maps, weight.double(), None, stride, 0 if last else side // 2, groups=groups)
        y = apply_norm(y, f"{key}.{names[1]}")
        if prelu:
            state[f"{key}.{names[2]}.weight"] = 0.5 * torch.rand(width, generator=generator)
            y = F.prelu(y, state[f"{key}.{names[2]}.weight"].double())
        return y

    x = walk(layer, draw_faces(2).double(), scale, facex).flatten(1)
    linear, bn = ("linear", "bn") if facex else ("features.layers.2", "features.layers.3")
    state[f"{linear}.weight"] = torch.randn(8, 512, generator=generator) / 22
    norm(bn, 8)
    return state, apply_norm(x @ state[f"{linear}.weight"].double().T, bn)


@pytest.mark.parametrize("facex", [False, True], ids=["mbf", "FaceX-Zoo"])
def test_equals_the_released_arithmetic_in_float64(tmp_path: Path, facex: bool) -> None:
    state, expected = released(1 if facex else 2, facex)
    path = tmp_path / "backbone.pth"
    torch.save(state, path)
    network = FaceXZooMobileFaceNet(8) if facex else MobileFaceNet("insightface", 8)
    network.load_state_dict((convert_facexzoo if facex else convert_mbf)({path.name: path}))
    with torch.no_grad():
        found = network.eval().double()(draw_faces(2).double())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_pickled_module_is_read_as_data(tmp_path: Path) -> None:
    state, _ = released(1, True)
    module = torch.nn.Module()
    for key, value in state.items():
        *places, name = key.split(".")
        part = module
        for place in places:
            if not hasattr(part, place):
                part.add_module(place, torch.nn.Module())
            part = getattr(part, place)
        part.register_buffer(name, value)
    torch.save(torch.nn.DataParallel(module), tmp_path / "net.pkl")
    torch.save(state, tmp_path / "net.pth")
    pickled, plain = (convert_facexzoo({name: tmp_path / name}) for name in ("net.pkl", "net.pth"))
    assert pickled.keys() == plain.keys()
    assert all(torch.equal(pickled[key], plain[key]) for key in plain)


def test_a_key_that_lacks_is_named_as_the_file_would(tmp_path: Path) -> None:
    state, _ = released(2, False)
    del state["layers.3.layers.1.layers.2.layers.0.weight"]
    state["fc.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "backbone.pth")
    with pytest.raises(AssetError) as caught:
        convert_mbf({"backbone.pth": tmp_path / "backbone.pth"})
    assert str(caught.value) == (
        "backbone.pth does not fit MobileFaceNet: it lacks layers.3.layers.1.layers.2.layers.0.weight, has unknown "
        "fc.weight; give weights of this network"
    )
