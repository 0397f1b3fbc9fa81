"""The file formats that a student is exported to, each with the runtime that checks it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from facedistill.errors import ConfigError, UserError
from facedistill.export.int8 import NUM_CALIBRATION, quantize
from facedistill.export.onnx import INPUT, OUTPUT, example_input, export_onnx, inference_network, onnx_model
from facedistill.export.parity import open_session
from facedistill.export.pixels import Pixels, as_pixels, contract
from facedistill.export.student import KEY, describe
from facedistill.images import to_uint8
from facedistill.models.backbones import Backbone
from facedistill.models.backbones.quantized import QuantizedBackbone


@dataclass(frozen=True)
class Export:
    """What a format writes.

    Attributes:
        student: The trained backbone; see `export_onnx`.
        metadata: See `export_onnx`.
        pixels: See `export_onnx`.
        faces: (N, 3, H, W) faces in [-1, 1], N > `NUM_CALIBRATION`: a format that is not exact is calibrated on the first
            and measured on the others.
    """

    student: Backbone
    metadata: Mapping[str, Any]
    pixels: Pixels
    faces: Tensor

    @property
    def notes(self) -> dict[str, str]:
        """What the file says of itself."""
        return {
            "pixels": self.pixels,
            "input_contract": contract(self.student.input_spec, self.pixels),
            KEY: json.dumps(describe(self.student, self.metadata), sort_keys=True),
        }


class Format(ABC):
    """One file format.

    Attributes:
        name: On the command line.
        suffix: Of the file.
        is_exact: Whether embeddings equal the student's up to rounding.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    is_exact: ClassVar[bool] = True

    @abstractmethod
    def write(self, export: Export, path: Path) -> None:
        """Writes the file.

        Raises:
            UserError: If the format's library is not installed.
        """

    @abstractmethod
    def open(self, path: Path) -> ExportedNetwork:
        """Opens the file in its runtime."""


class ExportedNetwork(nn.Module):
    """An exported file as a network: (N, 3, H, W) float images in [-1, 1] -> (N, D) embeddings."""

    def __init__(self, run: Callable[[Tensor], Tensor], pixels: Pixels) -> None:
        super().__init__()
        self._run, self._pixels = run, pixels

    def forward(self, images: Tensor) -> Tensor:
        """Embeds images, which are rounded to uint8 pixels where the file takes those."""
        return self._run(as_input(images, self._pixels))


def as_input(images: Tensor, pixels: Pixels) -> Tensor:
    """(N, 3, H, W) RGB images in [-1, 1] as a file takes them.

    >>> as_input(torch.ones(1, 3, 2, 2), "bgr").shape
    torch.Size([1, 2, 2, 3])
    """
    if pixels == "float":
        return images.contiguous()
    rgb = to_uint8(images).permute(0, 2, 3, 1)
    return (rgb if pixels == "rgb" else rgb.flip(-1)).contiguous()


class Onnx(Format):
    """ONNX in float32."""

    name, suffix = "onnx", ".onnx"

    def write(self, export: Export, path: Path) -> None:
        export_onnx(export.student, path, export.metadata, export.pixels)

    def open(self, path: Path) -> ExportedNetwork:
        session = open_session(path)
        pixels = as_pixels(session.get_modelmeta().custom_metadata_map.get("pixels"))
        return ExportedNetwork(
            lambda images: torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0]), pixels
        )


class OnnxInt8(Onnx):
    """ONNX with 8-bit weights and activations."""

    name, suffix, is_exact = "onnx-int8", ".int8.onnx", False

    def write(self, export: Export, path: Path) -> None:
        model = onnx_model(export.student, export.metadata, export.pixels)
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

    name, suffix = "torch-export", ".pt2"

    def write(self, export: Export, path: Path) -> None:
        with torch.no_grad():
            program = torch.export.export(
                inference_network(export.student, export.pixels),
                (example_input(export.student, export.pixels),),
                dynamic_shapes=({0: torch.export.Dim("N")},),
            )
        with path.open("wb") as file:
            torch.export.save(program, file, extra_files=export.notes)

    def open(self, path: Path) -> ExportedNetwork:
        notes = {"pixels": ""}
        with path.open("rb") as file:
            program = torch.export.load(file, extra_files=notes)
        return ExportedNetwork(program.module(), as_pixels(notes["pixels"]))


class OpenVino(Format):
    """OpenVINO's intermediate representation: a folder with model.xml and model.bin."""

    name, suffix = "openvino", ".openvino"

    def write(self, export: Export, path: Path) -> None:
        openvino = _openvino()
        example = example_input(export.student, export.pixels)
        with torch.no_grad():
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

    def open(self, path: Path) -> ExportedNetwork:
        openvino = _openvino()
        model = openvino.Core().read_model(path / "model.xml")
        compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        pixels = as_pixels(model.get_rt_info("pixels").value)
        return ExportedNetwork(lambda images: torch.from_numpy(compiled(images.numpy())[0].copy()), pixels)


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise UserError(
            "the openvino format needs OpenVINO; install it with pip install 'facedistill[openvino]'"
        ) from error
    return openvino


FORMATS: dict[str, Format] = {kind.name: kind() for kind in (Onnx, OnnxInt8, TorchExport, OpenVino)}


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
