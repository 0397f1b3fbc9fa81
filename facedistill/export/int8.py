"""An ONNX student with 8-bit weights and activations."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    import onnx

LEAST_COSINE = 0.997
_STEP = 4  # layers that return to float32 at a time
_CALIBRATIONS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("MinMax", {}),
    ("Percentile", {"CalibPercentile": 99.99}),
)


def quantize(model: onnx.ModelProto, faces: Tensor, held_out: Tensor) -> onnx.ModelProto:
    """Quantizes a float graph after training, with ONNX Runtime's quantizer.

    Weights have a scale per output channel and activations one per tensor. Their ranges are the extremes on the
    calibration images or the 99.99th percentiles, whichever gives the higher mean cosine to the float embeddings of
    `held_out`. If that is below `LEAST_COSINE`, the convolutions and linear layers that lose most when quantized alone
    return to float32, four at a time.

    Args:
        model: Of `facedistill.export.onnx.onnx_model`.
        faces: (N, ...) calibration images as the graph takes them.
        held_out: (M, ...) further images, for the measurement.

    Returns:
        The graph with QuantizeLinear and DequantizeLinear nodes (QDQ).
    """
    prepared = _without_batch_norm(model)
    expected = _embed(prepared, held_out)

    def measured(**options: Any) -> tuple[float, onnx.ModelProto]:
        found = _quantized(prepared, faces, **options)
        return float(F.cosine_similarity(_embed(found, held_out), expected).mean()), found

    tried = []
    for method, extra in _CALIBRATIONS:
        with contextlib.suppress(ValueError):  # an activation that is constant has no histogram
            tried.append((measured(method=method, extra=extra), method, extra))
    (cosine, best), method, extra = max(tried, key=lambda one: one[0][0])
    if cosine >= LEAST_COSINE:
        return best
    layers = [node.name for node in prepared.graph.node if node.op_type in ("Conv", "Gemm")]
    alone = {name: measured(method=method, extra=extra, nodes_to_quantize=[name])[0] for name in layers}
    worst = sorted(layers, key=lambda name: alone[name])
    for count in range(_STEP, len(layers), _STEP):
        cosine, best = measured(method=method, extra=extra, nodes_to_exclude=worst[:count])
        if cosine >= LEAST_COSINE:
            break
    return best


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
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {model.graph.input[0].name: images.numpy()})[0])
