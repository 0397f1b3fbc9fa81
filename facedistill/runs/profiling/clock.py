"""Time, arithmetic and memory traffic of the named parts of a step."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class Clock:
    """Adds up the time of parts; a part that lies in another does not count for the outer one.

    >>> clock = Clock(torch.device("cpu"))
    >>> with clock.part("outer"), clock.part("inner"):
    ...     pass
    >>> sorted(clock.seconds)
    ['inner', 'outer']

    Attributes:
        waits: Whether each border of a part waits for the device, so that the time is that of the part's work.
        seconds: By part.
        flops: By part, where `Work` counted.
        bytes: By part, where `Work` counted.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.waits = device, True
        self._open: list[str] = []
        self._last_s = 0.0
        self.clear()

    def clear(self) -> None:
        """Forgets what was added up."""
        self.seconds: dict[str, float] = defaultdict(float)
        self.flops: dict[str, float] = defaultdict(float)
        self.bytes: dict[str, float] = defaultdict(float)

    @property
    def current(self) -> str:
        """Name of the innermost part; "other" outside all."""
        return self._open[-1] if self._open else "other"

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measures what happens inside as part `name`, and names it in a trace."""
        self._mark()
        self._open.append(name)
        try:
            with record_function(name):
                yield
        finally:
            self._mark()
            self._open.pop()

    def timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """`function`, measured as part `name`."""

        def call(*arguments: Any, **named: Any) -> Any:
            with self.part(name):
                return function(*arguments, **named)

        return call

    def _mark(self) -> None:
        if self.waits:
            wait_for(self.device)
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._last_s
        self._last_s = now


class Work(TorchDispatchMode):
    """Counts FLOPs and bytes read and written by every operation that runs inside, for the current part of a clock.

    Each operation reads its tensors and writes its result once; views are free. Fused operations move less.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        result = func(*args, **given)
        read = _tensors((args, given))
        written = _tensors(result)
        storages = {_storage(one) for one in read}
        is_view = bool(written) and all(_storage(one) in storages for one in written)
        if not is_view or func._schema.is_mutable:
            self.clock.bytes[self.clock.current] += sum(map(_bytes, [*read, *written]))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.clock.flops[self.clock.current] += count(*args, **given, out_val=result)
        return result


def ceilings(device: torch.device) -> tuple[float, float]:
    """FLOP/s of the fastest of three matrix products and bytes/s of a copy on this device, now.

    The products are in bfloat16 on a GPU and in float32 on a CPU. Each of the two takes half a second.
    """
    seconds = 0.5
    on_gpu = device.type == "cuda"
    edges, count = ((2048, 4096, 8192), 1 << 28) if on_gpu else ((512, 1024, 1536), 1 << 24)
    dtype = torch.bfloat16 if on_gpu else torch.float32
    multiplied = max(_product_rate(edge, dtype, device, seconds / len(edges)) for edge in edges)
    source = torch.zeros(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return multiplied, 2 * count / _shortest(lambda: target.copy_(source), device, seconds)


def _product_rate(edge: int, dtype: torch.dtype, device: torch.device, seconds: float) -> float:
    """FLOP/s of a square matrix product."""
    left, right = torch.randn(2, edge, edge, device=device, dtype=dtype)
    return 2 * edge**3 / _shortest(lambda: torch.mm(left, right), device, seconds)


def wait_for(device: torch.device) -> None:
    """Waits until the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _shortest(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Seconds of one call, of a few in a row; the fastest of as many as fit, without the first."""
    work()
    found, end = float("inf"), time.perf_counter() + seconds
    while found == float("inf") or time.perf_counter() < end:
        wait_for(device)
        began = time.perf_counter()
        for _ in range(5):
            work()
        wait_for(device)
        found = min(found, (time.perf_counter() - began) / 5)
    return found


def _tensors(values: Any) -> list[Tensor]:
    return [one for one in tree_leaves(values) if isinstance(one, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _bytes(tensor: Tensor) -> int:
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
