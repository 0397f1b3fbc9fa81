"""Builds the student that a file describes: `class` and `arguments` of its backbone."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from facedistill.errors import AssetError, reason
from facedistill.models.backbones import Backbone, backbone_classes
from facedistill.models.imported import ImportedBackbone
from facedistill.models.weights import check_state
from facedistill.system.trust import is_admitted, load_object

_WIDEST = 65_536  # of embeddings


def rebuild(description: Mapping[str, Any], origin: str, state: Mapping[str, Tensor]) -> Backbone:
    """The backbone of a description in eval mode, its weights drawn at random.

    Args:
        description: `class`, a name in `facedistill.models.backbones` or the dotted path of the user's own class, and
            `arguments`.
        origin: Of the description, for the messages.
        state: The file's tensors; a network of another size is refused before it takes memory.

    Raises:
        AssetError: If this version has no such backbone, the class is not admitted by the user, or the tensors are not
            the network's.
    """
    kind, arguments = description.get("class"), description.get("arguments")
    wrong = (
        f"{origin} is a student of the backbone {kind!r} with {arguments!r}, which this version does not have"
    )
    if not isinstance(kind, str) or not isinstance(arguments, Mapping):
        raise AssetError(wrong)
    check_width(arguments.get("embedding_dim", 1), origin)
    try:
        if "." in kind:
            return _imported(kind, arguments, origin).eval()
        backbone = backbone_classes()[kind]
        with suppress(NotImplementedError):  # of a network that reads values while it is built
            with torch.device("meta"):
                wanted = backbone(**arguments).state_dict()
            check_state(wanted, state, origin, kind)
        return backbone(**arguments).eval()
    except AssetError:
        raise
    except (MemoryError, RuntimeError) as error:
        raise AssetError(
            f"{origin}: a {kind} of {arguments!r} does not fit into memory ({reason(error):.100})"
        ) from error
    except Exception as error:  # a file can hold arguments of any kind
        raise AssetError(wrong) from error


def check_width(width: Any, origin: str) -> None:
    """Refuses a width of embeddings that no network has.

    Raises:
        AssetError: If it is no whole number from 1 to 65,536.
    """
    if not isinstance(width, int) or not 0 < width <= _WIDEST:
        raise AssetError(
            f"{origin} says embedding_dim={width!r}; expected 1 to {_WIDEST}; give an intact file"
        )


def _imported(path: str, arguments: Mapping[str, Any], origin: str) -> ImportedBackbone:
    if not is_admitted(path):
        raise AssetError(
            f"{origin} is a student of {path}, which is no class of facedistill: loading it runs that code; if you trust "
            f"it, add trust={path.rpartition('.')[0]} to the command line"
        )
    try:
        return ImportedBackbone(load_object(path)(**arguments), path, arguments)
    except Exception as error:  # whatever the user's code raises
        raise AssetError(
            f"{origin}: {path} cannot be built with {arguments!r} ({reason(error):.160})"
        ) from error
