"""The face generator on a random narrow network: windows, exits, batches, noise, precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from facedistill.errors import AssetError, ConfigError
from facedistill.models.generators import FaceGenerator
from facedistill.models.generators.coarse import coarse_kernel, describe, shrink
from facedistill.models.generators.crop import crop_matrices
from facedistill.models.generators.mobilestylegan import SynthesisNetwork
from facedistill.models.generators.region import Window
from tests.models.generators.tiny_generator import LATENT_DIM, write_tiny_generator


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_generator(tmp_path_factory.mktemp("weights"))


def latents(count: int) -> Tensor:
    return torch.randn(count, LATENT_DIM, generator=torch.Generator().manual_seed(3))


def whole_frame(weights: Path, exit: str | int, w: Tensor) -> Tensor:
    """The same network without windows: every level computes its whole frame."""
    state = {key[10:]: tensor for key, tensor in load_file(weights).items() if key.startswith("synthesis.")}
    specs = describe(state, None if exit == "full" else int(exit))
    frames = [Window.frame(spec.size) for spec in specs]
    network = SynthesisNetwork(LATENT_DIM, specs, 12 if exit == "full" else 3, frames)
    network.load_state_dict(shrink(state, specs, full_image=exit == "full"))
    with torch.no_grad():
        return network(network.prepare(w))


@pytest.mark.parametrize("exit", ["full", 128, 64])
@pytest.mark.parametrize("crop", ["paper", "fitted", "legacy"])
def test_the_window_equals_the_full_frame_on_the_crop(weights: Path, exit: str | int, crop: str) -> None:
    generator = FaceGenerator(weights, exit=exit, crop=crop)  # type: ignore[arg-type]
    w = generator.map(latents(3))
    frame = whole_frame(weights, exit, w)
    rows, columns = crop_matrices(crop, frame.shape[-1])  # type: ignore[arg-type]
    torch.testing.assert_close(generator.render(w), rows @ frame.clamp(-1, 1) @ columns.T, atol=1e-5, rtol=0)
    last, size = generator.synthesis.windows[-1], generator.synthesis.specs[-1].size
    assert last.bottom - last.top < size  # the window does leave something out
    assert generator.rows.shape[1] < frame.shape[-1]


def test_the_last_exit_is_the_mean_of_the_full_image(weights: Path) -> None:
    w = FaceGenerator(weights).map(latents(2))
    torch.testing.assert_close(
        whole_frame(weights, 128, w), F.avg_pool2d(whole_frame(weights, "full", w), 2), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("factor", [2, 4])
def test_a_coarse_kernel_is_exact_on_a_blocky_field(factor: int) -> None:
    source = torch.Generator().manual_seed(0)
    kernel, coarse = torch.randn(5, 1, 3, 3, generator=source), torch.randn(1, 5, 9, 9, generator=source)
    fine = coarse.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    wanted = F.avg_pool2d(F.conv2d(fine, kernel, padding=1, groups=5), factor)
    got = F.conv2d(coarse, coarse_kernel(kernel, factor), padding=1, groups=5)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


def test_a_batch_equals_single_images_whatever_the_micro_batch(weights: Path) -> None:
    w = FaceGenerator(weights).map(latents(7))
    singles = torch.cat([FaceGenerator(weights, micro_batch=1).render(row[None]) for row in w])
    for micro_batch in (2, 3, 16, None):
        together = FaceGenerator(weights, micro_batch=micro_batch).render(w)
        torch.testing.assert_close(together, singles, atol=1e-5, rtol=0)


def test_faces_are_float32_in_range_and_without_gradient(weights: Path) -> None:
    generator = FaceGenerator(weights, exit=64, precision="bf16")
    w = generator.map(latents(2)).requires_grad_()
    faces = generator.render(w)
    assert faces.shape == (2, 3, 112, 112)
    assert faces.dtype == torch.float32
    assert not faces.requires_grad
    assert -1 <= float(faces.min()) < float(faces.max()) <= 1
    assert float(faces.std()) > 0.05
    assert generator.render(w[:0]).shape == (0, 3, 112, 112)
    assert torch.equal(generator(latents(2)), faces)


def test_bf16_is_close_and_its_mapping_exact(weights: Path, cpu_with_bfloat16: None) -> None:
    exact, fast = FaceGenerator(weights), FaceGenerator(weights, precision="bf16")
    w = exact.map(latents(4))
    assert torch.equal(fast.map(latents(4)), w)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(exact.map(latents(4)), w)
        assert torch.equal(exact.render(w), exact.render(w))
    difference = fast.render(w) - exact.render(w)
    assert 0 < float(difference.square().mean().sqrt()) < 0.02


def test_training_mode_and_gradients_cannot_be_woken(weights: Path) -> None:
    generator = FaceGenerator(weights)
    generator.train()
    torch.nn.ModuleList([generator]).train()
    assert not any(module.training for module in generator.modules())
    assert not any(parameter.requires_grad for parameter in generator.parameters())


def test_inference_mode_gives_ordinary_tensors(weights: Path) -> None:
    generator = FaceGenerator(weights)
    with torch.inference_mode():
        faces = generator.render(generator.map(latents(1)))
    assert not faces.is_inference()


def test_noise_is_explicit_and_reproducible(weights: Path) -> None:
    generator = FaceGenerator(weights)
    w = generator.map(latents(2))
    published = generator.render(w)
    assert torch.equal(generator.render(w, generator.synthesis.published_noise()), published)
    first, again, other = (generator.redraw_noise(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(generator.render(w, first), generator.render(w, again))
    assert not torch.equal(generator.render(w, first), generator.render(w, other))
    for drawn, constant in zip(first[3:], generator.synthesis.published_noise()[3:], strict=True):
        assert drawn.shape == constant.shape
        assert float(drawn.std()) == pytest.approx(float(constant.std()), rel=0.2)


def test_latent_statistics_are_those_of_the_mapping(weights: Path) -> None:
    generator = FaceGenerator(weights)
    w = generator.map(torch.randn(20_000, LATENT_DIM, generator=torch.Generator().manual_seed(9)))
    covariance = generator.cholesky_w @ generator.cholesky_w.T
    assert torch.equal(generator.cholesky_w, generator.cholesky_w.tril())
    torch.testing.assert_close(generator.mean_w, w.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(covariance, w.T.cov(), atol=0.1, rtol=0)


def test_wrong_options_are_named(weights: Path, tmp_path: Path) -> None:
    cases = {
        "generator.network.exit: unknown value '100'; try one of full, 512, 256, 128, 64": {"exit": "100"},
        "generator.network.exit: this generator has no exit 512; try full, 16, 32, 64, 128": {"exit": 512},
        "generator.network.precision: unknown value 'fp16'; try one of fp32, bf16": {"precision": "fp16"},
        "generator.network.compile: unknown value 'yes'; try one of True, False, auto": {"compile": "yes"},
        "generator.network.micro_batch: needs at least 1 image, got 0": {"micro_batch": 0},
    }
    for message, options in cases.items():
        with pytest.raises(ConfigError) as caught:
            FaceGenerator(weights, **options)  # type: ignore[arg-type]
        assert str(caught.value) == message
    save_file({"mean_w": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(
        AssetError, match=r"not a converted MobileStyleGAN, cholesky_w, mapping\.layers\.0\.weight"
    ):
        FaceGenerator(tmp_path / "other.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(AssetError, match="cannot be read as generator weights"):
        FaceGenerator(tmp_path / "torn.safetensors")
