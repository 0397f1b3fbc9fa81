"""StyleGAN2 and StyleGAN3 files in the published layouts: converted, and equal to what the layouts mean."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from facedistill.errors import AssetError
from facedistill.models.generators import StyleGANGenerator
from facedistill.models.generators.stylegan_conversion import convert, convert_here
from tests.helpers.pickles import Hostile
from tests.models.generators import stylegan_layout
from tests.models.generators.stylegan_layout import (
    LATENT_DIM,
    Persistent,
    persistence,
    rosinality,
    stylegan2,
    stylegan3,
    write_pickle,
)
from tests.models.generators.stylegan_reference import mapped, stylegan2_image, stylegan3_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stylegan")


def generator_of(path: Path, **options: Any) -> StyleGANGenerator:
    made = path.with_suffix(".safetensors")
    if not made.exists():
        save_file({k: t.contiguous() for k, t in convert_here(path, path.name).items()}, made)
    return StyleGANGenerator(made, **options)


def latents(count: int = 3) -> Tensor:
    return torch.randn(count, LATENT_DIM, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("noise", ["const", "none"])
@pytest.mark.parametrize("clamp", [None, 256, 1.5])
def test_stylegan2_equals_its_layout(folder: Path, noise: str, clamp: float | None) -> None:
    network = stylegan2(clamp=clamp)
    generator = generator_of(write_pickle(folder / f"two-{clamp}.pkl", network), noise=noise)
    w = mapped(network, latents())
    torch.testing.assert_close(generator.map(latents()).double(), w, atol=1e-5, rtol=1e-5)
    wanted = torch.stack([stylegan2_image(network, row, noise == "const") for row in w])
    assert 0.1 < float(wanted.std()) < 10
    got = generator.synthesis(w.float(), noise)
    torch.testing.assert_close(got.double(), wanted, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("kind", ["t", "r"])
def test_stylegan3_equals_its_layout(folder: Path, kind: str) -> None:
    network = stylegan3(kind)
    generator = generator_of(write_pickle(folder / f"three-{kind}.pkl", network), noise="none")
    w = mapped(network, latents(2))
    torch.testing.assert_close(generator.map(latents(2)).double(), w, atol=1e-5, rtol=1e-5)
    wanted = torch.stack([stylegan3_image(network, row) for row in w])
    assert 0.02 < float(wanted.std()) < 5
    torch.testing.assert_close(generator.synthesis(w.float(), "none").double(), wanted, atol=1e-4, rtol=1e-4)


def as_nvlabs(state: dict[str, Tensor]) -> Persistent:
    """The same network in NVlabs' layout: a modulated kernel's scale is nothing that demodulation leaves."""
    network = stylegan2()
    mapping, synthesis = network.mapping, network.synthesis
    for number in range(3):
        layer = getattr(mapping, f"fc{number}")
        layer.weight.copy_(state[f"style.{number + 1}.weight"])
        layer.bias.copy_(state[f"style.{number + 1}.bias"])
    synthesis.b4.const.copy_(state["input.input"][0])
    for number, side in enumerate(synthesis.block_resolutions):
        block = getattr(synthesis, f"b{side}")
        pairs = (
            [(block.conv1, f"convs.{2 * number - 1}", 2 * number)] if number else [(block.conv1, "conv1", 0)]
        )
        pairs += [(block.conv0, f"convs.{2 * number - 2}", 2 * number - 1)] if number else []
        for layer, key, place in pairs:
            layer.weight.copy_(state[f"{key}.conv.weight"][0])
            layer.bias.copy_(state[f"{key}.activate.bias"])
            layer.noise_strength.fill_(state[f"{key}.noise.weight"].item())
            layer.noise_const.copy_(state[f"noises.noise_{place}"][0, 0])
            layer.affine.weight.copy_(state[f"{key}.conv.modulation.weight"])
            layer.affine.bias.copy_(state[f"{key}.conv.modulation.bias"])
        key = f"to_rgbs.{number - 1}" if number else "to_rgb1"
        block.torgb.weight.copy_(state[f"{key}.conv.weight"][0])
        block.torgb.bias.copy_(state[f"{key}.bias"].flatten())
        block.torgb.affine.weight.copy_(state[f"{key}.conv.modulation.weight"])
        block.torgb.affine.bias.copy_(state[f"{key}.conv.modulation.bias"])
    return network


@pytest.mark.parametrize("wrapped", ["training checkpoint", "converted file", "bare"])
def test_rosinality_equals_its_layout(folder: Path, wrapped: str) -> None:
    state, average = rosinality(), torch.full((LATENT_DIM,), 0.25)
    content = {
        "training checkpoint": {"g": state, "g_ema": state, "d": {}, "args": Persistent("Namespace")},
        "converted file": {"g_ema": state, "latent_avg": average},
        "bare": state,
    }[wrapped]
    path = folder / f"{wrapped}.pt"
    with persistence():
        torch.save(content, path)
    generator = generator_of(path)
    network = as_nvlabs(state)
    w = mapped(network, latents())
    torch.testing.assert_close(generator.map(latents()).double(), w, atol=1e-5, rtol=1e-5)
    wanted = torch.stack([stylegan2_image(network, row, True) for row in w])
    torch.testing.assert_close(generator.synthesis(w.float(), "const").double(), wanted, atol=2e-4, rtol=2e-4)
    assert torch.equal(generator.w_avg, average if wrapped == "converted file" else generator.mean_w)


def wrong(change: Callable[[Persistent], object], make: Callable[[], Persistent] = stylegan2) -> Persistent:
    network = make()
    change(network)
    return network


def pad(network: Persistent) -> None:
    network.synthesis.L1_22_10.padding = [1, 1, 1, 1]


def rename(network: Persistent) -> None:
    network.synthesis.b8.conv0.kernel = network.synthesis.b8.conv0.weight
    del network.synthesis.b8.conv0.weight


LAYOUT = "{} is not a published StyleGAN2 or StyleGAN3 generator: {}; give NVlabs' or rosinality's own layout"
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "missing": (
        lambda: wrong(rename),
        LAYOUT.format("file.pkl", "it lacks synthesis.b8.conv0.weight"),
    ),
    "extra": (
        lambda: wrong(lambda g: g.synthesis.register_buffer("extra", torch.zeros(1))),
        LAYOUT.format("file.pkl", "it also holds synthesis.extra"),
    ),
    "missing block": (
        lambda: wrong(lambda g: delattr(g.synthesis, "b16")),
        LAYOUT.format("file.pkl", "it lacks synthesis.b16"),
    ),
    "shape": (
        lambda: wrong(lambda g: setattr(g.synthesis.b8.conv1, "noise_const", torch.zeros(4, 4))),
        LAYOUT.format("file.pkl", "it holds synthesis.b8.conv1.noise_const of shape (4, 4), not (8, 8)"),
    ),
    "resnet": (
        lambda: wrong(lambda g: setattr(g.synthesis.b8, "architecture", "resnet")),
        LAYOUT.format("file.pkl", "its synthesis.b8.architecture is 'resnet', not 'skip'"),
    ),
    "activation": (
        lambda: wrong(lambda g: setattr(g.mapping.fc1, "activation", "relu")),
        LAYOUT.format("file.pkl", "its mapping.fc1.activation is 'relu', not 'lrelu'"),
    ),
    "conditional": (
        lambda: wrong(lambda g: setattr(g, "c_dim", 10)),
        "file.pkl is conditional (c_dim=10); give an unconditional generator",
    ),
    "gray": (
        lambda: wrong(lambda g: setattr(g, "img_channels", 1)),
        LAYOUT.format("file.pkl", "its img_channels is 1, not 3"),
    ),
    "other architecture": (
        lambda: wrong(lambda g: setattr(g, "synthesis", Persistent("FastganSynthesis"))),
        LAYOUT.format("file.pkl", "its G_ema is a Generator of another architecture"),
    ),
    "padding": (
        lambda: wrong(pad, stylegan3),
        LAYOUT.format("file.pkl", "its synthesis.L1_22_10.padding is not [9, 8, 9, 8]"),
    ),
}


@pytest.mark.parametrize(("make", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_such_generator_is_one_sentence(
    tmp_path: Path, make: Callable[[], Persistent], sentence: str
) -> None:
    with pytest.raises(AssetError) as caught:
        convert_here(write_pickle(tmp_path / "file.pkl", make()), "file.pkl")
    assert str(caught.value) == sentence


@pytest.mark.parametrize(("content", "sentence"), [
    ({"G": 1, "D": 2}, "file.pkl holds G, D and no G_ema or g_ema; give a generator's file"),
    ([1, 2], "file.pkl holds a list and no G_ema or g_ema; give a generator's file"),
    ({"style.1.weight": torch.zeros(1, 1)},
     "file.pkl is not a StyleGAN2 generator of rosinality: it lacks input.input; give its g_ema"),
    (rosinality() | {"extra": torch.zeros(1)},
     "file.pkl is not a StyleGAN2 generator of rosinality: it also holds extra; give its g_ema"),
])  # fmt: skip
def test_other_contents(tmp_path: Path, content: Any, sentence: str) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(AssetError) as caught:
        convert_here(path, "file.pkl")
    assert str(caught.value) == sentence


def test_nothing_inside_the_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the process of its own: the source that every module carries, and calls beside and inside them."""
    marker = tmp_path / "marker"
    monkeypatch.setattr(stylegan_layout, "SOURCE", f"import os\nos.system('touch {marker}')")
    network = stylegan2()
    network.setting_that_runs = Hostile(marker)
    path = write_pickle(tmp_path / "file.pkl", network, augment_pipe=Hostile(marker))
    assert not marker.exists()
    converted = convert({"file.pkl": path})
    assert not marker.exists()
    assert converted.keys() == convert_here(path, "file.pkl").keys()
    assert not marker.exists()
    with persistence(), contextlib.suppress(Exception):
        pickle.loads(path.read_bytes())
    assert marker.exists()  # it would have


def test_damage_in_the_process_of_its_own_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(b"no pickle")
    with pytest.raises(AssetError, match=r"^file\.pkl is truncated or no pickle \(.*\); fetch it again$"):
        convert({"file.pkl": path})


def test_a_tensorflow_pickle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(b"\x80\x03cdnnlib.tflib.network\nNetwork\n)\x81N\x86.")
    with pytest.raises(
        AssetError, match=r"^file\.pkl is a TensorFlow pickle; turn it into a PyTorch one first"
    ):
        convert_here(path, "file.pkl")
