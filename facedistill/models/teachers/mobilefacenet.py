"""MobileFaceNet checkpoints of insightface (`mbf` of arcface_torch) and FaceX-Zoo, read into the students' network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from facedistill.assets.pickle.reader import module_tensors, read_inert
from facedistill.models.backbones.mobilefacenet import STAGES, MobileFaceNet
from facedistill.models.teachers.checkpoint import completed, read_checkpoint
from facedistill.models.weights import check_state


class FaceXZooMobileFaceNet(MobileFaceNet):
    """FaceX-Zoo's: the students' "tface" network, whose last batch norm has a gain and an offset."""

    def __init__(self, embedding_dim: int = 512) -> None:
        """Builds the network; its weights come from `convert_facexzoo`.

        Args:
            embedding_dim: D.
        """
        super().__init__("tface", embedding_dim)
        self.head[-1] = nn.BatchNorm1d(embedding_dim)


def convert_mbf(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Reads insightface's `mbf` `backbone.pth` into the state of a `MobileFaceNet("insightface")`.

    Args:
        members: One checkpoint and its path.

    Raises:
        AssetError: If the file cannot be read safely, or has not exactly these keys and shapes.
    """
    ((name, path),) = members.items()
    state = read_checkpoint(path)
    width = len(state.get("features.layers.2.weight", torch.empty(512)))
    return _renamed(MobileFaceNet("insightface", width), state, dict(_insightface()), name)


def convert_facexzoo(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Reads a FaceX-Zoo MobileFaceNet into the state of a `FaceXZooMobileFaceNet`.

    Its releases are pickles of the whole module: they are read as data (`facedistill.assets.pickle.reader`), and
    nothing in them is imported or called.

    Args:
        members: One pickle, checkpoint or safetensors file and its path.

    Raises:
        AssetError: If the file cannot be read safely, or has not exactly these keys and shapes.
    """
    ((name, path),) = members.items()
    state = module_tensors(read_inert(path)) if path.suffix == ".pkl" else read_checkpoint(path)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    width = len(state.get("linear.weight", torch.empty(512)))
    return _renamed(FaceXZooMobileFaceNet(width), state, dict(_facexzoo()), name)


def _renamed(
    network: nn.Module, state: Mapping[str, Tensor], theirs: Mapping[str, str], name: str
) -> dict[str, Tensor]:
    """`state` under our names, held to `network` under theirs, so that a message names the file's own keys.

    Args:
        network: Ours.
        state: The file's.
        theirs: Name of every layer, by ours.
        name: The file's, for the message.
    """
    wanted = network.state_dict()
    their_key = {key: _their_key(key, theirs) for key in wanted}
    by_theirs = {their_key[key]: value for key, value in wanted.items()}
    found = completed(state, by_theirs)
    check_state(by_theirs, found, name, type(network).__name__)
    return {key: found[their_key[key]] for key in wanted}


def _their_key(key: str, theirs: Mapping[str, str]) -> str:
    layer, _, tensor = key.rpartition(".")
    return f"{theirs[layer]}.{tensor}"


def _blocks() -> Iterator[tuple[int, int, int]]:
    """Place in our trunk, stage, and place in the stage of every bottleneck."""
    place = 2
    for stage, (_, _, residual, _) in enumerate(STAGES):
        for block in range(1 + residual):
            yield place, stage, block
            place += 1


def _insightface() -> Iterator[tuple[str, str]]:
    def conv_block(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
        for part in range(3):
            yield f"{ours}.{part}", f"{theirs}.layers.{part}"

    yield from conv_block("trunk.0", "layers.0")
    yield from conv_block("trunk.1", "layers.1")
    place = 0
    for place, stage, block in _blocks():
        ours = f"trunk.{place}.layers"
        theirs = (
            f"layers.{2 + 2 * stage}.layers"
            if block == 0
            else f"layers.{3 + 2 * stage}.layers.{block - 1}.layers"
        )
        for part in (0, 1):
            yield from conv_block(f"{ours}.{part}", f"{theirs}.{part}")
        yield f"{ours}.2", f"{theirs}.2.layers.0"
        yield f"{ours}.3", f"{theirs}.2.layers.1"
    yield from conv_block(f"trunk.{place + 1}", "conv_sep")
    yield "head.0", "features.layers.0.layers.0"
    yield "head.1", "features.layers.0.layers.1"
    yield "head.3", "features.layers.2"
    yield "head.4", "features.layers.3"


def _facexzoo() -> Iterator[tuple[str, str]]:
    def conv_block(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
        for part, name in enumerate(("conv", "bn", "prelu")):
            yield f"{ours}.{part}", f"{theirs}.{name}"

    yield from conv_block("trunk.0", "conv1")
    yield from conv_block("trunk.1", "conv2_dw")
    place = 0
    for place, stage, block in _blocks():
        ours = f"trunk.{place}.layers"
        theirs = ("conv_23", "conv_34", "conv_45")[stage]
        if block:
            theirs = f"{('conv_3', 'conv_4', 'conv_5')[stage]}.model.{block - 1}"
        yield from conv_block(f"{ours}.0", f"{theirs}.conv")
        yield from conv_block(f"{ours}.1", f"{theirs}.conv_dw")
        yield f"{ours}.2", f"{theirs}.project.conv"
        yield f"{ours}.3", f"{theirs}.project.bn"
    yield from conv_block(f"trunk.{place + 1}", "conv_6_sep")
    yield "head.0", "conv_6_dw.conv"
    yield "head.1", "conv_6_dw.bn"
    yield "head.3", "linear"
    yield "head.4", "bn"
