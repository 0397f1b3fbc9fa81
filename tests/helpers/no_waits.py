"""A device for tests whose values nobody can read: torch's meta device, and a mode that refuses what waits for a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")
_READS = (
    "_local_scalar_dense", "is_nonzero", "nonzero", "_unique", "unique_", "masked_select", "equal", "bincount",
    "sparse", "repeat_interleave.Tensor",
)  # fmt: skip


class NothingWaits(TorchDispatchMode):
    """Refuses, for tensors on the meta device, every operation for which CUDA makes the host wait.

    These are reads of a value, results whose size depends on values, and copies that block.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        tensors = [one for one in tree_leaves((args, given)) if isinstance(one, Tensor)]
        name = str(func).removeprefix("aten.")
        if any(one.device == META for one in tensors):
            refuse(name, args, given, tensors)
        elif "_to_copy" in name and given.get("device") == META:
            assert given.get("non_blocking"), "a blocking copy to the device"
        return func(*args, **given)


class DeviceOnly(TorchDispatchMode):
    """Counts operations, and refuses those that make a tensor on the host: a worker could have made it."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        on_host = [one for one in tree_leaves(made) if isinstance(one, Tensor) and one.device != META]
        assert not on_host, f"{func} makes a tensor on the host"
        self.operations += 1
        return made


def refuse(name: str, args: Any, given: Any, tensors: list[Tensor]) -> None:
    """Raises an AssertionError if the operation waits for the device."""
    assert not name.startswith(_READS), f"{name} reads values of the device"
    assert name != "lift_fresh.default", "a tensor is made on the device from numbers of the host"
    if name.startswith("_to_copy"):
        assert given.get("device", META) == META, "a copy from the device to the host"
    if name.startswith("copy_"):
        assert all(one.device == META for one in tensors) or (len(args) > 2 and args[2]), "a blocking copy"
    if name.startswith(("index.", "index_put")):
        assert args[0].device == META, f"{name} of a tensor on the host with an index on the device"
        for index in args[1]:
            assert index is None or index.dtype is not torch.bool, f"{name} with a mask"
            assert index is None or index.device == META, f"{name} with an index on the host"


@contextmanager
def autocast_on_meta() -> Iterator[None]:
    """Lets `torch.autocast("meta")` be that of the CPU, since the meta device has none."""
    real = torch.autocast

    def autocast(device_type: str, **settings: Any) -> torch.autocast:
        return real("cpu" if device_type == "meta" else device_type, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "autocast", autocast)
        yield
