"""Converts the published OpenVINO files to the state of `MappingNetwork` and `SynthesisNetwork`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facedistill.errors import AssetError
from facedistill.models.generators.frozen import part_of
from facedistill.models.generators.mobilestylegan import SLOPE, MappingNetwork
from facedistill.models.generators.openvino_ir import Graph, Node, read_ir

_LATENT_DIM, _DEPTH, _LEVELS = 512, 8, 7
_STATISTICS_SEED, _STATISTICS_COUNT = 20211, 50_000


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Converts the published network and measures the distribution of its styles.

    The scalar after each modulation linear is folded into it; the exporter folded demodulation into the convolutions.

    Args:
        members: `MappingNetwork.{xml,bin}` and `SynthesisNetwork.{xml,bin}` by file name.

    Returns:
        float32 tensors `mapping.*` and `synthesis.*` (the full 1024 px network), and `mean_w` (512,) and
        `cholesky_w` (512, 512), lower triangular, L Lᵀ = Cov(w), from 50,000 samples of a fixed seed.

    Raises:
        AssetError: If a member is missing or a graph is not the published one.
    """
    missing = {f"{net}Network.{end}" for net in ("Mapping", "Synthesis") for end in ("xml", "bin")} - set(
        members
    )
    if missing:
        raise AssetError(
            f"MobileStyleGAN cannot be converted: {', '.join(sorted(missing))} missing from the archive"
        )
    mapping = _read_mapping(read_ir(members["MappingNetwork.xml"], members["MappingNetwork.bin"]))
    synthesis = _read_synthesis(read_ir(members["SynthesisNetwork.xml"], members["SynthesisNetwork.bin"]))
    state = {f"mapping.{key}": torch.tensor(value) for key, value in mapping.items()}
    state |= {f"synthesis.{key}": torch.tensor(value) for key, value in synthesis.items()}
    return state | measure_latents(part_of(state, "mapping"))


