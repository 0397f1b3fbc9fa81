"""How a student runs in training: memory layout, parts, compilation, half precision, batch norm over processes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from facedistill.models.batch_norm import synchronize, undo_synchronize
from facedistill.models.compilation import Compile, compiled
from facedistill.models.depthwise import undo_fast_gradients, use_fast_gradients

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Execution:
    """Ways to run the same network. The result is equal up to rounding, except for batch norm in `parts` and
    `synchronized`.

    Attributes:
        channels_last: Memory layout of its weights, and so of its activations.
        parts: A batch that is trained on passes in this many equal parts, and each part is embedded again in the backward
            pass: memory holds the activations of one part, for about a third more computation. Unlike gradient
            accumulation there is one loss of all embeddings, so methods that compare images or have state per step are
            unchanged. Batch norm normalizes each part and updates its statistics once per part.
        compile: torch.compile of the training pass; "auto" tries; "reduce-overhead" compiles to CUDA graphs, which replace many small launches.
        half: Weights and activations are bfloat16, except in batch norm; embeddings are float32, so heads, statistics and
            losses never see half precision.
        synchronized: Batch norm over the images of all processes.
    """

    channels_last: bool = True
    parts: int = 1
    compile: Compile = False
    half: bool = False
    synchronized: bool = False

    def prepare(self, network: nn.Module) -> nn.Module:
        """Changes how `network`, (N, 3, H, W) to (N, D), runs, and returns it; its modules and state keys stay."""
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        if self.synchronized:
            synchronize(network)
        use_fast_gradients(network)
        run: Run = network.forward
        if self.half:
            _halve(network)
            run = functools.partial(_in_bfloat16, run)
        if self.compile is not False:
            fast = compiled(
                run, self.compile, what="student", key="trainer.compile", otherwise="at its usual speed"
            )
            run = functools.partial(_in_training, network, fast, run)
        if self.parts > 1:
            run = functools.partial(_in_parts, run, network, self.parts)
        if run != network.forward:
            network.forward = run
        return network


def as_built(network: nn.Module) -> nn.Module:
    """The network with its own `forward` and in float32, whatever `Execution.prepare` did to it."""
    vars(network).pop("forward", None)
    undo_fast_gradients(network)
    undo_synchronize(network)
    return network.float()


def _halve(network: nn.Module) -> None:
    network.to(torch.bfloat16)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.float()


def _in_training(network: nn.Module, fast: Run, run: Run, images: Tensor) -> Tensor:
    """Validation runs uncompiled: it would compile for its mode and its batch sizes, which takes longer than it saves."""
    return (fast if network.training else run)(images)


def _in_bfloat16(run: Run, images: Tensor) -> Tensor:
    return run(images.to(torch.bfloat16)).float()


def _in_parts(run: Run, network: nn.Module, number: int, images: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return run(images)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_stay(network)

    return torch.cat(
        [checkpoint(run, part, use_reentrant=False, context_fn=contexts) for part in images.chunk(number)]
    )


@contextmanager
def _statistics_stay(network: nn.Module) -> Iterator[None]:
    """Batch norm updates copies of its running statistics, since a part embedded again was counted already."""
    moving = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    buffers_before = [dict(module._buffers) for module in moving]
    for module in moving:
        module._buffers.update({k: None if v is None else v.clone() for k, v in module._buffers.items()})
    try:
        yield
    finally:
        for module, buffers in zip(moving, buffers_before, strict=True):
            module._buffers.update(buffers)
