"""Files and devices that the runs of a table need and that this machine does not have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from facedistill.assets import cached_path, read_card
from facedistill.errors import ConfigError
from facedistill.runs.inputs import other_teachers, uses_generated_faces
from facedistill.runs.protocols import open_configured_protocols
from facedistill.runs.sources import directions_file
from facedistill.system.store import is_remote

_FILES = {"data.path": "the face set", "teacher.file": "the weights", "generator.file": "the weights"}


def missing_for_training(config: DictConfig, files: Mapping[str, str], num_gpus: int) -> list[str]:
    """What a run cannot start without, a phrase each; nothing is opened or loaded.

    Args:
        config: Composed and validated training configuration.
        files: What each file below the data folder is: `files` of rows.yaml.
        num_gpus: How many this machine has.
    """
    found = []
    for key, kind in _FILES.items():
        path = OmegaConf.select(config, key)
        if path is None or _is_there(str(path)):
            continue
        what = next(
            (text for name, text in files.items() if Path(path).as_posix().endswith(f"/{name}")), kind
        )
        found.append(f"{key}={path} is not there: put {what} there, or name its folder in FACEDISTILL_DATA")
    try:
        directions_file(config)
    except ConfigError as error:
        found.append(str(error))
    if OmegaConf.select(config, "trainer.accelerator") in ("gpu", "cuda") and not num_gpus:
        found.append("there is no GPU here: run it where there is one, or add strategy=cpu to the row")
    return found


def fetched_at_first_run(config: DictConfig) -> list[str]:
    """Weights that the run would obtain by itself, a sentence each."""
    found = []
    others = [f"teacher.others.{name}" for name in other_teachers(config)]
    for group in ("teacher", *others, "generator", "backbone"):
        if group == "generator" and not uses_generated_faces(config):
            continue
        name = OmegaConf.select(config, f"{group}.asset")
        if name and not cached_path(card := read_card(name)).exists():
            found.append(f"{card.name} ({card.size_mb:.0f} MB); without network, {card.fix}")
    if OmegaConf.select(config, "backbone.pretrained"):
        found.append(
            "ImageNet weights of the backbone, by timm from the model hub where its cache lacks them"
        )
    return found


def absent_benchmarks(config: DictConfig) -> list[str]:
    """Benchmarks whose columns would stay "not measured", a sentence each that says what to put where."""
    return [item.reason for item in open_configured_protocols(config)[1]]


def _is_there(path: str) -> bool:
    return is_remote(path) or any(sign in path for sign in "*?[{") or Path(path).expanduser().exists()