def measure_latents(mapping: Mapping[str, Tensor], count: int = _STATISTICS_COUNT) -> dict[str, Tensor]:
    """Estimates mean and covariance of w = mapping(z), z ~ N(0, I).

    Args:
        mapping: State of a `MappingNetwork`.
        count: Number of samples.

    Returns:
        `mean_w` (L,) and `cholesky_w` (L, L), float32.
    """
    width = mapping["layers.0.weight"].shape[0]
    network = MappingNetwork(width, len(mapping) // 2)
    network.load_state_dict(dict(mapping))
    z = np.random.Generator(np.random.Philox(_STATISTICS_SEED)).standard_normal(
        (count, width), dtype=np.float32
    )
    with torch.no_grad():
        w = torch.cat([network(chunk) for chunk in torch.from_numpy(z).split(5000)]).double()
    mean = w.mean(0)
    covariance = (w - mean).T @ (w - mean) / (count - 1)
    covariance += 1e-9 * covariance.diagonal().mean() * torch.eye(width, dtype=torch.float64)
    return {"mean_w": mean.float(), "cholesky_w": torch.linalg.cholesky(covariance).float().contiguous()}


def _read_mapping(graph: Graph) -> dict[str, np.ndarray]:
    """Reads eight linears, each followed by leaky ReLU and a gain of sqrt(2)."""
    linears = graph.of_kind("MatMul")
    _require(len(linears) == _DEPTH, graph, f"{len(linears)} linear layers instead of {_DEPTH}")
    state: dict[str, np.ndarray] = {}
    for index, linear in enumerate(linears):
        add = graph.follows(linear, "Add")
        activation = _activation(graph, add)
        gain = graph.constant(graph.follows(activation, "Multiply"))
        _require(bool(np.allclose(gain, 2**0.5)), graph, f"a gain of {gain} after {linear.name!r}")
        state[f"layers.{index}.weight"] = graph.constant(linear, (_LATENT_DIM, _LATENT_DIM))
        state[f"layers.{index}.bias"] = graph.constant(graph.feeds(add, "Reshape"), (_LATENT_DIM,))
    return state


def _read_synthesis(graph: Graph) -> dict[str, np.ndarray]:
    """Walks the convolutions in the order of computation: one dense, four per level, the image head."""
    convolutions = graph.of_kind("Convolution", "GroupConvolution")
    _require(len(convolutions) == 4 * _LEVELS + 2, graph, f"{len(convolutions)} convolutions")
    dense, head = convolutions[0], convolutions[-1]
    _check_wavelets(graph)
    state = {"constant": graph.constant(graph.feeds(_tiled_constant(graph, dense), "Broadcast"))}
    state |= _read_convolution(graph, "first", dense, dense, size=4)
    for level in range(_LEVELS):
        chain = convolutions[1 + 4 * level : 5 + 4 * level]
        size = 8 * 2**level
        state |= _read_convolution(graph, f"levels.{level}.first", chain[0], chain[1], size)
        state |= _read_convolution(graph, f"levels.{level}.second", chain[2], chain[3], size)
        split = graph.of_kind("VariadicSplit")[2 * level]
        state |= _read_style(graph, f"levels.{level}.up", graph.feeds(split, "Multiply"))
    state |= _read_style(graph, "head_style", graph.feeds(head, "Multiply"))
    state["head_weight"] = graph.constant(head, (12, 64, 1, 1))
    state["head_bias"] = graph.constant(graph.follows(head, "Add"), (1, 12, 1, 1))
    return state


def _read_convolution(graph: Graph, name: str, entry: Node, last: Node, size: int) -> dict[str, np.ndarray]:
    """Reads style, kernels, noise and bias of one styled convolution; `entry` is `last` where it is dense."""
    weight = graph.constant(last)
    noise = graph.follows(last, "Add")
    bias = graph.follows(noise, "Add")
    _activation(graph, bias)
    state = _read_style(graph, f"{name}.style", graph.feeds(entry, "Multiply"))
    if entry is not last:
        kernel = graph.constant(entry, (weight.shape[1], 1, 1, 3, 3))
        state[f"{name}.depthwise"] = kernel.reshape(-1, 1, 3, 3)
    state[f"{name}.weight"] = weight
    state[f"{name}.noise"] = graph.constant(noise, (1, 1, size, size))
    state[f"{name}.bias"] = graph.constant(bias, (1, weight.shape[0], 1, 1))
    return state


def _read_style(graph: Graph, name: str, product: Node) -> dict[str, np.ndarray]:
    """Reads the linear that scales the channels at `product`, with its trailing scalar folded in."""
    branch = [graph.nodes[key] for key in product.inputs if _comes_from_style(graph, graph.nodes[key])]
    _require(len(branch) == 1, graph, f"{len(branch)} styles at {product.name!r}")
    node, scale = branch[0], np.float32(1)
    if node.kind == "Multiply":
        scale = graph.constant(node, (1, 1, 1, 1)).item()
        node = graph.feeds(node, "Reshape")
    add = graph.feeds(node, "Add")
    weight = graph.constant(graph.feeds(add, "MatMul"))
    bias = graph.constant(add, (1, weight.shape[0]))
    _require(weight.shape[1] == _LATENT_DIM, graph, f"a style of width {weight.shape[1]} at {product.name!r}")
    return {f"{name}.weight": weight * scale, f"{name}.bias": bias[0] * scale}


def _comes_from_style(graph: Graph, node: Node) -> bool:
    """Whether a factor is a style, Reshape(Add(MatMul)) or that times a constant, and not a feature map."""
    if node.kind == "Multiply" and any(graph.nodes[key].kind == "Const" for key in node.inputs):
        node = graph.feeds(node, "Reshape")
    return node.kind == "Reshape" and graph.nodes[node.inputs[0]].kind == "Add"


def _tiled_constant(graph: Graph, dense: Node) -> Node:
    """Finds the learned 4x4 input, which the exporter wrapped into a tile and a broadcast."""
    return graph.feeds(graph.feeds(dense, "Multiply"), "Tile")


def _activation(graph: Graph, node: Node) -> Node:
    """Finds the leaky ReLU after `node` and checks its slope."""
    activation = graph.follows(node, "PReLU")
    slope = graph.constant(activation, (1,)).item()
    _require(abs(slope - SLOPE) < 1e-6, graph, f"a slope of {slope} at {activation.name!r}")
    return activation


def _check_wavelets(graph: Graph) -> None:
    """Checks that every transposed convolution is a Haar filter, in the order that `coarse.shrink` assumes."""
    low, high = np.full(2, 0.5**0.5), np.array([0.5**0.5, -(0.5**0.5)])
    filters = graph.of_kind("GroupConvolutionBackpropData")
    _require(len(filters) == 6 * (_LEVELS + 1), graph, f"{len(filters)} wavelet filters")
    for index, node in enumerate(filters):
        wanted = (low, high, low, low, high, high)[index % 6]
        kernels = graph.constant(node).reshape(-1, 2)
        _require(bool(np.allclose(kernels, wanted, atol=1e-6)), graph, f"no Haar filter at {node.name!r}")


def _require(condition: bool, graph: Graph, otherwise: str) -> None:
    if not condition:
        raise AssetError(f"{graph.source} is not the published MobileStyleGAN: it has {otherwise}")
