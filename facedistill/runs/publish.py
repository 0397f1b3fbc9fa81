"""Figures, pictures and final numbers of a finished run, for those of its loggers that show them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from PIL import Image

from facedistill.reporting.figures import estimates
from facedistill.reporting.numbers import is_number
from facedistill.reporting.record import NETWORKS, Results
from facedistill.reporting.run.files import RunFiles, read_run
from facedistill.runs.sources import instantiate

_WANDB = "facedistill.runs.loggers.wandb_logger"
_NUMBERS = ("accuracy", "auc", "eer")
_SHOWN_BY = (_WANDB, "facedistill.runs.loggers.tensorboard_logger")


def show_in_loggers(config: DictConfig, folder: Path) -> None:
    """Logs the pictures of `figures/` and the numbers of results.json to wandb and TensorBoard.

    The wandb run of this process is continued and finished; that of an earlier training is opened again.

    Args:
        config: Composed configuration of the run.
        folder: The run folder, evaluated and reported.
    """
    nodes = [node for node in config.logger.values() if node and node.get("_target_") in _SHOWN_BY]
    if not nodes:
        return
    files = read_run(folder)
    numbers: dict[str, float] = dict(final_numbers(files.results))
    pictures = figures(files)
    for node in nodes:
        if node["_target_"] == _WANDB:
            import wandb

            run: Any = wandb.run or instantiate(node, save_dir=str(folder)).experiment
            if not run.disabled:
                run.log({f"figures/{name}": wandb.Image(str(path)) for name, path in pictures.items()})
                run.summary.update(numbers)
            wandb.finish()
            continue
        logger = instantiate(node, save_dir=str(folder))
        for name, path in pictures.items():
            image = np.asarray(Image.open(path).convert("RGB"))
            logger.experiment.add_image(f"figures/{name}", image, dataformats="HWC")
        logger.log_metrics(numbers)
        logger.finalize("success")


def finish_wandb() -> None:
    """Ends the wandb run of this process, if it has one."""
    if wandb := sys.modules.get("wandb"):
        wandb.finish()


def figures(files: RunFiles) -> dict[str, Path]:
    """Name and file of every figure of the report: faces and variations, curves, histograms, ROC, DET.

    Pictures of a benchmark's faces (`worst/`) are not among them: they may not be passed on.
    """
    return {path.stem: path for path in sorted((files.folder / "figures").glob("*.png"))}


def final_numbers(results: Results) -> Iterator[tuple[str, float]]:
    """The numbers of results.json by name, "student/lfw/tar@1e-3", as fractions; only what was measured."""
    for role in NETWORKS:
        network = results.network(role)
        for name, count in (("params", network.params), ("macs", network.macs)):
            if is_number(count):
                yield f"{role}/{name}", count  # type: ignore[misc]
        for protocol, figures in network.protocols.items():
            for name, estimate in estimates(figures).items():
                if estimate.value is not None and (name in _NUMBERS or name.startswith("tar@")):
                    yield f"{role}/{protocol}/{name}", estimate.value
