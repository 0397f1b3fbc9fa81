"""Runs a function in several gloo processes and brings back what each returned."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

# A server imports these once; every process of a test is a fork of it.
multiprocessing.set_forkserver_preload(["torch", "lightning", "pytest", "facedistill.runs.assembly"])


def in_processes(function: Callable[..., Any], *arguments: Any, world_size: int = 2) -> list[Any]:
    """Calls `function(rank, *arguments)` in `world_size` processes of one gloo group; answers in rank order.

    The function must be importable by name (no lambda, no closure); what it returns is saved with torch.
    """
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.start_processes(
            _one, args=(world_size, folder, function, arguments), nprocs=world_size, start_method="forkserver"
        )
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(world_size)]


def _one(rank: int, world_size: int, folder: str, function: Callable[..., Any], arguments: Any) -> None:
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size,
        timeout=timedelta(seconds=300),
    )  # fmt: skip
    try:
        torch.save(function(rank, *arguments), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
