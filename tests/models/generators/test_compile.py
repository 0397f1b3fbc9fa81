"""Compiling: the wish, the possibility, and the sentence when they differ."""

from __future__ import annotations

import functools
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.exc import BackendCompilerFailed
from torch._inductor.runtime.cache_dir_utils import cache_dir as torch_cache_dir

from facedistill.errors import ConfigError
from facedistill.models import compilation
from facedistill.models.generators import FaceGenerator
from tests.models.generators.tiny_generator import LATENT_DIM, write_tiny_generator

compiled = functools.partial(
    compilation.compiled,
    what="generator",
    key="generator.network.compile",
    otherwise="about half as fast",
    dynamic=False,
    fullgraph=True,
)


def double(x: Tensor) -> Tensor:
    return 2 * x


def broken_compile(render: object, **options: object) -> object:
    def call(*arguments: Tensor) -> Tensor:
        raise RuntimeError("no C++ compiler\nand a long trace")

    return call


def test_no_compiling_returns_the_function_itself() -> None:
    assert compiled(double, False) is double


def test_auto_falls_back_once_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "compile", broken_compile)
    call = compiled(double, "auto")
    assert call(torch.ones(1)).item() == 2
    assert call(torch.ones(1)).item() == 2
    sentence = "generator: runs uncompiled, about half as fast, because compiling failed (no C++ compiler)\n"
    assert capsys.readouterr().out == sentence


def test_an_explicit_wish_that_cannot_be_met_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", broken_compile)
    with pytest.raises(ConfigError) as caught:
        compiled(double, True)(torch.ones(1))
    assert str(caught.value) == (
        "generator.network.compile: true, but the generator cannot be compiled here (no C++ compiler); "
        "install a C++ compiler or set it to false"
    )


@pytest.mark.parametrize("wish", [True, "auto"])
@pytest.mark.parametrize("error", [
    MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), torch.OutOfMemoryError("Tried to allocate 2 GiB"),
])  # fmt: skip
def test_too_little_memory_is_no_missing_compiler(
    monkeypatch: pytest.MonkeyPatch, error: Exception, wish: compilation.Compile
) -> None:
    def fail(*arguments: Tensor) -> Tensor:
        raise BackendCompilerFailed(double, error, None)

    monkeypatch.setattr(torch, "compile", lambda *arguments, **options: fail)
    with pytest.raises(type(error)) as caught:
        compiled(double, wish)(torch.ones(1))
    assert caught.value is error


def test_what_compiled_once_stays_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def recording(render: object, **options: object) -> object:
        assert options == {"dynamic": False, "fullgraph": True}
        return lambda x: calls.append("fast") or double(x)

    monkeypatch.setattr(torch, "compile", recording)
    call = compiled(double, True)
    call(torch.ones(1))
    call(torch.ones(1))
    assert calls == ["fast", "fast"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_compiled_generator_renders_what_the_eager_one_does(tmp_path: Path, precision: str) -> None:
    weights = write_tiny_generator(tmp_path)
    torch.compiler.reset()
    eager, fast = (
        FaceGenerator(weights, exit=64, precision=precision, compile=wish, micro_batch=2)  # type: ignore[arg-type]
        for wish in (False, True)
    )
    w = eager.map(torch.randn(5, LATENT_DIM, generator=torch.Generator().manual_seed(0)))
    noise = eager.redraw_noise(torch.Generator().manual_seed(1))
    tolerance = {"fp32": 1e-5, "bf16": 0.05}[precision]
    for drawn in (None, noise):
        torch.testing.assert_close(fast.render(w, drawn), eager.render(w, drawn), atol=tolerance, rtol=0)
    with torch.compiler.set_stance(
        "fail_on_recompile"
    ):  # neither a shorter batch nor inference mode costs one
        fast.render(w[:1])
        with torch.inference_mode():
            fast.render(fast.map(w))


@pytest.mark.parametrize("by_torch", [False, True])
def test_compiled_code_is_kept_in_the_cache_folder_and_the_time_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], by_torch: bool
) -> None:
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    if by_torch:  # as importing torchvision, and with it Lightning, does
        torch_cache_dir()
        assert "TORCHINDUCTOR_CACHE_DIR" in os.environ
    folders = []  # known when torch.compile is called: on a GPU it starts workers that keep theirs

    def compile(run: Any, **options: Any) -> Any:
        folders.append(os.environ.get("TORCHINDUCTOR_CACHE_DIR"))
        return run

    monkeypatch.setattr(torch, "compile", compile)
    compiled(double, True)(torch.ones(1))
    assert folders == [os.environ["TORCHINDUCTOR_CACHE_DIR"]]
    kept = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert kept.parent == tmp_path / "compiled"
    assert torch.__version__ in kept.name
    assert capsys.readouterr().err == ""
    with compilation._time_shown("generator", after_s=0.01, every_s=10):
        time.sleep(0.05)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "compiling the generator, once: 0 s",
        "the generator is compiled: 0 s; the next start reads it from the cache",
    ]


def test_compiled_code_goes_elsewhere_where_the_cache_folder_is_read_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "compiled").write_text("a file, not a folder")
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setattr(torch, "compile", lambda run, **options: run)
    for _ in range(2):
        compiled(double, True)(torch.ones(1))
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    assert capsys.readouterr().err.count("cannot be written; compiled code is kept in ") == 1


def test_a_folder_that_the_user_named_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch, "compile", lambda run, **options: run)
    compiled(double, True)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)


def test_cuda_graphs_are_a_mode_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, object]] = []
    monkeypatch.setattr(torch, "compile", lambda run, **options: given.append(options) or run)
    compiled(double, "reduce-overhead")
    assert given == [{"dynamic": False, "fullgraph": True, "mode": "reduce-overhead"}]
