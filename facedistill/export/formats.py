"""The file formats that a student is exported to, each with the runtime that checks it."""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from facedistill.errors import ConfigError, UserError
from facedistill.evaluation.thresholds import KEY as THRESHOLDS
from facedistill.evaluation.thresholds import Threshold, format_thresholds
from facedistill.export.int8 import NUM_CALIBRATION, quantize
from facedistill.export.onnx import (
    INPUT,
    OUTPUT,
    example_input,
    inference_network,
    is_of_the_user,
    onnx_model,
    traced_program,
    tracing,
)
from facedistill.export.parity import LEAST_COSINE, open_session
from facedistill.export.pixels import Pixels, as_input, as_pixels, contract
from facedistill.export.student import KEY, describe
from facedistill.models.backbones import Backbone
from facedistill.models.backbones.quantized import QuantizedBackbone

if TYPE_CHECKING:
    import onnx

NOTES = ("pixels", "input_contract", "embedding_dim", KEY, THRESHOLDS)
"""Entries of a file's metadata."""
_FLOAT32 = ("ReduceL2", "ReduceSumSquare")
"""Operators of float32 in a float16 file: a squared norm above 65504 is no float16."""


@dataclass(frozen=True)
class Export:
    """What a format writes.

    Attributes:
        student: The trained backbone; see `export_onnx`.
        metadata: See `export_onnx`.
        pixels: See `export_onnx`.
        faces: (N, 3, H, W) faces in [-1, 1], N > `NUM_CALIBRATION`: a format that is not exact is calibrated on the first
            and measured on the others.
        thresholds: Of the student; they travel in the file.
    """

    student: Backbone
    metadata: Mapping[str, Any]
    pixels: Pixels
    faces: Tensor
    thresholds: Sequence[Threshold] = ()

    @property
    def notes(self) -> dict[str, str]:
        """What the file says of itself: how to feed it, which student it is, its thresholds if there are any."""
        thresholds = {THRESHOLDS: format_thresholds(self.thresholds)} if self.thresholds else {}
        return {
            "pixels": self.pixels,
            "input_contract": contract(self.student.input_spec, self.pixels),
            "embedding_dim": str(self.student.embedding_dim),
            KEY: json.dumps(describe(self.student, self.metadata), sort_keys=True),
            **thresholds,
        }


