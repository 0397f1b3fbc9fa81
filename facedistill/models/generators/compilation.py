"""Compiling the synthesis where that is possible, and saying so where it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from facedistill.errors import ConfigError

Render = Callable[..., Tensor]


def compiled(render: Render, compile: bool | Literal["auto"]) -> Render:
    """Wraps a function of fixed shapes so that its first call compiles it.

    Args:
        render: The function.
        compile: False returns `render`; True demands; "auto" tries.

    Returns:
        A function of the same signature; with "auto" it prints one sentence and stays eager where nothing can
        compile.
    """
    if compile is False:
        return render
    # fullgraph: too many recompilations raise instead of falling back to the slow path without a word.
    fast: Render = torch.compile(render, dynamic=False, fullgraph=True)
    chosen: list[Render] = []

    def call(*arguments: Any) -> Tensor:
        if chosen:
            return chosen[0](*arguments)
        try:
            result = fast(*arguments)
            chosen.append(fast)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            if compile is True:
                raise ConfigError(
                    f"generator.network.compile: true, but the generator cannot be compiled here ({reason}); "
                    "install a C++ compiler or set it to false"
                ) from error
            print(f"generator: runs uncompiled, about half as fast, because compiling failed ({reason})")
            chosen.append(render)
            result = render(*arguments)
        return result

    return call
