"""Quantization-aware distillation: the student of a run is a trained one, quantized."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from facedistill.config import compose
from facedistill.errors import ConfigError
from facedistill.export import load_student
from facedistill.export.int8 import NUM_CALIBRATION, as_quantized_backbone
from facedistill.models.backbones.quantized import QuantizedBackbone
from facedistill.models.generators import FrozenGenerator
from facedistill.models.latents import draw_latents
from facedistill.runs.checkpointing import newest_intact, read_checkpoint
from facedistill.runs.folder import RunFolder
from facedistill.runs.sources import build_backbone, instantiate

_NUM_FACES = NUM_CALIBRATION + 64
_GRAPH = "student.graph"  # of a checkpoint


def student_file(config: DictConfig) -> Path | None:
    """The file of the student that a run quantizes; None if it quantizes none.

    Raises:
        ConfigError: If it does not exist.
    """
    given = OmegaConf.select(config, "quantization.student")
    if given is None:
        return None
    path = RunFolder(Path(given)).student if Path(given).is_dir() else Path(given)
    if not path.is_file():
        raise ConfigError(
            f"quantization.student={given}: there is no {path}; give a finished run's folder or its student.safetensors"
        )
    return path


def quantized_student(
    config: DictConfig, folder: RunFolder, generator: FrozenGenerator | None
) -> QuantizedBackbone | None:
    """The quantized student that a run trains, with the ranges of its checkpoint if it has one.

    Args:
        config: Of the run.
        folder: Of the run.
        generator: Renders the faces that the ranges of activations are found on.

    Returns:
        None if `config.quantization` names no scheme.

    Raises:
        ConfigError: If `quantization.student` is of another backbone, or has an operation that is not supported.
    """
    path = student_file(config)
    if path is None:
        return None
    checkpoint = None if config.force else newest_intact(folder.checkpoint)[0]
    if checkpoint is not None:
        state = read_checkpoint(checkpoint)["state_dict"]
        return quantized_from_state(config, {"graph": state[_GRAPH]})
    student, wanted = load_student(path), build_backbone(config.backbone)
    if type(student) is not type(wanted) or student.arguments != wanted.arguments:
        raise ConfigError(
            f"quantization.student={path}: is a {type(student).__name__} with {student.arguments}, and backbone a "
            f"{type(wanted).__name__} with {wanted.arguments}; name the same backbone"
        )
    assert generator is not None
    return as_quantized_backbone(student, calibration_faces(generator))


def quantized_from_state(config: DictConfig, state: Mapping[str, Tensor]) -> QuantizedBackbone | None:
    """The quantized student, its weights at random, whose state a checkpoint holds; None if it is not quantized."""
    if OmegaConf.select(config, "quantization.scheme") is None:
        return None
    return QuantizedBackbone(bytes(state["graph"].tolist()).decode())


@torch.no_grad()
def calibration_faces(generator: FrozenGenerator) -> Tensor:
    """(N, 3, 112, 112) rendered faces in [-1, 1] of a fixed seed; every second one is changed by `augment=photo`."""
    latents = draw_latents(0, "calibration", torch.arange(_NUM_FACES), generator.latent_dim)
    faces = torch.cat([generator(part).float().cpu() for part in latents.split(16)])
    augment = instantiate(compose("train", ["augment=photo"]).data.source.augment)
    odd = torch.arange(1, _NUM_FACES, 2)
    faces[odd] = augment(faces[odd], seed=0, step=0, samples=odd)
    return faces
