"""Recognizes a teacher's file by its keys, graph or hash, and says how that family is loaded and what input it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from facedistill.assets.archive import sha256_of
from facedistill.errors import AssetError, ConfigError
from facedistill.models.backbones.mobilefacenet import MobileFaceNet
from facedistill.models.rebuild import rebuild
from facedistill.models.teachers import (
    arcface_mobilefacenet,
    dlib_resnet,
    edgeface,
    facenet,
    ir,
    iresnet,
    mobilefacenet,
    onnx_network,
    student,
    timm_network,
    torch_program,
    vit,
)
from facedistill.models.teachers.arcface_mobilefacenet import ArcFaceMobileFaceNet
from facedistill.models.teachers.checkpoint import read_state_dict
from facedistill.models.teachers.dlib_resnet import DlibResNet
from facedistill.models.teachers.edgeface import EdgeFace
from facedistill.models.teachers.facenet import FaceNet
from facedistill.models.teachers.ir import IR
from facedistill.models.teachers.iresnet import IResNet
from facedistill.models.teachers.mobilefacenet import FaceXZooMobileFaceNet
from facedistill.models.teachers.onnx_network import OnnxNetwork
from facedistill.models.teachers.student import Student
from facedistill.models.teachers.timm_network import TimmNetwork
from facedistill.models.teachers.torch_program import TorchProgram
from facedistill.models.teachers.vit import ViT
from facedistill.models.weights import read_weights
from facedistill.types import InputSpec

if TYPE_CHECKING:
    import onnx

Converter = Callable[[Mapping[str, Path]], dict[str, Tensor]]

_SFACE = "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79"
_NIZHIB = ("73e07ba7", "7f187506", "5b0d0e90")  # torch's file names carry the start of the sha256
_DLIB = b"\x01\x01\x01\x0dloss_metric_2"


@dataclass(frozen=True)
class Family:
    """How a file is loaded, and what input the network takes.

    Attributes:
        title: For messages.
        network: Class of the network.
        convert: Turns the file into the network's state.
        arguments: The network's constructor arguments.
        embedding_dim: D.
        size_px: Side of its input faces.
        input_spec: As its authors use it; None if unknown.
        classifier: "none" in the file, or "dropped".
    """

    title: str
    network: type[nn.Module]
    convert: Converter
    embedding_dim: int
    arguments: dict[str, Any] = field(default_factory=dict)
    size_px: int = 112
    input_spec: InputSpec | None = None
    classifier: str = "none"


_FACENET = Family(
    "FaceNet (InceptionResnetV1)",
    FaceNet,
    facenet.convert,
    512,
    size_px=160,
    input_spec=InputSpec(160, std=128.0),
)


def recognize(path: Path, timm_name: str | None = None, trusted: bool = False) -> Family:
    """The family of a checkpoint, a graph or a program.

    Args:
        path: The file.
        timm_name: The network of timm that the file has weights of, as the user says.
        trusted: Whether a program may run; see `TorchProgram`.

    Raises:
        AssetError: If the file cannot be read safely or is of no known family.
        ConfigError: If it is a program and not trusted, or timm has no such network.
    """
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise AssetError(f"{path} {problem}; give the path of a teacher's file")
    if timm_name is not None:
        return _timm(path, timm_name)
    if path.suffix == ".onnx":
        return _graph(path)
    if path.suffix == ".pb":
        return _FACENET
    if (kind := torch_program.kind_of(path)) is not None:
        return _program(path, kind, trusted)
    with path.open("rb") as stream:
        if stream.read(len(_DLIB)) == _DLIB:
            spec = InputSpec(mean=0.0, std=1.0)
            return Family("dlib's ResNet", DlibResNet, dlib_resnet.convert, 128, input_spec=spec)
    if path.suffix == ".safetensors" and student.METADATA in read_weights(path)[1]:
        return _student(path)
    tensors = read_state_dict(path)
    for family in (_iresnet, _ir, _mbf, _facexzoo, _facenet, _vit):
        if (found := family(path, tensors)) is not None:
            return found
    raise AssetError(
        f"{path.name} is of no known family: its first keys are {', '.join(list(tensors)[:3])}; "
        "give --timm NAME if timm has its network, or export it to ONNX and add that file"
    )


def _iresnet(path: Path, tensors: Mapping[str, Tensor]) -> Family | None:
    state = iresnet.network_state(tensors)
    layers = iresnet.depth_of(state)
    if layers is None:
        return None
    width = len(state["fc.weight"])
    arguments: dict[str, Any] = {"layers": layers} | ({"embedding_dim": width} if width != 512 else {})
    title, spec, epsilon = f"arcface_torch IResNet-{layers}", InputSpec(), None
    if any(key.startswith("features.module.") for key in tensors):
        title, spec, epsilon = f"MagFace IResNet-{layers}", InputSpec(color="BGR", mean=0.0, std=255.0), 2e-5
    elif sha256_of(path).startswith(_NIZHIB):
        title, spec, epsilon = f"nizhib's IResNet-{layers} from MXNet", InputSpec(std=128.0), 2e-5
    if epsilon is not None:
        arguments["epsilon"] = epsilon
    dropped = "dropped" if len(tensors) > len(state) else "none"
    return Family(title, IResNet, iresnet.convert, width, arguments, input_spec=spec, classifier=dropped)


def _ir(path: Path, tensors: Mapping[str, Tensor]) -> Family | None:
    state = ir.network_state(tensors)
    arguments = ir.describe(state)
    if arguments is None:
        return None
    prefix = next((p for p in ir.PREFIXES if any(key.startswith(p) for key in tensors)), "")
    maker = {"model.net.": "CVLface", "net.": "CVLface", "model.": "AdaFace"}.get(prefix, "an")
    # CVLface gives the color order in its model.yaml; bare state dicts do not give it.
    spec = InputSpec(color="BGR") if maker == "AdaFace" else None
    dropped = "dropped" if len(tensors) > len(state) else "none"
    width = arguments.get("embedding_dim", 512)
    title = f"{maker} {ir.title(arguments)}"
    return Family(title, IR, ir.convert, width, arguments, input_spec=spec, classifier=dropped)


def _mbf(path: Path, tensors: Mapping[str, Tensor]) -> Family | None:
    if not {"conv_sep.layers.0.weight", "features.layers.2.weight"} <= tensors.keys():
        return None
    width = len(tensors["features.layers.2.weight"])
    arguments = {"variant": "insightface", "embedding_dim": width}
    title = "insightface's MobileFaceNet (mbf)"
    return Family(title, MobileFaceNet, mobilefacenet.convert_mbf, width, arguments, input_spec=InputSpec())


def _facexzoo(path: Path, tensors: Mapping[str, Tensor]) -> Family | None:
    state = {key.removeprefix("module."): value for key, value in tensors.items()}
    if not {"conv_6_dw.conv.weight", "linear.weight"} <= state.keys():
        return None
    width = len(state["linear.weight"])
    spec = InputSpec(color="BGR", std=128.0)  # FaceX-Zoo reads by OpenCV
    convert = mobilefacenet.convert_facexzoo
    title = "FaceX-Zoo's MobileFaceNet"
    return Family(title, FaceXZooMobileFaceNet, convert, width, {"embedding_dim": width}, input_spec=spec)


def _facenet(path: Path, tensors: Mapping[str, Tensor]) -> Family | None:
    if not {"last_linear.weight", "block8.conv2d.weight"} <= tensors.keys():
        return None
    return replace(_FACENET, classifier="dropped" if "logits.weight" in tensors else "none")


def _vit(path: Path, tensors: Mapping[str, Tensor]) -> Family | None:
    arguments = vit.describe(tensors)
    if arguments is None:
        return None
    width = arguments.get("embedding_dim", 512)
    title = f"arcface_torch ViT-{arguments['size'].upper()}"
    return Family(title, ViT, vit.convert, width, arguments, input_spec=InputSpec())


def _student(path: Path) -> Family:
    state, metadata = read_weights(path)
    description = student.description_of(metadata, path.name)
    width = rebuild(description, path.name, state).embedding_dim
    title = f"a student of this package, {description['class']}"
    return Family(title, Student, student.convert, width, {"embedding_dim": width}, input_spec=InputSpec())


def _timm(path: Path, name: str) -> Family:
    state = timm_network.convert({path.name: path})
    heads = [value for key, value in state.items() if value.ndim == 2 and key.endswith(".weight")]
    width = len(heads[-1]) if heads else 512
    arguments: dict[str, Any] = {"name": name, "embedding_dim": width}
    TimmNetwork(**arguments)  # refuses a network that timm does not have
    return Family(f"timm's {name}", TimmNetwork, timm_network.convert, width, arguments)


def _program(path: Path, kind: str, trusted: bool) -> Family:
    if not trusted:
        raise ConfigError(
            f"{path.name} is a {kind} program, which can read and write your files when it runs; give --trust if you "
            "trust its author, or give weights or ONNX"
        )
    width = torch_program.width_of(path)
    arguments = {"embedding_dim": width, "trusted": True}
    return Family(f"a {kind} program", TorchProgram, torch_program.convert, width, arguments)


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
        raise AssetError(f"{path.name} returns {dims}, not embeddings (N, D); it cannot be a teacher")
    return dims[1]