class Format(ABC):
    """One file format.

    Attributes:
        name: On the command line.
        suffix: Of the file.
        runtime: That opens the file.
        is_exact: Whether embeddings equal the student's up to rounding; otherwise it is calibrated on faces.
        least_cosine: That each embedding of an exact format must have with the student's.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    runtime: ClassVar[str]
    is_exact: ClassVar[bool] = True
    least_cosine: ClassVar[float] = LEAST_COSINE

    @abstractmethod
    def write(self, export: Export, path: Path) -> None:
        """Writes the file.

        Raises:
            UserError: If the format's library is not installed, or torch cannot trace a network of the user's.
        """

    @abstractmethod
    def open(self, path: Path, threads: int | None = None) -> ExportedNetwork:
        """Opens the file in its runtime.

        Args:
            path: The file.
            threads: Of the runtime; None leaves the choice to it. PyTorch runs with the threads that it has.
        """


class ExportedNetwork(nn.Module):
    """An exported file as a network: (N, 3, H, W) float images in [-1, 1] -> (N, D) embeddings.

    Attributes:
        run: The file in its runtime: images as `as_input` makes them -> (N, D).
        notes: What the file says of itself, see `Export.notes`.
        pixels: What it takes.
    """

    def __init__(self, run: Callable[[Tensor], Tensor], notes: Mapping[str, str]) -> None:
        super().__init__()
        self.run, self.notes, self.pixels = run, dict(notes), as_pixels(notes.get("pixels"))

    def forward(self, images: Tensor) -> Tensor:
        """Embeds images, which are rounded to uint8 pixels where the file takes those."""
        return self.run(as_input(images, self.pixels))


class Onnx(Format):
    """ONNX in float32."""

    name, suffix, runtime = "onnx", ".onnx", "ONNX Runtime"

    def write(self, export: Export, path: Path) -> None:
        path.write_bytes(_onnx_model(export).SerializeToString())

    def open(self, path: Path, threads: int | None = None) -> ExportedNetwork:
        session = open_session(path, threads)
        return ExportedNetwork(
            lambda images: torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0]),
            session.get_modelmeta().custom_metadata_map,
        )


class OnnxFp16(Onnx):
    """ONNX with weights and operators in float16; images and embeddings stay float32."""

    name, suffix, least_cosine = "onnx-fp16", ".fp16.onnx", 0.999

    def write(self, export: Export, path: Path) -> None:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = _onnx_model(export)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # weights below 6e-8 become 6e-8
            half = convert_float_to_float16(model, keep_io_types=True, op_block_list=_FLOAT32)
        path.write_bytes(half.SerializeToString())


class OnnxInt8(Onnx):
    """ONNX with 8-bit weights and activations."""

    name, suffix, is_exact = "onnx-int8", ".int8.onnx", False

    def write(self, export: Export, path: Path) -> None:
        model = _onnx_model(export)
        if isinstance(export.student, QuantizedBackbone):  # it is in 8 bits already
            path.write_bytes(model.SerializeToString())
            return
        faces = as_input(export.faces, export.pixels)
        quantized = quantize(model, faces[:NUM_CALIBRATION], faces[NUM_CALIBRATION:])
        del quantized.metadata_props[:]
        quantized.metadata_props.extend(model.metadata_props)
        path.write_bytes(quantized.SerializeToString())


class TorchExport(Format):
    """A `torch.export` program, which runs without this package."""

    name, suffix, runtime = "torch-export", ".pt2", "PyTorch"

    def write(self, export: Export, path: Path) -> None:
        program = traced_program(export.student, export.pixels)
        with path.open("wb") as file:
            torch.export.save(program, file, extra_files=export.notes)

    def open(self, path: Path, threads: int | None = None) -> ExportedNetwork:
        notes = dict.fromkeys(NOTES, "")
        with path.open("rb") as file:
            program = torch.export.load(file, extra_files=notes)
        return ExportedNetwork(program.module(), {name: value for name, value in notes.items() if value})


class OpenVino(Format):
    """OpenVINO's intermediate representation: a folder with model.xml and model.bin."""

    name, suffix, runtime = "openvino", ".openvino", "OpenVINO"

    def write(self, export: Export, path: Path) -> None:
        openvino = _openvino()
        example = example_input(export.student, export.pixels)
        if is_of_the_user(export.student):
            # OpenVINO would silently keep one of two branches, or the batch size.
            traced_program(export.student, export.pixels)
        with tracing(export.student):
            model = openvino.convert_model(
                inference_network(export.student, export.pixels), example_input=example
            )
        model.reshape({model.inputs[0]: [-1, *example.shape[1:]]})
        model.inputs[0].get_tensor().set_names({INPUT})
        model.outputs[0].get_tensor().set_names({OUTPUT})
        for name, value in export.notes.items():
            model.set_rt_info(value, name)
        path.mkdir()
        openvino.save_model(model, path / "model.xml", compress_to_fp16=False)

    def open(self, path: Path, threads: int | None = None) -> ExportedNetwork:
        openvino = _openvino()
        model = openvino.Core().read_model(path / "model.xml")
        settings = {"INFERENCE_PRECISION_HINT": "f32"} | (
            {"INFERENCE_NUM_THREADS": threads} if threads else {}
        )
        compiled = openvino.compile_model(model, "CPU", settings)
        notes = {name: model.get_rt_info(name).value for name in NOTES if model.has_rt_info(name)}
        return ExportedNetwork(lambda images: torch.from_numpy(compiled(images.numpy())[0].copy()), notes)


def _onnx_model(export: Export) -> onnx.ModelProto:
    """The float32 graph, with thresholds in its metadata."""
    model = onnx_model(export.student, export.metadata, export.pixels)
    if export.thresholds:
        model.metadata_props.add(key=THRESHOLDS, value=format_thresholds(export.thresholds))
    return model


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise UserError(
            "the openvino format needs OpenVINO; install it with pip install 'facedistill[openvino]'"
        ) from error
    return openvino


FORMATS: dict[str, Format] = {kind.name: kind() for kind in (Onnx, OnnxFp16, OnnxInt8, TorchExport, OpenVino)}


def find_format(name: str) -> Format:
    """The format of a name.

    Raises:
        ConfigError: If there is none.

    >>> find_format("openvino").suffix
    '.openvino'
    """
    if name not in FORMATS:
        raise ConfigError(f"--format {name}: must be one of {', '.join(FORMATS)}")
    return FORMATS[name]
