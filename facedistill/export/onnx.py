"""A student as an ONNX graph that carries its own input contract."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from facedistill.export.student import KEY, describe
from facedistill.models.backbones import Backbone
from facedistill.system.files import write_atomically
from facedistill.types import InputSpec

if TYPE_CHECKING:
    import onnx

INPUT, OUTPUT = "images", "embeddings"


def export_onnx(backbone: Backbone, path: Path, metadata: Mapping[str, Any]) -> None:
    """Writes a graph `images` (N, 3, H, W) float32 -> `embeddings` (N, D), any N, as in eval mode.

    `metadata_props` hold the sentence `input_contract`, `embedding_dim`, and under "facedistill" the same
    description as the safetensors file.

    Args:
        backbone: One of `facedistill.export.student.BACKBONES`; its mode, dtype and device stay as they are.
        path: The .onnx file, weights inside.
        metadata: JSON-ready facts about the run: run id, teacher, licences.

    Raises:
        ConfigError: If the backbone's class is unknown.
        UserError: If the file cannot be written.
    """
    import onnx

    description = describe(backbone, metadata)
    network = copy.deepcopy(backbone).cpu().float().eval()
    size = backbone.input_spec.size_px
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns about its own and onnxscript's deprecations
        program = torch.onnx.export(
            network,
            (torch.zeros(2, 3, size, size),),  # 2: a batch of one would be taken for a constant
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    assert program is not None
    model = _without_traces(program.model_proto)
    onnx.helper.set_model_props(
        model,
        {
            "input_contract": contract(backbone.input_spec),
            "embedding_dim": str(backbone.embedding_dim),
            KEY: json.dumps(description, sort_keys=True),
        },
    )
    onnx.checker.check_model(model)
    write_atomically(path, model.SerializeToString())


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drops the exporter's notes on every node: half a megabyte that tells the paths of this machine."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    assert not model.functions, "functions would hold notes of their own"
    return model


def contract(spec: InputSpec) -> str:
    """What a caller must feed, in one sentence."""
    return (
        f"{spec.color} aligned faces of {spec.size_px}x{spec.size_px} px, float32 (N, 3, H, W), "
        f"(x - {spec.mean}) / {spec.std} of values 0..255"
    )
