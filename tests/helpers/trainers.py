"""A Lightning trainer for tests: on the CPU, nothing printed or logged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from facedistill.runs.checkpointing.callback import LastCheckpoint


def quiet_trainer(
    max_steps: int,
    *,
    checkpoint: Path | None = None,
    every_images: int = 10**9,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> Trainer:
    """A trainer of `max_steps` steps without validation; writes `checkpoint` at the end if one is given."""
    writers = [LastCheckpoint(checkpoint, every_images=every_images)] if checkpoint else []
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "limit_val_batches": 0,
        "use_distributed_sampler": False,
        "logger": False,
    }
    return Trainer(
        max_steps=max_steps, max_epochs=-1, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, callbacks=[*callbacks, *writers], **(defaults | settings),
    )  # fmt: skip
