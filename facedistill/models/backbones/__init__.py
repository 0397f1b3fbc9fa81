"""Student networks, from (N, 3, 112, 112) faces in [-1, 1] to (N, D) un-normalized embeddings.

A public `Backbone` in any module of this package is importable from here, for instance
`facedistill.models.backbones.TinyFaR`. A student's file may name these classes and no others.
"""

from typing import Any

from facedistill.models.backbones.base import Backbone
from facedistill.system.discovery import find_subclass, public_subclasses


def backbone_classes() -> dict[str, type[Backbone]]:
    """All student networks of this package, by name."""
    return public_subclasses(__name__, Backbone)


def __getattr__(name: str) -> Any:  # a class; its arguments are its own
    return find_subclass(__name__, Backbone, name)
