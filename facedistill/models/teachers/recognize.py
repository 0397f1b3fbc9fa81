"""Tells what a teacher's file is from its keys, its graph or its hash, and how that family is loaded and fed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from torch import Tensor, nn

from facedistill.assets.archive import sha256_of
from facedistill.errors import AssetError
from facedistill.models.teachers import arcface_mobilefacenet, edgeface, iresnet, onnx_network
from facedistill.models.teachers.arcface_mobilefacenet import ArcFaceMobileFaceNet
from facedistill.models.teachers.checkpoint import read_checkpoint
from facedistill.models.teachers.edgeface import EdgeFace
from facedistill.models.teachers.iresnet import IResNet
from facedistill.models.teachers.onnx_network import OnnxNetwork
from facedistill.types import InputSpec

Converter = Callable[[Mapping[str, Path]], dict[str, Tensor]]

_SFACE = "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79"
_NIZHIB = ("73e07ba7", "7f187506", "5b0d0e90")  # torch's file names carry the start of the sha256


@dataclass(frozen=True)
class Family:
    """How a file is loaded and fed.

    Attributes:
        title: What it is, for people.
        network: Class of the network.
        convert: Turns the file into the network's state.
        arguments: The network's constructor arguments.
        embedding_dim: D.
        size_px: Side of the faces that it takes.
        input_spec: What its makers feed it; None where that is not known.
    """

    title: str
    network: type[nn.Module]
    convert: Converter
    embedding_dim: int
    arguments: dict[str, Any] = field(default_factory=dict)
    size_px: int = 112
    input_spec: InputSpec | None = None


def recognize(path: Path) -> Family:
    """The family of a checkpoint or an ONNX graph.

    Raises:
        AssetError: If the file cannot be read safely or belongs to no family that is known.
    """
    if not path.is_file():
        raise AssetError(f"{path} does not exist; give the path of a teacher's file")
    return _graph(path) if path.suffix == ".onnx" else _checkpoint(path)


def _checkpoint(path: Path) -> Family:
    whole = read_checkpoint(path)
    state = iresnet.unprefixed(whole)
    layers = iresnet.depth_of(state)
    if layers is None:
        raise AssetError(
            f"{path.name} is of no known family: its first keys are {', '.join(list(whole)[:3])}; "
            "export it to ONNX and add that file"
        )
    width = len(state["fc.weight"])
    arguments: dict[str, Any] = {"layers": layers} | ({"embedding_dim": width} if width != 512 else {})
    title, spec, epsilon = f"arcface_torch IResNet-{layers}", InputSpec(), None
    if any(key.startswith("features.module.") for key in whole):
        title, spec, epsilon = f"MagFace IResNet-{layers}", InputSpec(color="BGR", mean=0.0, std=255.0), 2e-5
    elif sha256_of(path).startswith(_NIZHIB):
        title, spec, epsilon = f"nizhib's IResNet-{layers} from MXNet", InputSpec(std=128.0), 2e-5
    if epsilon is not None:
        arguments["epsilon"] = epsilon
    return Family(title, IResNet, iresnet.convert, width, arguments, input_spec=spec)


def _graph(path: Path) -> Family:
    model = onnx_network.read_graph(path)
    names = {i.name for i in model.graph.initializer}
    if "model.stages.1.blocks.2.gamma_xca" in names:
        size = "xs" if "model.stages.1.blocks.2.pos_embd.token_projection.weight" in names else "s"
        arguments = {"size": size}
        return Family(
            f"EdgeFace-{size.upper()}", EdgeFace, edgeface.convert, 512, arguments, input_spec=InputSpec()
        )
    try:
        arcface_mobilefacenet.convert({path.name: path})
    except (AssetError, ValueError, RuntimeError, StopIteration):
        return _any_graph(path, model)
    title = "insightface's MobileFaceNet (w600k_mbf)"
    return Family(title, ArcFaceMobileFaceNet, arcface_mobilefacenet.convert, 512, input_spec=InputSpec())


def _any_graph(path: Path, model: onnx.ModelProto) -> Family:
    side = onnx_network.image_shape(model)[2]
    width = _width(path, model)
    spec = InputSpec(color="BGR", mean=0.0, std=1.0) if sha256_of(path) == _SFACE else None
    title = "SFace (OpenCV zoo), run by onnxruntime" if spec else "an ONNX graph, run by onnxruntime"
    size_px = side if isinstance(side, int) else 112
    return Family(
        title, OnnxNetwork, onnx_network.convert, width, {"embedding_dim": width}, size_px, input_spec=spec
    )


def _width(path: Path, model: onnx.ModelProto) -> int:
    dims = [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim]
    if len(dims) < 2 or not dims[1] or any(size > 1 for size in dims[2:]):
        raise AssetError(f"{path.name} gives {dims} and no embeddings (N, D); it cannot be a teacher")
    return dims[1]
