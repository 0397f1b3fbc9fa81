"""Measures a student's file in its runtime. To be run in a process of its own, whose memory is nothing else's."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from facedistill.export.formats import FORMATS, ExportedNetwork
from facedistill.export.pixels import as_input
from facedistill.export.student import load_student
from facedistill.models.cost import Latency, latency_of
from facedistill.system.machine import forget_peak_memory, peak_memory_mib
from facedistill.system.memory import keep_freed_memory
from facedistill.system.trust import admit

PYTORCH = "pytorch"
_PACKAGES = {"PyTorch": "torch", "ONNX Runtime": "onnxruntime", "OpenVINO": "openvino"}


@dataclass(frozen=True)
class FileCost:
    """What a file costs in its runtime.

    Attributes:
        runtime: Name and version.
        latency: Of forward passes.
        peak_one_mib: Most memory held beyond the imported libraries and the images, after opening the file and embedding
            single faces.
        peak_batch_mib: The same after embedding batches.
    """

    runtime: str
    latency: Latency
    peak_one_mib: float
    peak_batch_mib: float


def runtime_of(format_name: str) -> str:
    """The runtime of "pytorch" or a format, without its version."""
    return "PyTorch" if format_name == PYTORCH else FORMATS[format_name].runtime


def is_installed(format_name: str) -> bool:
    """Whether the runtime of a format can be imported."""
    return importlib.util.find_spec(_PACKAGES[runtime_of(format_name)]) is not None


@torch.inference_mode()
def measure_file(
    format_name: str,
    path: Path,
    *,
    size_px: int,
    threads: int,
    batch_size: int,
    seconds: float,
    trusted: Iterable[str] = (),
) -> FileCost:
    """Opens a file and embeds noise images with it.

    Args:
        format_name: "pytorch" of a student.safetensors, eager and channels last; or a format.
        path: The file.
        size_px: Side of the faces.
        threads: Of the runtime.
        batch_size: Faces in the larger batch.
        seconds: See `latency_of`.
        trusted: Code that the user has admitted, see `facedistill.system.trust`.

    Raises:
        UserError: If the file is damaged or its runtime is not installed.
    """
    admit(trusted)
    keep_freed_memory()
    torch.set_num_threads(threads)
    runtime = runtime_of(format_name)
    for package in {_PACKAGES[runtime], *(("torchvision", "timm") if format_name == PYTORCH else ())}:
        with suppress(ImportError):
            importlib.import_module(package)
    images = torch.rand(batch_size, 3, size_px, size_px) * 2 - 1
    before = forget_peak_memory()
    network = _open(format_name, path, threads)
    faces = as_input(images, network.pixels)
    peaks = []
    for batch in (faces[:1], faces):
        for _ in range(2):
            network.run(batch)
        peaks.append(max(0.0, peak_memory_mib() - before))
    latency = latency_of(network.run, faces, threads, seconds, fewest=5)
    return FileCost(f"{runtime} {version(_PACKAGES[runtime])}", latency, *peaks)


def _open(format_name: str, path: Path, threads: int) -> ExportedNetwork:
    if format_name != PYTORCH:
        return FORMATS[format_name].open(path, threads)
    backbone = load_student(path).to(memory_format=torch.channels_last)
    return ExportedNetwork(lambda images: backbone(images.contiguous(memory_format=torch.channels_last)), {})
