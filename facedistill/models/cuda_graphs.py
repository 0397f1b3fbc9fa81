"""Launches the work of a frozen network on a GPU as one CUDA graph, instead of one kernel after the other from Python."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from facedistill.errors import reason
from facedistill.system.messages import print_message

Run = Callable[..., Tensor]
Captured = tuple[list[Tensor], Callable[[], None], Tensor]
"""The graph's inputs, what computes its output from them, and the output."""
_CALLS_BEFORE = 4  # they compile, choose kernels and allocate workspaces
_MOST_GRAPHS = 4  # each keeps its memory; other shapes run as usual


class GraphedRun:
    """A function of tensors whose repeated calls with the same shapes are one launch each.

    The first calls with given shapes run as usual; then a graph is captured, which reads the network's parameters where they are
    at that time. A call on another device, with gradients, inside another capture or under a dispatch mode, which counts
    operations, runs as usual.

    Args:
        run: The function: no gradient, no random state, no wait for the host, and the same memory for its parameters until `forget`.
        what: Name of the network, for the message if no graph can be captured.
        device_type: Of the devices on which graphs are used.
        capture: Captures a call; see `capture_graph`.
    """

    def __init__(
        self,
        run: Run,
        *,
        what: str,
        device_type: str = "cuda",
        capture: Callable[[Run, tuple[Any, ...]], Captured] | None = None,
    ) -> None:
        self._run, self._what, self._device_type = run, what, device_type
        self._capture = capture or capture_graph
        self._in_use = threading.Lock()  # two threads must not write the same inputs
        self.forget()

    def forget(self) -> None:
        """Drops all graphs; to be called when the network's parameters have moved."""
        self._graphs: dict[Any, Captured] = {}
        self._calls: Counter[Any] = Counter()

    def __call__(self, *arguments: Any) -> Tensor:
        """What `run` returns for tensors and Nones; a tensor of its own, which later calls leave alone."""
        if not self._allowed(arguments):
            return self._run(*arguments)
        key = tuple(_layout(one) for one in arguments)
        with self._in_use:
            if key in self._graphs or self._try_capture(key, arguments):
                inputs, replay, output = self._graphs[key]
                for buffer, value in zip(inputs, (one for one in arguments if one is not None), strict=True):
                    buffer.copy_(value)
                replay()
                return output.clone()
        return self._run(*arguments)

    def _allowed(self, arguments: tuple[Any, ...]) -> bool:
        if torch.is_grad_enabled() or torch._C._len_torch_dispatch_stack():
            return False
        return all(
            one is None or (isinstance(one, Tensor) and one.device.type == self._device_type)
            for one in arguments
        )

    def _try_capture(self, key: Any, arguments: tuple[Any, ...]) -> bool:
        self._calls[key] += 1
        if self._calls[key] != _CALLS_BEFORE + 1 or len(self._graphs) == _MOST_GRAPHS:
            return False
        if self._device_type == "cuda" and torch.cuda.is_current_stream_capturing():
            return False
        try:
            self._graphs[key] = self._capture(self._run, arguments)
        except RuntimeError as error:  # too little memory, or an operation that cannot be captured
            print_message(
                f"{self._what}: runs without a CUDA graph, which cannot be captured here ({reason(error)})"
            )
            return False
        return True


def capture_graph(run: Run, arguments: tuple[Any, ...]) -> Captured:
    """Captures one call of `run` on the GPU of its arguments.

    Raises:
        RuntimeError: If the memory does not suffice, or `run` does what a graph cannot hold.
    """
    inputs = [one.clone() for one in arguments if one is not None]
    waiting = iter(inputs)
    given = [None if one is None else next(waiting) for one in arguments]
    run(*given)  # what a call does only once must not be part of the graph
    graph = torch.cuda.CUDAGraph()
    # thread_local: loaders and collectives of other threads may use the GPU meanwhile.
    with torch.cuda.device(inputs[0].device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
        output = run(*given)
    return inputs, graph.replay, output


def _layout(value: Tensor | None) -> Any:
    return None if value is None else (value.shape, value.stride(), value.dtype, value.device)
