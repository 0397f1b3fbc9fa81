"""Any ONNX recognizer as a teacher: the graph is the weights, and onnxruntime runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from facedistill.errors import AssetError, ConfigError
from facedistill.models.teachers.file_network import FileNetwork
from facedistill.models.weights import read_weights

_TOLERANCE = 1e-4  # of a batch's embeddings to the single ones, relative to the largest element


class OnnxNetwork(FileNetwork):
    """Runs a graph on the CPU, whatever the device of the images; no gradient, no params or MACs that count.

    The graph lies in the buffer `graph`, uint8 (B,), so that its bytes are fingerprinted, fetched and moved as
    weights are. A graph that only knows single images is given them one by one.

    Attributes:
        embedding_dim: D.
    """

    def __init__(self, embedding_dim: int) -> None:
        """Declares the network; `make_room` and the weights of `convert` complete it.

        Args:
            embedding_dim: D, held against the graph at the first batch.
        """
        super().__init__()
        self.embedding_dim = embedding_dim
        self.register_buffer("graph", torch.empty(0, dtype=torch.uint8))
        self.place = nn.Parameter(torch.empty(0))  # has the device that parents look for
        self._session: onnxruntime.InferenceSession | None = None

    def make_room(self, weights: Path) -> None:
        """Gives the buffer the size of the graph in a safetensors file."""
        state = read_weights(weights)[0]
        if "graph" in state:
            self.graph = torch.empty_like(state["graph"])

    @torch.compiler.disable
    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, size_px, size_px) faces as (N, D) float32 embeddings on the device of the images."""
        if self._session is None:
            self._session = session(self.graph.cpu().numpy().tobytes())
        pixels = images.detach().float().cpu().contiguous().numpy()
        (wanted, *_) = self._session.get_inputs()
        alone = wanted.shape[0] == 1
        parts = [pixels[n : n + 1] for n in range(len(pixels))] if alone else [pixels]
        try:
            found = np.concatenate([_run(self._session, part) for part in parts])
        except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument as error:
            raise ConfigError(
                f"teacher.input_spec: the graph takes faces of shape {wanted.shape[1:]}, not {list(pixels.shape[1:])}; "
                "mend size_px"
            ) from error
        if found.shape[1:] != (self.embedding_dim,):
            raise ConfigError(
                f"teacher.embedding_dim: {self.embedding_dim}, but the graph's embeddings have shape {found.shape[1:]}"
            )
        return torch.from_numpy(found).to(images.device)

    def __getstate__(self) -> dict[str, Any]:
        """A copy opens its own session."""
        return {**self.__dict__, "_session": None}


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Takes an ONNX recognizer as it is, but with a batch dimension that may grow where the graph allows it.

    The dimension is called N and held to the proof: two images together must give what each gives alone, within
    1e-4 of the largest element. Else it is fixed to 1.

    Args:
        members: One ONNX file and its path.

    Returns:
        `graph`, uint8 (B,), and the empty `place`.

    Raises:
        AssetError: If the file is no graph from one (N, 3, H, W) image input to one embedding.
    """
    ((name, path),) = members.items()
    graph = read_graph(path)
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    _set_batch(model, None)
    if not _is_batch_safe(model):
        model.CopyFrom(graph)
        _set_batch(model, 1)
        try:
            _run(session(model.SerializeToString()), _noise(model, 1))
        except Exception as error:  # onnxruntime has an error class per cause
            raise AssetError(f"{name} cannot be run by onnxruntime ({_first_line(error)})") from error
    graph_bytes = torch.frombuffer(bytearray(model.SerializeToString()), dtype=torch.uint8)
    return {"graph": graph_bytes, "place": torch.empty(0)}


def read_graph(path: Path) -> onnx.ModelProto:
    """An ONNX file with one image input (N, 3, H, W).

    Raises:
        AssetError: If it is not that.
    """
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's own error classes differ between its implementations
        kind = type(error).__name__
        raise AssetError(f"{path.name} is truncated or not an ONNX file ({kind}); fetch it again") from error
    found = image_shape(model)
    if len(found) != 4 or found[1] != 3:
        raise AssetError(f"{path.name} takes {found} and no images (N, 3, H, W); it cannot be a teacher")
    return model


def image_shape(model: onnx.ModelProto) -> list[int | str]:
    """Shape of the first input that is no initializer; names where a dimension is free."""
    dims = _inputs(model)[0].type.tensor_type.shape.dim if _inputs(model) else []
    return [d.dim_value or d.dim_param or "?" for d in dims]


def session(graph: bytes) -> onnxruntime.InferenceSession:
    """A silent CPU session with as many threads as torch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    constants = {i.name for i in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in constants]


def _run(running: onnxruntime.InferenceSession, pixels: np.ndarray) -> np.ndarray:
    (wanted, *_), (output, *_) = running.get_inputs(), running.get_outputs()
    found = running.run([output.name], {wanted.name: pixels})[0]
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
        together = _run(running, pixels)
        alone = np.concatenate([_run(running, image[None]) for image in pixels])
    except Exception:  # whatever a graph with a baked-in batch of 1 trips over
        return False
    return together.shape == alone.shape and bool(
        np.abs(together - alone).max() <= _TOLERANCE * np.abs(alone).max()
    )


def _noise(model: onnx.ModelProto, number: int) -> np.ndarray:
    sides = [side if isinstance(side, int) else 112 for side in image_shape(model)[2:]]
    return np.random.default_rng(0).uniform(-1, 1, (number, 3, *sides)).astype(np.float32)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
