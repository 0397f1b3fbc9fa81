"""Exports a trained run: the student's files, faces for the report, and the record of the training."""

from __future__ import annotations

import resource
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from facedistill.config import result_relevant
from facedistill.data.sources.base import Source
from facedistill.export import check_parity, export_onnx, save_student
from facedistill.export.formats import FORMATS
from facedistill.export.onnx import TracingError
from facedistill.images import to_float, to_uint8
from facedistill.methods.base import DistillationMethod
from facedistill.models.backbones import Backbone
from facedistill.models.execution import as_built
from facedistill.models.weights import load_state
from facedistill.runs.assembly import Assembly
from facedistill.runs.checkpointing import read_checkpoint
from facedistill.runs.folder import RunFolder
from facedistill.runs.inputs import teacher_cards
from facedistill.runs.quantization import quantized_from_state
from facedistill.runs.sources import build_backbone, requirements
from facedistill.system.files import write_npz
from facedistill.system.messages import print_message

_NUM_EXAMPLES = 16
_STUDENT = "student."  # prefix of its weights in a checkpoint


def export_run(config: DictConfig, folder: RunFolder, parts: Assembly) -> None:
    """Writes the student's files and example faces, records the training, and deletes what only training needs."""
    method = parts.method.eval()
    if config.trainer.strategy == "fsdp":  # each process has a part of the weights
        method.student, _ = student_from_checkpoint(config, folder.checkpoint)
    exported = export_student(config, folder, method.student, parts.data.validation_faces[:32])
    method.to(parts.trainer.strategy.root_device)
    save_example_faces(parts.data.source, method, folder.path / "faces.npz")
    record: dict[str, Any] = {
        "images_seen": method.images_seen,
        "peak_memory_mib": _peak_memory_mib(),
        "export": exported,
        **parts.timing.summary(method.images_seen),
    }
    if requirements(config).class_centers:
        record["teacher_centers"] = f"{config.data.centers} of the teacher's embeddings per identity"
    folder.update_record(status="trained", reason=None, unfinished=None, **record)
    parts.data.source.close()
    folder.remove_training_state()


def export_student(
    config: DictConfig, folder: RunFolder, student: nn.Module, faces: Tensor
) -> dict[str, Any]:
    """Writes student.safetensors and student.onnx and compares their embeddings.

    Args:
        config: Configuration of the run, recorded in both files.
        folder: Of the run.
        student: The trained backbone.
        faces: (N, 3, H, W) uint8 faces to compare on.

    Returns:
        `onnx_min_cosine`, the lowest cosine of torch and ONNX embeddings over the faces; or `no_onnx`, why torch cannot
        trace a network of the user's.

    Raises:
        UserError: If the two disagree or a file cannot be written.
    """
    teachers = [{"name": c.name, "licence": c.licence, "note": c.licence_note} for c in teacher_cards(config)]
    metadata = {
        "run": folder.path.name,
        "images": config.images,
        "teacher": teachers[0],
        **({"other_teachers": teachers[1:]} if teachers[1:] else {}),
        "config": result_relevant(config),
    }
    assert isinstance(student, Backbone)
    remove_exported(folder)
    as_built(student.cpu())
    save_student(student, folder.student, metadata)
    try:
        export_onnx(student, folder.onnx, metadata)
    except TracingError as error:
        print_message(f"{error}; the run has no student.onnx")
        return {"no_onnx": str(error)}
    return {"onnx_min_cosine": check_parity(student, folder.onnx, to_float(faces))}


def exported_files(folder: RunFolder) -> list[Path]:
    """The student in other formats than student.safetensors, which a training or `facedistill export` wrote."""
    suffixes = tuple(form.suffix for form in FORMATS.values())
    return sorted(path for path in folder.path.glob("student.*") if path.name.endswith(suffixes))


def remove_exported(folder: RunFolder) -> None:
    """Deletes the student in other formats; to be called before another student is written."""
    for path in (files := exported_files(folder)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if others := [path.name for path in files if path != folder.onnx]:
        print_message(f"{', '.join(others)}: of the student before this one, and deleted; export again")


def student_from_checkpoint(config: DictConfig, path: Path) -> tuple[Backbone, int]:
    """The student that a checkpoint holds, and the images that it has seen.

    Raises:
        AssetError: If the weights do not fit `config.backbone`.
    """
    checkpoint = read_checkpoint(path)
    state = {
        name.removeprefix(_STUDENT): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith(_STUDENT)
    }
    student = quantized_from_state(config, state) or build_backbone(config.backbone)
    load_state(student, state, str(path))
    return student, checkpoint["images_seen"]


@torch.no_grad()
def save_example_faces(source: Source, method: DistillationMethod, path: Path) -> None:
    """Writes held-out faces of the source for the report, compared by the trained student; nothing if it has none.

    The arrays are those of `RenderedFaces.example_faces`, images as uint8.
    """

    def compare(images: Tensor) -> tuple[Tensor, Tensor]:
        assert method.teacher is not None
        lead = method.compared(method.student(images).float(), method.teacher(images))[0]
        return torch.cosine_similarity(lead.student, lead.teacher), lead.teacher

    examples = source.example_faces(compare, _NUM_EXAMPLES)
    if examples is None:
        return
    arrays = {
        name: (to_uint8(values) if values.ndim == 4 else values).cpu().numpy()
        for name, values in examples.items()
    }
    write_npz(path, **arrays)


def _peak_memory_mib() -> float:
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(kib / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)
