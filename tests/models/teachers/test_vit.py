"""arcface_torch's ViT: the released names, and its arithmetic written again head by head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from facedistill.errors import AssetError, ConfigError
from facedistill.models.teachers import ViT
from facedistill.models.teachers.golden import draw_faces
from facedistill.models.teachers.vit import convert, describe

WIDTH, DEPTH, HEADS = 256, 12, 8  # vit_t


def vit_state(dim: int = 8) -> dict[str, Tensor]:
    """A ViT-T under the released names, random, independently of facedistill's module."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def linear(key: str, width: int, before: int, bias: bool = True) -> None:
        state[f"{key}.weight"] = torch.randn(width, before, generator=generator) / before**0.5
        if bias:
            state[f"{key}.bias"] = 0.1 * torch.randn(width, generator=generator)

    def norm(key: str, width: int, batch: bool = False) -> None:
        state[f"{key}.weight"] = 1 + 0.1 * torch.randn(width, generator=generator)
        state[f"{key}.bias"] = 0.1 * torch.randn(width, generator=generator)
        if batch:
            state[f"{key}.running_mean"] = 0.1 * torch.randn(width, generator=generator)
            state[f"{key}.running_var"] = 0.5 + torch.rand(width, generator=generator)
            state[f"{key}.num_batches_tracked"] = torch.tensor(2)

    state["pos_embed"] = 0.1 * torch.randn(1, 144, WIDTH, generator=generator)
    state["mask_token"] = torch.randn(1, 1, WIDTH, generator=generator)
    linear("patch_embed.proj", WIDTH, 3 * 81)
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].view(WIDTH, 3, 9, 9)
    for block in range(DEPTH):
        norm(f"blocks.{block}.norm1", WIDTH)
        linear(f"blocks.{block}.attn.qkv", 3 * WIDTH, WIDTH, bias=False)
        linear(f"blocks.{block}.attn.proj", WIDTH, WIDTH)
        norm(f"blocks.{block}.norm2", WIDTH)
        linear(f"blocks.{block}.mlp.fc1", 4 * WIDTH, WIDTH)
        linear(f"blocks.{block}.mlp.fc2", WIDTH, 4 * WIDTH)
    norm("norm", WIDTH)
    linear("feature.0", WIDTH, WIDTH * 144, bias=False)
    norm("feature.1", WIDTH, batch=True)
    linear("feature.2", dim, WIDTH, bias=False)
    norm("feature.3", dim, batch=True)
    return state


def reference(state: dict[str, Tensor], image: Tensor) -> Tensor:
    """One (3, 112, 112) face in float64: patches cut by hand, one head after the other."""
    s = {key: value.double() for key, value in state.items()}

    def layer_norm(x: Tensor, key: str) -> Tensor:
        centered = x - x.mean(-1, keepdim=True)
        return (
            centered / (centered.square().mean(-1, keepdim=True) + 1e-5).sqrt() * s[f"{key}.weight"]
            + s[f"{key}.bias"]
        )

    def batch_norm(x: Tensor, key: str) -> Tensor:
        scaled = (x - s[f"{key}.running_mean"]) / (s[f"{key}.running_var"] + 2e-5).sqrt()
        return scaled * s[f"{key}.weight"] + s[f"{key}.bias"]

    patches = [image[:, 9 * r : 9 * r + 9, 9 * c : 9 * c + 9].flatten() for r in range(12) for c in range(12)]
    kernel = s["patch_embed.proj.weight"].flatten(1)
    x = torch.stack(patches) @ kernel.T + s["patch_embed.proj.bias"] + s["pos_embed"][0]
    size = WIDTH // HEADS
    for block in range(DEPTH):
        at = f"blocks.{block}"
        qkv = layer_norm(x, f"{at}.norm1") @ s[f"{at}.attn.qkv.weight"].T
        heads = []
        for head in range(HEADS):
            query, key, value = (
                qkv[:, part * WIDTH + head * size : part * WIDTH + (head + 1) * size] for part in range(3)
            )
            heads.append((query @ key.T / size**0.5).softmax(1) @ value)
        x = x + torch.cat(heads, 1) @ s[f"{at}.attn.proj.weight"].T + s[f"{at}.attn.proj.bias"]
        y = layer_norm(x, f"{at}.norm2") @ s[f"{at}.mlp.fc1.weight"].T + s[f"{at}.mlp.fc1.bias"]
        x = x + y.clamp(0, 6) @ s[f"{at}.mlp.fc2.weight"].T + s[f"{at}.mlp.fc2.bias"]
    x = layer_norm(x, "norm").flatten() @ s["feature.0.weight"].T
    return batch_norm(batch_norm(x, "feature.1") @ s["feature.2.weight"].T, "feature.3")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return vit_state()


def test_equals_the_released_arithmetic_in_float64(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "backbone.pth")
    network = ViT(**describe(state) or {}).eval().double()
    network.load_state_dict(convert({"backbone.pth": tmp_path / "backbone.pth"}))
    images = draw_faces(2).double()
    with torch.no_grad():
        found = network(images)
    expected = torch.stack([reference(state, image) for image in images])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("size", "width", "depth"), [("t", 256, 12), ("s", 512, 12), ("b", 512, 24), ("l", 768, 24)]
)
def test_the_sizes_are_distinguished(size: str, width: int, depth: int) -> None:
    with torch.device("meta"):
        network = ViT(size)
    assert describe(network.state_dict()) == {"size": size}
    assert network.pos_embed.shape == (1, 144, width)
    assert len(network.blocks) == depth


def test_mistakes(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "backbone.pth"
    torch.save(
        {key: v for key, v in state.items() if key != "blocks.3.mlp.fc1.bias"}
        | {"head.weight": torch.zeros(1)},
        path,
    )
    with pytest.raises(AssetError) as caught:
        convert({"backbone.pth": path})
    assert str(caught.value) == (
        "backbone.pth, read as ViT-T, does not fit ViT: it lacks blocks.3.mlp.fc1.bias, has unknown head.weight; give "
        "weights of this network"
    )
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(
        AssetError, match=r"^backbone\.pth is not a ViT of arcface_torch: its first keys are a; give its"
    ):
        convert({"backbone.pth": path})
    with pytest.raises(
        ConfigError, match=r"^teacher\.network\.size: expected one of t, s, b, l, got 'huge'$"
    ):
        ViT("huge")
