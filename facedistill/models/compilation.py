"""Compiles a network if possible, and keeps the compiled code for later runs."""

from __future__ import annotations

import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from facedistill.assets.store import cache_dir
from facedistill.distributed.collectives import rank
from facedistill.errors import ConfigError, memory_error, reason
from facedistill.models.cuda_graphs import GraphedRun
from facedistill.system.messages import print_message

Run = Callable[..., Tensor]
Compile = bool | Literal["auto", "reduce-overhead"]
_FOLDER = "TORCHINDUCTOR_CACHE_DIR"


def compiled(
    run: Run, compile: Compile, *, what: str, key: str, otherwise: str, frozen: bool = False, **options: Any
) -> Run:
    """Wraps a function so that its first call compiles it, or reads what an earlier run compiled.

    Compiled code is kept in the cache folder, one folder for each version of torch and each device. `TORCHINDUCTOR_CACHE_DIR`
    names another place. While the first call compiles, its time is printed.

    Args:
        run: The function, or module.
        compile: False returns `run`; True requires compilation; "auto" tries; "reduce-overhead" requires CUDA graphs on a GPU.
        what: Name of the network, for the messages: "teacher".
        key: The key that set `compile`.
        otherwise: How it runs uncompiled: "about half as fast".
        frozen: Whether it has no gradient and its parameters stay, so that a GPU can replay it; see `GraphedRun`.
        **options: For torch.compile.

    Returns:
        A function of the same signature; with "auto" it prints one sentence and stays eager if compilation fails.
    """
    if compile is False:
        return run
    if compile == "reduce-overhead":
        options["mode"] = compile
    # Before torch.compile, whose worker processes fix the folder on a GPU.
    if _chosen_by_torch(os.environ.get(_FOLDER)) and (folder := _own_folder(cache_dir())):
        os.environ[_FOLDER] = folder
    fast: Run = torch.compile(run, **options)
    chosen: list[Run] = []

    def call(*arguments: Any) -> Tensor:
        if chosen:
            return chosen[0](*arguments)
        try:
            with _time_shown(what):
                result = fast(*arguments)
        except (
            Exception
        ) as error:  # no compiler, no Triton, a full disk: inductor has an error class for each
            if memory := memory_error(error):
                raise memory from None
            if compile != "auto":
                raise ConfigError(
                    f"{key}: {str(compile).lower()}, but the {what} cannot be compiled here ({reason(error)}); "
                    "install a C++ compiler or set it to false"
                ) from error
            print(f"{what}: runs uncompiled, {otherwise}, because compiling failed ({reason(error)})")
            chosen.append(run)
            return run(*arguments)
        chosen.append(fast)
        return result

    return GraphedRun(call, what=what) if frozen and torch.cuda.is_available() else call


def forget_graphs(run: Run) -> None:
    """To be called when the parameters of a frozen function that `compiled` returned have moved."""
    if isinstance(run, GraphedRun):
        run.forget()


@cache
def _own_folder(cache: Path) -> str | None:
    """Where compiled code is kept; None, with a message, in a read-only cache: torch then uses the temporary folder."""
    folder = cache / "compiled" / _made_for()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.W_OK):
        return str(folder)
    print_message(f"{folder} cannot be written; compiled code is kept in {tempfile.gettempdir()}")
    return None


def _chosen_by_torch(folder: str | None) -> bool:
    """Whether no user named the folder: torch writes its own choice into the variable when some packages are imported."""
    if folder is None:
        return True
    path = Path(folder)
    return path.parent == Path(tempfile.gettempdir()) and path.name.startswith("torchinductor_")


def _made_for() -> str:
    """What compiled code depends on, as the name of a folder: torch's version, and the GPU or the CPU's instructions."""
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    )
    return f"torch-{torch.__version__} {device}".replace(" ", "-").replace("/", "-")


@contextmanager
def _time_shown(what: str, *, after_s: float = 3.0, every_s: float = 10.0) -> Iterator[None]:
    """Prints how long compiling takes so far, and at its end; nothing if it ends within `after_s` or in other ranks than 0."""
    if rank():
        yield
        return
    began, done = time.monotonic(), threading.Event()

    def show() -> None:
        wait_s = after_s
        while not done.wait(wait_s):
            print_message(f"compiling the {what}, once: {time.monotonic() - began:.0f} s")
            wait_s = every_s

    watcher = threading.Thread(target=show, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    if (took_s := time.monotonic() - began) > after_s:
        print_message(f"the {what} is compiled: {took_s:.0f} s; the next start reads it from the cache")
