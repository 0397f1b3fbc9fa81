"""An ONNX student with 8-bit weights and activations."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.errors import ConfigError
from facedistill.export.onnx import onnx_model
from facedistill.models.backbones import Backbone
from facedistill.models.backbones.quantized import QuantizedBackbone
from facedistill.models.onnx_session import cpu_session
from facedistill.models.qdq import LAYERS, QdqGraph
from facedistill.models.teachers.onnx_file import initializers

if TYPE_CHECKING:
    import onnx

NUM_CALIBRATION = 128
LEAST_COSINE = 0.995
_STEP = 4  # layers that return to float32 at a time
_NUM_CORRECTION = 64  # faces that biases are corrected on
_CALIBRATIONS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("MinMax", {}),
    ("Percentile", {"CalibPercentile": 99.99}),
)


@dataclass(frozen=True)
class _Found:
    """A quantized graph, its mean cosine to the float embeddings, and the options that gave it."""

    cosine: float
    graph: onnx.ModelProto
    options: Mapping[str, Any]


def quantize(model: onnx.ModelProto, faces: Tensor, held_out: Tensor) -> onnx.ModelProto:
    """Quantizes a float graph after training, with ONNX Runtime's quantizer and corrected biases.

    Weights have a scale per output channel and activations one per tensor. Their ranges are the extremes on the
    calibration images or the 99.99th percentiles, whichever gives the higher mean cosine to the float embeddings of
    `held_out`. Biases are corrected where every operation of the graph is known, see
    `facedistill.models.backbones.quantized.QuantizedBackbone.correct_biases`. If the cosine is then below `LEAST_COSINE`, the
    convolutions and linear layers that lose most when quantized alone return to float32, four at a time.

    Args:
        model: Of `facedistill.export.onnx.onnx_model`.
        faces: (N, ...) calibration images as the graph takes them.
        held_out: (M, ...) further images, for the measurement.

    Returns:
        The graph with QuantizeLinear and DequantizeLinear nodes (QDQ).
    """
    prepared = _without_batch_norm(model)
    measured = _measurement(prepared, faces, held_out)
    ranges = _best_ranges(measured)
    best = _with_corrected_biases(ranges, prepared, faces[:_NUM_CORRECTION], held_out)
    if best.cosine >= LEAST_COSINE:
        return best.graph
    layers = [node.name for node in prepared.graph.node if node.op_type in LAYERS]
    alone = {name: measured(**ranges.options, nodes_to_quantize=[name]).cosine for name in layers}
    worst = sorted(layers, key=lambda name: alone[name])
    for count in range(_STEP, len(layers), _STEP):
        found = measured(**ranges.options, nodes_to_exclude=worst[:count])
        best = _with_corrected_biases(found, prepared, faces[:_NUM_CORRECTION], held_out)
        if best.cosine >= LEAST_COSINE:
            break
    return best.graph


def _with_corrected_biases(
    found: _Found, prepared: onnx.ModelProto, faces: Tensor, held_out: Tensor
) -> _Found:
    """The graph with corrected biases, if that is possible and raises the cosine."""
    corrected = _corrected(prepared, found.graph, faces)
    if corrected is None:
        return found
    graph = corrected.as_onnx()
    return max(found, replace(found, cosine=_cosine(prepared, graph, held_out), graph=graph), key=_by_cosine)


def as_quantized_backbone(student: Backbone, faces: Tensor) -> QuantizedBackbone:
    """A float student as one whose layers are all in 8 bits, to be trained further.

    Args:
        student: Float.
        faces: (N, 3, H, W) faces in [-1, 1], N > `NUM_CALIBRATION`; see `quantize`.

    Raises:
        ConfigError: If it has an operation that is not supported.
    """
    prepared = _without_batch_norm(onnx_model(student, {}))
    calibration, held_out = faces[:NUM_CALIBRATION], faces[NUM_CALIBRATION:]
    best = _best_ranges(_measurement(prepared, calibration, held_out))
    return _with_weights_of(prepared, best.graph).correct_biases(calibration[:_NUM_CORRECTION])


def _measurement(prepared: onnx.ModelProto, faces: Tensor, held_out: Tensor) -> Callable[..., _Found]:
    def measured(**options: Any) -> _Found:
        graph = _quantized(prepared, faces, **options)
        return _Found(_cosine(prepared, graph, held_out), graph, options)

    return measured


def _best_ranges(measured: Callable[..., _Found]) -> _Found:
    tried = []
    for method, extra in _CALIBRATIONS:
        with contextlib.suppress(ValueError):  # an activation that is constant has no histogram
            tried.append(measured(method=method, extra=extra))
    return max(tried, key=_by_cosine)


def _by_cosine(found: _Found) -> float:
    return found.cosine


def _cosine(expected: onnx.ModelProto, found: onnx.ModelProto, images: Tensor) -> float:
    return float(F.cosine_similarity(_embed(found, images), _embed(expected, images)).mean())


def _corrected(prepared: onnx.ModelProto, graph: onnx.ModelProto, faces: Tensor) -> QuantizedBackbone | None:
    try:
        return _with_weights_of(prepared, graph).correct_biases(faces)
    except ConfigError:  # an operation that is not known
        return None


def _with_weights_of(prepared: onnx.ModelProto, graph: onnx.ModelProto) -> QuantizedBackbone:
    return QuantizedBackbone(QdqGraph(graph).packed()).load_float(initializers(prepared.graph))


def _quantized(
    model: onnx.ModelProto, faces: Tensor, *, method: str, extra: Mapping[str, Any], **options: Any
) -> onnx.ModelProto:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            _reader(model.graph.input[0].name, faces),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,  # the fast kernels of x86 take unsigned activations and signed weights
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[method],
            extra_options=dict(extra),
            **options,
        )
        return onnx.load(target)


def _reader(name: str, faces: Iterable[Tensor]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._faces: Iterator[Tensor] = iter(faces)

        def get_next(self) -> dict[str, Any] | None:
            face = next(self._faces, None)
            return None if face is None else {name: face[None].numpy()}

    return Reader()


def _without_batch_norm(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with constants folded and batch normalization merged into convolutions, as the quantizer needs it."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "prepared.onnx")
        onnx.save(model, source)
        quant_pre_process(source, target, skip_symbolic_shape=True)
        return onnx.load(target)


def _embed(model: onnx.ModelProto, images: Tensor) -> Tensor:
    session = cpu_session(model.SerializeToString())
    return torch.from_numpy(session.run(None, {model.graph.input[0].name: images.numpy()})[0])
