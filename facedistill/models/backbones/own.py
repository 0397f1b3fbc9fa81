"""Networks of a Python program, given to a run as objects.

A configuration holds plain values, and a run is named by a hash of them. A module is therefore registered under the
hash of its layers and weights, and the configuration names that hash. The same program registers the same module again,
so its run has the same id and can be continued.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from facedistill.errors import AssetError, ConfigError
from facedistill.models.backbones.base import Backbone
from facedistill.models.fingerprint import network_fingerprint

_REGISTERED: dict[str, nn.Module] = {}


class OwnBackbone(Backbone):
    """A student or teacher that is a module of the calling program; `facedistill.distill` makes one.

    A student's `student.safetensors` can only be loaded together with a module of the same layers; its `student.onnx` by itself.
    """

    def __init__(self, fingerprint: str, name: str, embedding_dim: int = 512) -> None:
        """Copies the registered module.

        Args:
            fingerprint: Under which `register` has stored the module.
            name: Its class, for messages.
            embedding_dim: D.

        Raises:
            AssetError: If no module is registered under it.
        """
        super().__init__(fingerprint=fingerprint, name=name, embedding_dim=embedding_dim)
        self.network = _given(fingerprint, name)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) faces in [-1, 1] as (N, D) un-normalized embeddings."""
        return self.network(images)


class StartedBackbone(Backbone):
    """A student of this package that starts with given weights: calling the class returns a copy of it, of its own class."""

    def __new__(cls, fingerprint: str, name: str, embedding_dim: int = 512) -> Backbone:  # type: ignore[misc]
        """The registered student; see `OwnBackbone`."""
        student = _given(fingerprint, name)
        assert isinstance(student, Backbone)
        return student

    def __init__(self, fingerprint: str, name: str, embedding_dim: int = 512) -> None:
        """Not called: `__new__` returns another class."""


def register(network: nn.Module, fingerprint: str | None = None) -> str:
    """Stores a copy of a module under a fingerprint, by default its own, and returns the fingerprint."""
    fingerprint = fingerprint or network_fingerprint(network)
    _REGISTERED[fingerprint] = copy.deepcopy(network)
    return fingerprint


def _given(fingerprint: str, name: str) -> nn.Module:
    if fingerprint not in _REGISTERED:
        raise AssetError(
            f"{name}: is a module of a Python program, and this program has not given it; run that program again, load "
            f"student.onnx, or load student.safetensors with facedistill.load(…, network={name}())"
        )
    return copy.deepcopy(_REGISTERED[fingerprint])


@contextmanager
def registered_for_file(network: nn.Module, description: dict[str, object], path: Path) -> Iterator[None]:
    """Registers a module for the student file that describes it; not if the block, which loads the file, fails.

    Raises:
        ConfigError: If the file's student is no module of a program.
    """
    backbone = description["backbone"]
    if not isinstance(backbone, dict) or backbone.get("class") != OwnBackbone.__name__:
        raise ConfigError(f"{path}: its student is no module of your own; leave network out")
    before = dict(_REGISTERED)
    register(network, str(backbone["arguments"]["fingerprint"]))
    try:
        yield
    except BaseException:
        _REGISTERED.clear()
        _REGISTERED.update(before)
        raise
