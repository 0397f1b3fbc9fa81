"""Loggers that need more than a `_target_` to be right."""

from __future__ import annotations

import netrc
import os
from pathlib import Path

import wandb
from lightning.pytorch.loggers import WandbLogger


def wandb_logger(project: str, group: str, save_dir: str, name: str | None = None) -> WandbLogger:
    """Makes the wandb logger of one run: online with a key, offline without.

    An offline run lies in `save_dir`; `wandb sync` uploads it later. WANDB_MODE, where set, decides instead.

    Args:
        project: wandb project.
        group: wandb group; the runs of one sweep or table share it.
        save_dir: The run folder; its name becomes the wandb run's name.
        name: Another name for the run.
    """
    mode = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
    settings = wandb.Settings(silent=mode != "online", console="off")
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    run_name = name or Path(save_dir).name
    return WandbLogger(
        project=project, group=group, name=run_name, id=run_name, save_dir=save_dir, mode=mode, resume="allow",
        settings=settings,
    )  # fmt: skip


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].strip("/")
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
