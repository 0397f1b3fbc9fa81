"""Any ONNX recognizer as a teacher, run by onnxruntime."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from facedistill.errors import AssetError, ConfigError
from facedistill.models.onnx_session import cpu_session
from facedistill.models.teachers.file_network import FileProgram
from facedistill.models.teachers.onnx_file import read_onnx

if TYPE_CHECKING:
    import onnx
    import onnxruntime

_SECONDS_PER_FACE = 60  # no recognizer needs as much
_TOLERANCE = 1e-4  # between batched and single embeddings, relative to the largest element


class OnnxNetwork(FileProgram):
    """Runs a graph on the CPU, on whatever device the images are; it has no gradient and no params or MACs to count.

    The graph is in the buffer `graph`. Graphs for single images get them one by one.

    Attributes:
        embedding_dim: D.
    """

    def __init__(self, embedding_dim: int) -> None:
        """Declares the network; `allocate` and the weights of `convert` complete it.

        Args:
            embedding_dim: D, checked at the first batch.
        """
        super().__init__(embedding_dim, "graph")

    @torch.compiler.disable
    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, size_px, size_px) faces as (N, D) float32 embeddings on the device of the images."""
        if self._opened is None:
            self._opened = session(self.get_buffer("graph").cpu().numpy().tobytes())
        pixels = images.detach().float().cpu().contiguous().numpy()
        (wanted, *_) = self._opened.get_inputs()
        parts = np.split(pixels, len(pixels)) if wanted.shape[0] == 1 else [pixels]
        try:
            embeddings = np.concatenate([_run(self._opened, part) for part in parts])
        except Exception as error:
            if type(error).__name__ != "InvalidArgument":  # onnxruntime's
                raise
            raise ConfigError(
                f"teacher.input_spec: the graph takes faces of shape {wanted.shape[1:]}, not {list(pixels.shape[1:])}; "
                "fix size_px"
            ) from error
        return self._checked(torch.from_numpy(embeddings)).to(images.device)


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Copies an ONNX recognizer, with a free batch dimension N where the graph allows it, else 1.

    N is free if a batch of two gives the embeddings of the single images, within 1e-4 of the largest element.

    Args:
        members: One ONNX file and its path.

    Returns:
        `graph`, uint8 (B,), and the empty `place`.

    Raises:
        AssetError: If the file is not a graph from one (N, 3, H, W) image input to one embedding.
    """
    ((name, path),) = members.items()
    model = read_graph(path)
    original = model.SerializeToString()
    _set_batch(model, None)
    if not _is_batch_safe(model):
        model.ParseFromString(original)
        _set_batch(model, 1)
        try:
            _run(session(model.SerializeToString()), _noise(model, 1))
        except Exception as error:  # onnxruntime has an error class for each cause
            raise AssetError(
                f"{name} cannot be run by onnxruntime ({' '.join(str(error).split()):.120})"
            ) from error
    graph_bytes = torch.frombuffer(bytearray(model.SerializeToString()), dtype=torch.uint8)
    return {"graph": graph_bytes, "place": torch.empty(0)}


def read_graph(path: Path) -> onnx.ModelProto:
    """An ONNX file with one image input (N, 3, H, W).

    Raises:
        AssetError: If it is not.
    """
    import onnx

    model = read_onnx(path)
    shape = image_shape(model)
    if len(shape) != 4 or shape[1] != 3:
        raise AssetError(f"{path.name} takes {shape}, not images (N, 3, H, W); it cannot be a teacher")
    if (kind := _inputs(model)[0].type.tensor_type.elem_type) != onnx.TensorProto.FLOAT:
        given = onnx.TensorProto.DataType.Name(kind).lower()
        raise AssetError(f"{path.name} takes images of {given}; export it with an input of float32")
    return model


def image_shape(model: onnx.ModelProto) -> list[int | str]:
    """Shape of the first input that is not an initializer; a free dimension has a name."""
    dims = _inputs(model)[0].type.tensor_type.shape.dim if _inputs(model) else []
    return [d.dim_value or d.dim_param or "?" for d in dims]


def session(graph: bytes) -> onnxruntime.InferenceSession:
    """A silent CPU session with as many threads as torch has."""
    return cpu_session(graph, torch.get_num_threads(), log_severity=4)


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    constants = {i.name for i in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in constants]


def _run(running: onnxruntime.InferenceSession, pixels: np.ndarray) -> np.ndarray:
    """Flat outputs (N, D); a graph with an endless loop is stopped, which onnxruntime reports as an error."""
    import onnxruntime

    (wanted, *_), (output, *_) = running.get_inputs(), running.get_outputs()
    options = onnxruntime.RunOptions()
    limit = threading.Timer(_SECONDS_PER_FACE * len(pixels), setattr, (options, "terminate", True))
    limit.daemon = True
    limit.start()
    try:
        found = running.run([output.name], {wanted.name: pixels}, options)[0]
    finally:
        limit.cancel()
    return found.reshape(len(found), -1)


def _set_batch(model: onnx.ModelProto, number: int | None) -> None:
    for value in [*_inputs(model)[:1], *model.graph.output]:
        if value.type.tensor_type.shape.dim:
            first = value.type.tensor_type.shape.dim[0]
            first.Clear()
            if number is None:
                first.dim_param = "N"
            else:
                first.dim_value = number
    del model.graph.value_info[:]


def _is_batch_safe(model: onnx.ModelProto) -> bool:
    pixels = _noise(model, 2)
    try:
        running = session(model.SerializeToString())
        batched = _run(running, pixels)
        single = np.concatenate([_run(running, image[None]) for image in pixels])
    except Exception:  # a graph with a fixed batch of 1 fails in many ways
        return False
    return batched.shape == single.shape and bool(
        np.abs(batched - single).max() <= _TOLERANCE * np.abs(single).max()
    )


def _noise(model: onnx.ModelProto, number: int) -> np.ndarray:
    sides = [side if isinstance(side, int) else 112 for side in image_shape(model)[2:]]
    return np.random.default_rng(0).uniform(-1, 1, (number, 3, *sides)).astype(np.float32)
