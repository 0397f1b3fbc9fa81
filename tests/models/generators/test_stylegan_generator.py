"""StyleGAN2 and StyleGAN3 as face generators: crops, truncation, noise, resampling, batches, precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from facedistill.errors import AssetError, ConfigError
from facedistill.models.generators import StyleGANGenerator, resample
from facedistill.models.generators.stylegan_conversion import convert_here
from facedistill.models.generators.white_noise import white_noise
from tests.models.generators.stylegan_layout import LATENT_DIM, stylegan2, stylegan3, write_pickle


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stylegan")
    made = {}
    for name, network in (
        ("two", stylegan2()),
        ("native 256", stylegan2((6, 6, 6, 4, 4, 3, 3))),
        ("three", stylegan3("r")),
    ):
        path = write_pickle(folder / f"{name}.pkl", network)
        made[name] = path.with_suffix(".safetensors")
        save_file({k: t.contiguous() for k, t in convert_here(path, name).items()}, made[name])
    return made


def latents(count: int = 3, seed: int = 5) -> Tensor:
    return torch.randn(count, LATENT_DIM, generator=torch.Generator().manual_seed(seed))


def test_legacy_is_the_released_box_at_256_px(files: dict[str, Path]) -> None:
    generator = StyleGANGenerator(files["native 256"], crop="legacy")
    w = generator.map(latents())
    box = generator.native(w)[:, :, 21:234, 22:235]
    wanted = F.interpolate(box, (112, 112), mode="bilinear", align_corners=False, antialias=False)
    torch.testing.assert_close(generator.render(w), wanted, atol=5e-5, rtol=0)
    assert generator.native_size == 256
    assert generator.num_styles == 14
    assert 0.02 < float(wanted.std()) < 1


@pytest.mark.parametrize("crop", ["paper", "fitted", "legacy"])
@pytest.mark.parametrize("name", ["two", "three"])
def test_faces_in_range_whatever_the_batch(files: dict[str, Path], name: str, crop: str) -> None:
    options: dict[str, Any] = {"crop": crop, "noise": "random" if name == "two" else "none"}
    generator = StyleGANGenerator(files[name], **options)
    w = generator.map(latents(5))
    faces = generator.render(w)
    assert faces.shape == (5, 3, 112, 112)
    assert faces.dtype == torch.float32
    assert -1 <= float(faces.min()) < float(faces.max()) <= 1
    together = StyleGANGenerator(files[name], micro_batch=4, **options).render(w)
    torch.testing.assert_close(together, faces, atol=2e-5, rtol=0)
    torch.testing.assert_close(
        generator.rows @ generator.native(w) @ generator.columns.T, faces, atol=1e-5, rtol=0
    )
    generator.train()
    assert not generator.training
    assert not faces.requires_grad
    assert generator.render(w[:0]).shape == (0, 3, 112, 112)


def test_truncation_moves_styles_towards_the_average(files: dict[str, Path]) -> None:
    whole, half = (StyleGANGenerator(files["two"], truncation_psi=psi) for psi in (1.0, 0.5))
    w = whole.map(latents())
    torch.testing.assert_close(half.map(latents()), whole.w_avg + 0.5 * (w - whole.w_avg))
    many = half.map(latents(20_000))
    torch.testing.assert_close(half.mean_w, many.mean(0), atol=0.03, rtol=0)
    covariance = half.cholesky_w @ half.cholesky_w.T
    torch.testing.assert_close(covariance, many.T.cov(), atol=0.04, rtol=0)
    collapsed = StyleGANGenerator(files["two"], truncation_psi=0.0).map(latents())
    torch.testing.assert_close(collapsed, whole.w_avg.expand(3, -1))


@pytest.mark.parametrize("spread", ["isotropic", "covariance", "latent"])
def test_resampled_faces(files: dict[str, Path], spread: Any) -> None:
    generator = StyleGANGenerator(files["two"], noise="random")
    z, noise = latents(), latents(seed=6)
    w = generator.map(z)
    coefficient = torch.tensor([0.0, 0.4, 1.0])
    varied = resample(generator, w, z, coefficient, noise, spread=spread)
    steps = {
        "isotropic": w + coefficient[:, None] * noise,
        "covariance": w + coefficient[:, None] * torch.einsum("ij,nj->ni", generator.cholesky_w, noise),
        "latent": generator.map(z + coefficient[:, None] * noise),
    }
    torch.testing.assert_close(varied, steps[spread])
    moved = (generator.render(varied) - generator.render(w)).flatten(1).abs().mean(1)
    assert moved[0] < 1e-3 < moved[1:].min()


def test_noise_modes(files: dict[str, Path]) -> None:
    const, none, random = (
        StyleGANGenerator(files["two"], noise=mode) for mode in ("const", "none", "random")
    )
    w = const.map(latents())
    faces = random.render(w)
    assert torch.equal(faces, random.render(w))
    torch.testing.assert_close(random.render(w.flip(0)).flip(0), faces, atol=2e-5, rtol=0)
    for other in (const.render(w), none.render(w), random.render(w + 1e-6)):
        assert float((other - faces).abs().mean()) > 1e-3


def test_white_noise_is_white() -> None:
    w = latents(4)
    drawn = torch.cat([white_noise(w, 128, stream) for stream in range(3)])[:, 0].double()  # (12, 128, 128)
    flat = drawn.flatten(1)
    assert flat.mean(1).abs().max() < 4 / 128
    torch.testing.assert_close(flat.var(1), torch.ones(12).double(), atol=0.04, rtol=0)
    torch.testing.assert_close(flat.pow(4).mean(), torch.tensor(3.0).double(), atol=0.08, rtol=0)
    between = flat.corrcoef().fill_diagonal_(0)
    assert between.abs().max() < 5 / 128
    for shifted in (drawn.roll(1, 1), drawn.roll(1, 2), drawn.roll((1, 1), (1, 2))):
        assert (drawn * shifted).mean((1, 2)).abs().max() < 4.5 / 128
    near = white_noise(torch.nextafter(w, w + 1), 128, 0).flatten(1)
    assert (near * white_noise(w, 128, 0).flatten(1)).mean(1).abs().max() < 4 / 128
    assert torch.equal(white_noise(w[2:3], 16, 1), white_noise(w, 16, 1)[2:3])


@pytest.mark.parametrize("name", ["two", "three"])
def test_bf16_is_close_and_its_mapping_exact(
    files: dict[str, Path], name: str, cpu_with_bfloat16: None
) -> None:
    noise: Any = "const" if name == "two" else "none"
    exact = StyleGANGenerator(files[name], noise=noise)
    fast = StyleGANGenerator(files[name], noise=noise, precision="bf16")
    w = exact.map(latents())
    assert torch.equal(fast.map(latents()), w)
    difference = fast.render(w) - exact.render(w)
    assert 0 < float(difference.square().mean().sqrt()) < 0.03


def test_wrong_options_are_named(files: dict[str, Path], tmp_path: Path) -> None:
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        "generator.network.noise: unknown value 'some'; try one of const, random, none": ("two", {"noise": "some"}),
        "generator.network.noise=const: StyleGAN3 has no noise inputs; use none": ("three", {}),
        "generator.network.truncation_psi: needs a number from 0 to 1, got 1.5": ("two", {"truncation_psi": 1.5}),
        "generator.network.precision: unknown value 'fp16'; try one of fp32, bf16": ("two", {"precision": "fp16"}),
        "generator.network.crop: unknown crop 'tight'; try one of paper, fitted, legacy": ("two", {"crop": "tight"}),
        "generator.network.micro_batch: needs at least 1 image, got 0": ("two", {"micro_batch": 0}),
    }  # fmt: skip
    for message, (name, options) in cases.items():
        with pytest.raises(ConfigError) as caught:
            StyleGANGenerator(files[name], **options)
        assert str(caught.value) == message
    save_file({"mean_w": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(AssetError, match="not a converted StyleGAN, cholesky_w, mapping"):
        StyleGANGenerator(tmp_path / "other.safetensors")
