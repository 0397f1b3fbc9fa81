"""Exports a finished student to another file format, and keeps the file only if it embeds as the student does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from facedistill.config import compose
from facedistill.errors import UserError
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.export.formats import NUM_CALIBRATION, Export, find_format
from facedistill.export.gate import Row, check, compare
from facedistill.export.pixels import Pixels
from facedistill.export.student import load_student, read_metadata
from facedistill.export.thresholds import read_thresholds
from facedistill.models.backbones.quantized import QuantizedBackbone
from facedistill.runs.folder import RunFolder
from facedistill.runs.frozen_networks import load_generator
from facedistill.runs.protocols import open_configured_protocols
from facedistill.runs.quantization import calibration_faces
from facedistill.system.files import new_target


def export_file(
    what: Path,
    format_name: str,
    *,
    out: Path | None = None,
    pixels: Pixels = "float",
    allowed_loss: float = 0.003,
    overrides: Sequence[str] = (),
) -> tuple[Path, list[Row]]:
    """Writes a student in one format and compares the file, in its runtime, with the student.

    A format that rounds to 8 bits is calibrated on rendered faces, half of them with `augment=photo`; no photograph is used.

    Args:
        what: Run folder or student.safetensors.
        format_name: See `facedistill.export.formats.FORMATS`.
        out: The file; next to the student's if None. It must not exist.
        pixels: What the file takes, see `export_onnx`.
        allowed_loss: Largest loss of accuracy on each protocol, a fraction, of a format that rounds.
        overrides: Of the configuration: evaluation.protocols=[…], generator=….

    Returns:
        The file, and how it compares on faces and on every protocol of pairs that is found.

    Raises:
        ConfigError: If the format is unknown.
        UserError: If there is no student, the file exists, or it does not embed as the student does; nothing is left then.
    """
    format_ = find_format(format_name)
    path = RunFolder(what).student if what.is_dir() else what
    if not path.exists():
        raise UserError(f"{path} does not exist; give a finished run's folder or its student.safetensors")
    suffix = format_.suffix if pixels == "float" else f".{pixels}{format_.suffix}"
    out = out or path.with_name(path.stem + suffix)
    if not out.name.endswith(format_.suffix):
        raise UserError(f"--out {out}: a file of the format {format_name} ends in {format_.suffix}")
    student, config = load_student(path), compose("train", overrides)
    protocols = [p for p in open_configured_protocols(config)[0] if isinstance(p, PairsProtocol)]
    size = student.input_spec.size_px
    is_exact = format_.is_exact and not isinstance(student, QuantizedBackbone)
    faces = random_images(8, size) if is_exact else calibration_faces(load_generator(config))
    export = Export(student, read_metadata(path)["metadata"], pixels, faces, read_thresholds(path))
    with new_target(out) as unfinished:
        format_.write(export, unfinished)
        rows = compare(
            student,
            format_.open(unfinished),
            faces if is_exact else faces[NUM_CALIBRATION:],
            protocols,
        )
        check(
            out,
            rows,
            is_exact=is_exact,
            allowed_loss=allowed_loss,
            least_cosine=format_.least_cosine,
        )
    return out, rows


def random_images(number: int, size_px: int) -> Tensor:
    """(N, 3, H, W) images of 8-bit noise in [-1, 1], of a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (number, 3, size_px, size_px), generator=generator) / 127.5 - 1
