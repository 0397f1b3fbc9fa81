"""Rendering in one pass between two matrix products equals the plain network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from facedistill.models import native_code
from facedistill.models.generators import FaceGenerator
from facedistill.models.generators.fused_synthesis import fused_kernel
from facedistill.system.machine import cpu_instructions
from tests.models.generators.tiny_generator import LATENT_DIM, write_tiny_generator

on_this_cpu = pytest.mark.skipif(
    "avx512_bf16" not in cpu_instructions() or not (shutil.which("g++") or shutil.which("c++")),
    reason="needs a CPU with avx512_bf16 and a C++ compiler",
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_generator(tmp_path_factory.mktemp("wide"), wider=4)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path))
    native_code.native_library.cache_clear()


def error(faces: Tensor, exact: Tensor) -> float:
    return float((faces - exact).norm() / exact.norm())


@on_this_cpu
@pytest.mark.parametrize(
    ("exit", "crop"), [("full", "paper"), (128, "legacy"), (128, "fitted"), (64, "paper")]
)
def test_faces_are_those_of_float32_as_closely_as_torch_renders_them_in_bfloat16(weights, exit, crop) -> None:
    exact = FaceGenerator(weights, exit=exit, crop=crop)
    plain = FaceGenerator(weights, exit=exit, crop=crop, precision="bf16")
    fused = FaceGenerator(weights, exit=exit, crop=crop, precision="bf16", compile="auto")
    w = exact.map(torch.randn(3, LATENT_DIM, generator=torch.Generator().manual_seed(3)))
    for noise in (None, exact.redraw_noise(torch.Generator().manual_seed(1))):
        wanted = exact.render(w, noise)
        half = noise and [n.bfloat16() for n in noise]
        assert error(fused.render(w, half), wanted) < 1.1 * error(plain.render(w, half), wanted) < 0.06
    assert fused._fused is not None


@on_this_cpu
def test_threads_and_the_size_of_the_batch_change_nothing(weights, monkeypatch) -> None:
    generator = FaceGenerator(weights, exit=128, precision="bf16", compile=True)
    w = generator.map(torch.randn(5, LATENT_DIM, generator=torch.Generator().manual_seed(3)))
    faces = generator.render(w)
    generator.micro_batch = 2
    torch.testing.assert_close(generator.render(w), faces, rtol=0, atol=0.02)
    generator.micro_batch = None
    kernel = generator._fused.kernel
    monkeypatch.setattr(generator._fused, "kernel", lambda *given: kernel(*given[:-1], 3))
    torch.testing.assert_close(generator.render(w), faces, rtol=0, atol=0)


@pytest.mark.parametrize("options", [{"precision": "fp32"}, {"compile": False}, {"wider": 1}])
def test_other_types_widths_and_wishes_take_the_plain_way(weights, tmp_path, options) -> None:
    if options.pop("wider", None):
        weights = write_tiny_generator(tmp_path)
    generator = FaceGenerator(weights, **{"precision": "bf16", "compile": "auto", **options})
    run, size = generator._plan(torch.zeros(4, LATENT_DIM))
    assert (run, size) == (generator._render, 1)


def test_without_a_compiler_or_with_a_broken_one_there_is_no_library(tmp_path, monkeypatch, capsys) -> None:
    source = tmp_path / "code.cpp"
    source.write_text("this is not C++")
    assert native_code.native_library(source) is None
    assert "code.cpp is not used, because " in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.so"))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    native_code.native_library.cache_clear()
    assert native_code.native_library(source) is None


@on_this_cpu
def test_a_damaged_library_in_the_cache_is_built_again(tmp_path) -> None:
    source = tmp_path / "code.cpp"
    source.write_text('extern "C" int two() { return 2; }')
    native_code.native_library(source)
    (path,) = tmp_path.rglob("*.so")
    path.unlink()
    path.write_bytes(b"torn")
    native_code.native_library.cache_clear()
    assert native_code.native_library(source).two() == 2


def test_the_kernel_needs_the_network_on_the_cpu_in_bfloat16(weights) -> None:
    assert fused_kernel(FaceGenerator(weights).synthesis) is None
