"""What a run leaves behind once its student is trained: the student's files and faces for the report."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from facedistill.assets.own_file import card_of
from facedistill.config import result_relevant
from facedistill.data.sources.base import Source
from facedistill.export import check_parity, export_onnx, save_student
from facedistill.images import to_float, to_uint8
from facedistill.methods.base import DistillationMethod
from facedistill.models.backbones import Backbone
from facedistill.models.execution import as_built
from facedistill.runs.folder import RunFolder
from facedistill.runs.sources import instantiate
from facedistill.system.files import write_npz

_NUM_SHOWN = 16


def export_student(config: DictConfig, folder: RunFolder, student: nn.Module, faces: Tensor) -> float:
    """Writes student.safetensors and student.onnx and proves that both embed alike.

    Args:
        config: Configuration of the run, recorded in both files.
        folder: Where they go.
        student: The trained backbone.
        faces: (N, 3, H, W) uint8 rendered faces to compare on.

    Returns:
        The least cosine of torch and ONNX embeddings over the faces.

    Raises:
        UserError: If the two disagree or a file cannot be written.
    """
    teacher = card_of(config.teacher, "teacher")
    metadata = {
        "run": folder.path.name,
        "images": config.images,
        "teacher": {"name": teacher.name, "licence": teacher.licence, "note": teacher.licence_note},
        "config": result_relevant(config),
    }
    assert isinstance(student, Backbone)
    as_built(student.cpu())
    save_student(student, folder.student, metadata)
    export_onnx(student, folder.onnx, metadata)
    return check_parity(student, folder.onnx, to_float(faces)).min_cosine


def whole_student(config: DictConfig, folder: RunFolder) -> nn.Module:
    """The trained student from the run's checkpoint, for a strategy that leaves each process a part of its weights."""
    state = torch.load(folder.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    student: nn.Module = instantiate(config.backbone)
    own = {key.removeprefix("student."): value for key, value in state.items() if key.startswith("student.")}
    student.load_state_dict(own)
    return student


@torch.no_grad()
def save_example_faces(source: Source, method: DistillationMethod, path: Path) -> None:
    """Writes held-out faces of the source for the report, compared by the trained student; nothing where it has none.

    The arrays are those of `RenderedFaces.example_faces`, images as uint8.
    """

    def compare(images: Tensor) -> tuple[Tensor, Tensor]:
        assert method.teacher is not None
        expected = method.teacher(images)
        return torch.cosine_similarity(method.student(images).float(), expected), expected

    shown = source.example_faces(compare, _NUM_SHOWN)
    if shown is None:
        return
    arrays = {
        name: (to_uint8(values) if values.ndim == 4 else values).cpu().numpy()
        for name, values in shown.items()
    }
    write_npz(path, **arrays)
