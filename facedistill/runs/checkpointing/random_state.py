"""The states of the global random generators of all processes, as plain containers for a checkpoint."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from facedistill.distributed.collectives import world_size


def random_states() -> list[dict[str, Any]]:
    """The states of all processes in the order of ranks; every process must call it."""
    states: list[Any] = [_state()]
    if world_size() > 1:
        own, states = states[0], [None] * world_size()
        dist.all_gather_object(states, own)
    return states


def restore(state: Mapping[str, Any]) -> None:
    """Sets this process's generators to a state from `random_states`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))


def _state() -> dict[str, Any]:
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    assert isinstance(keys, np.ndarray)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "python": [version, list(words), gauss],
        "numpy": [kind, keys.tolist(), int(position), int(has_gauss), float(cached)],
    }
