"""Thresholds in the metadata of an exported student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facedistill.errors import AssetError
from facedistill.evaluation.thresholds import KEY, Threshold, format_thresholds, parse_thresholds
from facedistill.models.weights import read_weights, write_weights
from facedistill.system.files import write_atomically

if TYPE_CHECKING:
    import onnx


def read_thresholds(path: Path) -> list[Threshold]:
    """The thresholds in a student's .safetensors or .onnx file; empty if the student was not evaluated.

    Raises:
        AssetError: If the file is missing or damaged.
    """
    return parse_thresholds(_metadata(path), path)


def write_thresholds(path: Path, thresholds: Sequence[Threshold]) -> None:
    """Replaces the thresholds in a student's file; weights, graph and other metadata stay.

    The file is replaced as one, and only if something changes.

    Args:
        path: A .safetensors or .onnx file.
        thresholds: The new list; an empty one removes the entry.

    Raises:
        AssetError: If the file is missing or damaged.
        UserError: If it cannot be written.
    """
    wanted = {KEY: format_thresholds(thresholds)} if thresholds else {}
    before = _metadata(path)
    metadata = {key: value for key, value in before.items() if key != KEY} | wanted
    if metadata == before:
        return
    if path.suffix != ".onnx":
        return write_weights(path, read_weights(path)[0], metadata)
    import onnx

    model = _open_onnx(path)
    onnx.helper.set_model_props(model, metadata)
    write_atomically(path, model.SerializeToString())


def _metadata(path: Path) -> dict[str, str]:
    if path.suffix != ".onnx":
        return read_weights(path)[1]
    return {entry.key: entry.value for entry in _open_onnx(path).metadata_props}


def _open_onnx(path: Path) -> onnx.ModelProto:
    import onnx

    try:
        return onnx.load(str(path))
    except FileNotFoundError as error:
        raise AssetError(f"{path} does not exist; give the path of an ONNX file") from error
    except Exception as error:  # protobuf's DecodeError, with its own base class
        raise AssetError(f"{path} is truncated or not an ONNX file; export it again") from error
