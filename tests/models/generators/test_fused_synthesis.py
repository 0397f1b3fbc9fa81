"""Rendering a layer in one pass equals the plain network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from facedistill.models import native_code
from facedistill.models.generators import FaceGenerator, fused_synthesis
from facedistill.system.machine import cpu_instructions
from tests.models.generators.tiny_generator import LATENT_DIM, write_tiny_generator

on_this_cpu = pytest.mark.skipif(
    not {"avx2", "fma"} <= cpu_instructions() or not (shutil.which("g++") or shutil.which("c++")),
    reason="needs a CPU with avx2 and fma, and a C++ compiler",
)
WAYS = [("full", "paper"), (128, "legacy"), (128, "fitted"), (64, "paper")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_generator(tmp_path_factory.mktemp("wide"), wider=4)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path))
    native_code.native_library.cache_clear()


def error(faces: Tensor, exact: Tensor) -> float:
    return float((faces - exact).norm() / exact.norm())


def in_bfloat16(weights: Path, **options: object) -> FaceGenerator:
    """On every CPU: without such instructions the constructor would choose float32."""
    generator = FaceGenerator(weights, **options)
    generator.synthesis.to_precision(torch.bfloat16)
    return generator


def latents(generator: FaceGenerator, number: int = 3) -> Tensor:
    return generator.map(torch.randn(number, LATENT_DIM, generator=torch.Generator().manual_seed(3)))


@on_this_cpu
@pytest.mark.parametrize(("exit", "crop"), WAYS)
def test_faces_in_float32_are_those_of_the_plain_network(weights, exit, crop) -> None:
    plain = FaceGenerator(weights, exit=exit, crop=crop)
    fused = FaceGenerator(weights, exit=exit, crop=crop, compile="auto")
    w = latents(plain)
    for noise in (None, plain.redraw_noise(torch.Generator().manual_seed(1))):
        torch.testing.assert_close(fused.render(w, noise), plain.render(w, noise), rtol=0, atol=5e-5)
    assert fused._fused is not None


@on_this_cpu
@pytest.mark.parametrize(("exit", "crop"), WAYS)
def test_faces_in_bfloat16_are_as_near_to_float32_as_those_of_torch(weights, monkeypatch, exit, crop) -> None:
    monkeypatch.setattr(fused_synthesis, "cpu_instructions", lambda: {"avx512_bf16"})
    exact = FaceGenerator(weights, exit=exit, crop=crop)
    plain = in_bfloat16(weights, exit=exit, crop=crop)
    fused = in_bfloat16(weights, exit=exit, crop=crop, compile="auto")
    w = latents(exact)
    for noise in (None, exact.redraw_noise(torch.Generator().manual_seed(1))):
        wanted = exact.render(w, noise)
        half = noise and [n.bfloat16() for n in noise]
        assert error(fused.render(w, half), wanted) < 1.1 * error(plain.render(w, half), wanted) < 0.06
    assert fused._fused is not None


@on_this_cpu
@pytest.mark.parametrize(("build", "rounding"), [(FaceGenerator, 5e-5), (in_bfloat16, 0.02)])
def test_threads_and_the_size_of_the_batch_change_nothing(weights, monkeypatch, build, rounding) -> None:
    monkeypatch.setattr(fused_synthesis, "cpu_instructions", lambda: {"avx512_bf16", "avx2", "fma"})
    generator = build(weights, exit=128, compile=True)
    w = latents(generator, 5)
    faces = generator.render(w)
    generator.micro_batch = 2
    torch.testing.assert_close(generator.render(w), faces, rtol=0, atol=rounding)
    generator.micro_batch = None
    monkeypatch.setattr(fused_synthesis, "get_num_threads", lambda: 3)
    torch.testing.assert_close(generator.render(w), faces, rtol=0, atol=0)


@pytest.mark.parametrize(
    "case", ["compile=false", "narrow", "no such instructions", "bfloat16 without avx512_bf16"]
)
def test_other_cpus_widths_and_wishes_take_the_plain_way(weights, tmp_path, monkeypatch, case) -> None:
    instructions = set() if case == "no such instructions" else {"avx2", "fma"}
    monkeypatch.setattr(fused_synthesis, "cpu_instructions", lambda: instructions)
    if case == "narrow":
        weights = write_tiny_generator(tmp_path)
    build = in_bfloat16 if case.startswith("bfloat16") else FaceGenerator
    generator = build(weights, compile=False if case == "compile=false" else "auto")
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
