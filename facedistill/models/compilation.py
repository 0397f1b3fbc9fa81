"""Compiles a network if possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from facedistill.errors import ConfigError

Run = Callable[..., Tensor]


def compiled(
    run: Run, compile: bool | Literal["auto"], *, what: str, key: str, otherwise: str, **options: Any
) -> Run:
    """Wraps a function so that its first call compiles it.

    Args:
        run: The function, or module.
        compile: False returns `run`; True requires compilation; "auto" tries.
        what: Name of the network, for the messages: "teacher".
        key: The key that set `compile`.
        otherwise: How it runs uncompiled: "about half as fast".
        **options: For torch.compile.

    Returns:
        A function of the same signature; with "auto" it prints one sentence and stays eager if compilation fails.
    """
    if compile is False:
        return run
    fast: Run = torch.compile(run, **options)
    chosen: list[Run] = []

    def call(*arguments: Any) -> Tensor:
        if chosen:
            return chosen[0](*arguments)
        try:
            result = fast(*arguments)
        except (
            Exception
        ) as error:  # no compiler, no Triton, a full disk: inductor has an error class for each
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            if compile is True:
                raise ConfigError(
                    f"{key}: true, but the {what} cannot be compiled here ({reason}); "
                    "install a C++ compiler or set it to false"
                ) from error
            print(f"{what}: runs uncompiled, {otherwise}, because compiling failed ({reason})")
            chosen.append(run)
            return run(*arguments)
        chosen.append(fast)
        return result

    return call
