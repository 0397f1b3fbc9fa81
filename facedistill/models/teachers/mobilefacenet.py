"""MobileFaceNet checkpoints of insightface (`mbf` of arcface_torch) and FaceX-Zoo, as the students' network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from facedistill.assets.pickle.reader import module_tensors, read_inert
from facedistill.models.backbones.mobilefacenet import STAGES, MobileFaceNet
from facedistill.models.teachers.checkpoint import completed, read_state_dict
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
    state = read_state_dict(path)
    width = len(state.get("features.layers.2.weight", torch.empty(512)))
    return _renamed(MobileFaceNet("insightface", width), state, _insightface(), name)


def convert_facexzoo(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Reads a FaceX-Zoo MobileFaceNet into the state of a `FaceXZooMobileFaceNet`.

    Its releases are pickled modules; they are read as data (`facedistill.assets.pickle.reader`), without running code.

    Args:
        members: One pickle, checkpoint or safetensors file and its path.

    Raises:
        AssetError: If the file cannot be read safely, or has not exactly these keys and shapes.
    """
    ((name, path),) = members.items()
    state = module_tensors(read_inert(path)) if path.suffix == ".pkl" else read_state_dict(path)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    width = len(state.get("linear.weight", torch.empty(512)))
    return _renamed(FaceXZooMobileFaceNet(width), state, _facexzoo(), name)


def _renamed(
    network: nn.Module, state: Mapping[str, Tensor], theirs: Mapping[str, str], name: str
) -> dict[str, Tensor]:
    """`state` under our names; checked under the file's names, so that messages use those.

    Args:
        network: Ours.
        state: The file's.
        theirs: The file's name of every layer, by ours.
        name: The file's, for the message.
    """
    wanted = network.state_dict()
    their_key = {key: f"{theirs[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}" for key in wanted}
    by_theirs = {their_key[key]: value for key, value in wanted.items()}
    found = completed(state, by_theirs)
    check_state(by_theirs, found, name, type(network).__name__)
    return {key: found[their_key[key]] for key in wanted}


def _numbered(ours: str, theirs: str, names: Sequence[str]) -> dict[str, str]:
    """Their names of layers 0, 1, 2, ... of our module."""
    return {f"{ours}.{number}": f"{theirs}.{name}" for number, name in enumerate(names)}


def _blocks() -> Iterator[tuple[str, int, int]]:
    """Our name, stage, and position in the stage of every bottleneck."""
    positions = (
        (stage, block) for stage, (_, _, count, _) in enumerate(STAGES) for block in range(1 + count)
    )
    for number, (stage, block) in enumerate(positions, start=2):
        yield f"trunk.{number}.layers", stage, block


_AFTER_BLOCKS = f"trunk.{2 + sum(1 + count for _, _, count, _ in STAGES)}"


def _insightface() -> dict[str, str]:
    parts = [f"layers.{part}" for part in range(3)]
    names = _numbered("trunk.0", "layers.0", parts) | _numbered("trunk.1", "layers.1", parts)
    for ours, stage, block in _blocks():
        theirs = f"layers.{3 + 2 * stage}.layers.{block - 1}" if block else f"layers.{2 + 2 * stage}"
        for part in (0, 1):
            names |= _numbered(f"{ours}.{part}", f"{theirs}.layers.{part}", parts)
        names |= {f"{ours}.{2 + part}": f"{theirs}.layers.2.layers.{part}" for part in (0, 1)}
    names |= _numbered(_AFTER_BLOCKS, "conv_sep", parts) | _numbered("head", "features.layers.0", parts[:2])
    return names | {"head.3": "features.layers.2", "head.4": "features.layers.3"}


def _facexzoo() -> dict[str, str]:
    parts = ("conv", "bn", "prelu")
    names = _numbered("trunk.0", "conv1", parts) | _numbered("trunk.1", "conv2_dw", parts)
    for ours, stage, block in _blocks():
        theirs = ("conv_23", "conv_34", "conv_45")[stage]
        if block:
            theirs = f"{('conv_3', 'conv_4', 'conv_5')[stage]}.model.{block - 1}"
        names |= _numbered(f"{ours}.0", f"{theirs}.conv", parts)
        names |= _numbered(f"{ours}.1", f"{theirs}.conv_dw", parts)
        names |= {f"{ours}.2": f"{theirs}.project.conv", f"{ours}.3": f"{theirs}.project.bn"}
    names |= _numbered(_AFTER_BLOCKS, "conv_6_sep", parts) | _numbered("head", "conv_6_dw", parts[:2])
    return names | {"head.3": "linear", "head.4": "bn"}
