"""A student as an ONNX graph that carries its own input contract."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from facedistill.errors import ConfigError, UserError, reason
from facedistill.export.pixels import PixelInput, Pixels, contract
from facedistill.export.student import KEY, describe
from facedistill.models.backbones import Backbone
from facedistill.models.backbones.own import OwnBackbone
from facedistill.models.backbones.quantized import QuantizedBackbone
from facedistill.models.imported import ImportedBackbone
from facedistill.system.files import write_atomically

if TYPE_CHECKING:
    import onnx

INPUT, OUTPUT = "images", "embeddings"
_ANY_BATCH = ({0: torch.export.Dim("N")},)


class TracingError(UserError):
    """torch cannot trace a network of the user's."""


def export_onnx(
    backbone: Backbone, path: Path, metadata: Mapping[str, Any], pixels: Pixels = "float"
) -> None:
    """Writes a graph `images` -> `embeddings` (N, D), any N, as in eval mode.

    `metadata_props` hold the sentence `input_contract`, `embedding_dim`, and under "facedistill" the same
    description as the safetensors file.

    Args:
        backbone: One of `facedistill.export.student.BACKBONES`; its mode, dtype and device stay as they are.
        path: The .onnx file, weights inside.
        metadata: JSON-ready facts about the run: run id, teacher, licences.
        pixels: "float" takes (N, 3, H, W) float32 images, scaled; "rgb" and "bgr" take (N, H, W, 3) uint8 pixels and
            return unit embeddings.

    Raises:
        ConfigError: If the backbone's class is unknown.
        TracingError: If torch cannot trace it.
        UserError: If the file cannot be written.
    """
    write_atomically(path, onnx_model(backbone, metadata, pixels).SerializeToString())


def onnx_model(backbone: Backbone, metadata: Mapping[str, Any], pixels: Pixels = "float") -> onnx.ModelProto:
    """The graph that `export_onnx` writes."""
    import onnx

    description = describe(backbone, metadata)
    if isinstance(backbone, QuantizedBackbone):
        model = _quantized_model(backbone, pixels)
        del description["backbone"]["arguments"]["graph"]  # the file is that graph
    else:
        model = _float_model(backbone, pixels)
    onnx.helper.set_model_props(
        model,
        {
            "input_contract": contract(backbone.input_spec, pixels),
            "embedding_dim": str(backbone.embedding_dim),
            "pixels": pixels,
            KEY: json.dumps(description, sort_keys=True),
        },
    )
    onnx.checker.check_model(model)
    return model


def _quantized_model(backbone: QuantizedBackbone, pixels: Pixels) -> onnx.ModelProto:
    if pixels != "float":
        raise ConfigError(
            f"--pixels {pixels}: a student that was trained in 8 bits takes --pixels float only"
        )
    return backbone.as_onnx()


def _float_model(backbone: Backbone, pixels: Pixels) -> onnx.ModelProto:
    with tracing(backbone):
        program = torch.onnx.export(
            inference_network(backbone, pixels),
            (example_input(backbone, pixels),),
            dynamo=True,
            dynamic_shapes=_ANY_BATCH,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
        assert program is not None
        model = program.model_proto
        if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:  # the exporter's last resort
            raise RuntimeError("the graph takes one batch size only")
        return _without_traces(model)


def traced_program(backbone: Backbone, pixels: Pixels) -> torch.export.ExportedProgram:
    """The network as a `torch.export` program for any batch size.

    Raises:
        TracingError: See `tracing`.
    """
    with tracing(backbone):
        network, example = inference_network(backbone, pixels), example_input(backbone, pixels)
        return torch.export.export(network, (example,), dynamic_shapes=_ANY_BATCH)


def is_of_the_user(backbone: Backbone) -> bool:
    """Whether the network is code of the user's, which torch may not be able to trace."""
    return isinstance(backbone, ImportedBackbone | OwnBackbone)


@contextlib.contextmanager
def tracing(backbone: Backbone) -> Iterator[None]:
    """For a block in which torch traces `backbone`: no gradients, and none of the tracer's output.

    Raises:
        TracingError: If the block raises and the network is the user's.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # whatever the user's code or the tracer raises
        if isinstance(error, UserError) or not is_of_the_user(backbone):
            raise
        name = backbone.path if isinstance(backbone, ImportedBackbone) else backbone.arguments["name"]
        cause = error.__cause__ or error
        raise TracingError(
            f"backbone: torch cannot trace {name} ({type(cause).__name__}: {reason(cause):.160}); its forward must not "
            "depend on the values of tensors or on the batch size; student.safetensors works without tracing"
        ) from error
    finally:
        logging.disable(disabled)


def inference_network(backbone: Backbone, pixels: Pixels) -> nn.Module:
    """A copy in eval mode and float32 on the CPU, branches merged, with its preprocessing if it takes uint8 pixels."""
    network = copy.deepcopy(backbone).cpu().float().eval()
    network.merge_branches()
    return network if pixels == "float" else PixelInput(network, backbone.input_spec, pixels).eval()


def example_input(backbone: Backbone, pixels: Pixels) -> Tensor:
    """Two black images; a batch of one would be taken for a constant."""
    size = backbone.input_spec.size_px
    if pixels == "float":
        return torch.zeros(2, 3, size, size)
    return torch.zeros(2, size, size, 3, dtype=torch.uint8)


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drops the exporter's notes on every node: half a megabyte that tells the paths of this machine."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    assert not model.functions, "functions would hold notes of their own"
    return model
