"""Builds the parts of a run from a validated configuration."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from facedistill.data.module import FaceDataModule
from facedistill.data.sources.base import Source
from facedistill.errors import ConfigError
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.methods.base import DistillationMethod
from facedistill.models.execution import Execution
from facedistill.models.generators import FrozenGenerator
from facedistill.models.teachers.team import Teacher, TeacherTeam, lead_of
from facedistill.runs.callbacks.consistency import ConsistentProcesses
from facedistill.runs.callbacks.progress import ImagesProgress
from facedistill.runs.callbacks.timing import TimeShare
from facedistill.runs.callbacks.validation import GeneratedPairsCheck
from facedistill.runs.checkpointing import FiniteOnly, LastCheckpoint
from facedistill.runs.folder import RunFolder
from facedistill.runs.frozen_networks import load_generator, load_teachers, validation_pairs
from facedistill.runs.inputs import Inputs, record_rendered_set, uses_generated_faces
from facedistill.runs.processes import process_rank
from facedistill.runs.quantization import quantized_student
from facedistill.runs.sources import (
    build_backbone,
    build_head,
    build_source,
    instantiate,
    instantiate_with,
    requirements,
    teacher_centers,
)
from facedistill.runs.strategies import execution, num_processes, root_device, trainer_arguments
from facedistill.system.messages import print_message
from facedistill.types import Requirements


@dataclass
class Assembly:
    """The parts of one training run."""

    method: DistillationMethod
    data: FaceDataModule
    trainer: Trainer
    timing: TimeShare


def has_batch_norm(backbone: DictConfig) -> bool:
    """Whether a student of this package has batch normalization; built without memory, and without fetching weights."""
    if not backbone._target_.startswith("facedistill."):
        return False
    node: Any = OmegaConf.to_container(backbone, resolve=True)
    if "pretrained" in node:
        node["pretrained"] = False
    with torch.device("meta"):
        network = instantiate(node)
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def assemble(config: DictConfig, inputs: Inputs) -> Assembly:
    """Builds student, teacher, source, DataModule and trainer."""
    folder = inputs.folder
    device = root_device(settings_of(config))
    teacher = load_teachers(config, device)
    generator = load_generator(config, device) if uses_generated_faces(config) else None
    held_out = validation_pairs(config, generator, lead_of(teacher)) if generator else None
    seed_everything(config.seed, workers=True, verbose=False)
    source = build_source(config, generator, teacher, inputs.faces)
    # With `force` the main process has removed the old checkpoint, or is about to.
    resume = not config.force and (folder.checkpoint.exists() or folder.previous_checkpoint.exists())
    if OmegaConf.select(config, "data.synthetic") is not None:
        record_rendered_set(config, folder, source.faces, resume=resume)  # type: ignore[attr-defined]
    check_offers(requirements(config), source)
    data = FaceDataModule(
        source,
        validation_faces(source, held_out, config.data.validation.faces, num_processes(settings_of(config))),
        batch_size=config.data.batch_size,
        images=config.images,
        num_workers=config.data.num_workers,
        folder=folder.path,
        resume=resume,
    )
    method = build_student_and_method(config, folder, source, generator, teacher)
    timing = TimeShare(generator)
    checkpoint = LastCheckpoint(
        folder.checkpoint,
        every_images=min(
            config.callbacks.checkpoint_every_images, source.checkpoint_within_images or sys.maxsize
        ),
        origin=inputs.origin,
        own_state=source.state_per_process,
    )
    checks = [GeneratedPairsCheck(held_out)] if held_out else []
    watchers = [timing, *checks, FiniteOnly(), checkpoint]
    return Assembly(method, data, _trainer(config, folder, data, watchers), timing)


def build_student_and_method(
    config: DictConfig,
    folder: RunFolder,
    source: Source,
    generator: FrozenGenerator | None,
    teacher: Teacher,
) -> DistillationMethod:
    """The method of a run with its student, ready for the first step.

    Args:
        config: Composed training configuration.
        folder: Of the run; a student that is quantized in training keeps its float32 weights there.
        source: Opened; offers identities and images.
        generator: For the calibration of a quantized student; None where none renders.
        teacher: One or several.

    Raises:
        ConfigError: If student and teacher have different widths, and the method or the data need the same.
    """
    student = quantized_student(config, folder, generator) or build_backbone(config.backbone)
    refuse_other_width(config, student, teacher)
    return build_method(
        config,
        student=student_execution(config).prepare(student),
        teacher=teacher,
        num_identities=source.num_identities,
        num_images=source.num_images,
        centers=lambda: teacher_centers(config, source, lead_of(teacher)),
    )


def build_method(
    config: DictConfig,
    *,
    student: nn.Module,
    teacher: nn.Module | None,
    num_identities: int | None = None,
    num_images: int | None = None,
    centers: Callable[[], Tensor] | None = None,
) -> DistillationMethod:
    """The method of `config.method`, with the parts that its constructor names.

    Args:
        config: Composed training configuration.
        student: Backbone to train.
        teacher: Frozen teacher, or None.
        num_identities: K of a labeled source.
        num_images: N of a finite source.
        centers: Computes the teacher's centers (K, D) if the method needs them.
    """
    width: int = student.embedding_dim  # type: ignore[assignment]

    def head() -> nn.Module | None:
        if not requirements(config).head or num_identities is None:
            return None
        return build_head(config, num_identities, width)

    offered: dict[str, Callable[[], Any]] = {
        "student": lambda: student,
        "teacher": lambda: teacher,
        "head": head,
        "centers": lambda: centers() if centers else None,
        "peer": lambda: replace(student_execution(config), channels_last=False).prepare(
            build_backbone(config.backbone)
        ),
        "num_images": lambda: num_images,
        "num_identities": lambda: num_identities,
        "embedding_dim": lambda: width,
        "optimizer": lambda: instantiate(config.optimizer),
        "schedule": lambda: instantiate(config.scheduler),
    }
    return instantiate_with("method", config.method, offered)


def refuse_other_width(config: DictConfig, student: nn.Module, teacher: Teacher) -> None:
    """Refuses a student whose width was not in the configuration and is not the one that the method or the data need."""
    required, width = requirements(config), lead_of(teacher).embedding_dim
    if student.embedding_dim == width:
        return
    if required.equal_widths and not isinstance(teacher, TeacherTeam):
        raise ConfigError(
            f"backbone: its embeddings have {student.embedding_dim} dimensions and the teacher's {width}; "
            "make them equal, or use a method that compares relations or logits, such as method=rkd"
        )
    if not required.equal_widths and OmegaConf.select(config, "data.source.resampling") == "dynamic":
        raise ConfigError(
            f"data.source.resampling=dynamic: needs embeddings of one width, and the student's have {student.embedding_dim} "
            f"dimensions and the teacher's {width}; use data.source.resampling=static"
        )


def check_offers(required: Requirements, source: Source) -> None:
    """Refuses a source that lacks what the method requires."""
    for name in required.missing(source.offers):
        raise ConfigError(f"data: the method needs {name}, and these faces have none")


def validation_faces(source: Source, held_out: PairsProtocol | None, number: int, processes: int) -> Tensor:
    """(M, 3, H, W) uint8, not augmented: generated faces and those that the source holds out, or stored ones.

    At most `number` of them are generated or stored.

    Raises:
        ConfigError: If they are fewer than the processes, each of which validates on its share.
    """
    if held_out is None:
        found = source.stored_images(number)
        if len(found) < number and process_rank() == 0:
            print_message(
                f"data.validation.faces={number}: the set has {len(found)} images; all of them validate"
            )
    else:
        own = source.held_out_images()
        generated = torch.cat(list(held_out.images()))[:number]
        found = generated if own is None else torch.cat([generated, own])
    if len(found) < processes:
        raise ConfigError(
            f"trainer.devices: {processes} processes and {len(found)} images to validate on, less than one for each; start "
            "fewer processes, or train on one"
        )
    return found


def _trainer(
    config: DictConfig, folder: RunFolder, data: FaceDataModule, watchers: list[Callback]
) -> Trainer:
    every = config.callbacks
    validate_every_steps = max(1, every.validate_every_images // data.batch_size)
    return Trainer(
        **trainer_arguments(settings_of(config)),
        max_steps=data.num_steps,
        max_epochs=-1,
        val_check_interval=min(validate_every_steps, data.num_steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=every.log_every_steps,
        logger=[instantiate(node, save_dir=str(folder.path)) for node in config.logger.values()],
        callbacks=[
            *watchers,
            ConsistentProcesses(folder.path.name.rsplit("-", 1)[-1]),
            ImagesProgress(total_images=data.num_steps * data.batch_size, path=folder.path / "progress.json"),
        ],
        enable_checkpointing=False,
        default_root_dir=str(folder.path),
    )


def student_execution(config: DictConfig) -> Execution:
    """How the student of a training configuration runs."""
    eager = requirements(config).feature_maps or OmegaConf.select(config, "quantization.scheme") is not None
    return execution(settings_of(config), config.images, eager=eager)


def settings_of(config: DictConfig) -> dict[str, Any]:
    """The `trainer` node as plain values."""
    return OmegaConf.to_container(config.trainer, resolve=True)  # type: ignore[return-value]
