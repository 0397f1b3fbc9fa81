"""Reads tensors and settings of a pickled network by name, without running its code.

NVlabs pickles a module as a call of `torch_utils.persistence._reconstruct_persistent_obj` on a record of the module's
source code, class name and state. The source is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from facedistill.assets.pickle.reader import Inert, module_tensors
from facedistill.errors import AssetError

_PERSISTENT = "_reconstruct_persistent_obj"


def record_of(part: Any) -> Mapping[str, Any] | None:
    """The record of a persistent object: `class_name`, `state` and more; None if it is not one."""
    if not isinstance(part, Inert) or getattr(part.what, "name", "") != _PERSISTENT or len(part.args) != 1:
        return None
    return _entries(part.args[0])


def attributes_of(part: Any) -> Mapping[str, Any]:
    """The attributes of a module's stand-in."""
    record = record_of(part)
    if record is not None:
        return _entries(record.get("state"))
    return part.attributes if isinstance(part, Inert) else {}


def class_of(part: Any) -> str:
    """The name of a module's class, without its package."""
    record = record_of(part)
    name = (
        record.get("class_name") if record is not None else getattr(getattr(part, "what", None), "name", "")
    )
    return str(name)


class PickledModule:
    """One module of the network; reading a tensor marks it as used.

    Args:
        part: The module's stand-in.
        source: The file, for messages.
        path: The module's name in the network.
        unused: Names of the network's tensors that were not read yet.
    """

    def __init__(self, part: Any, source: str, path: str = "", unused: set[str] | None = None) -> None:
        self.part, self.source, self.path = part, source, path
        self.attributes = attributes_of(part)
        self.unused = set(module_tensors(part, attributes_of)) if unused is None else unused

    def child(self, name: str) -> PickledModule:
        """The submodule of this name, or an `AssetError`."""
        modules = self.attributes.get("_modules")
        part = modules.get(name) if isinstance(modules, dict) else None
        if part is None:
            raise self.problem(f"it lacks {self.path}{name}")
        return PickledModule(part, self.source, f"{self.path}{name}.", self.unused)

    def tensor(self, name: str, *shape: int | None) -> Tensor:
        """The parameter or buffer of this name, in float64.

        Args:
            name: Its name.
            *shape: Expected; None admits any length, no arguments any shape.

        Raises:
            AssetError: If it is missing or has another shape.
        """
        found = self.optional(name)
        if found is None:
            raise self.problem(f"it lacks {self.path}{name}")
        if shape and (
            found.ndim != len(shape)
            or any(w not in (None, g) for w, g in zip(shape, found.shape, strict=True))
        ):
            raise self.problem(
                f"it holds {self.path}{name} of shape {tuple(found.shape)}, not "
                f"({', '.join('any' if length is None else str(length) for length in shape)})"
            )
        return found

    def optional(self, name: str) -> Tensor | None:
        """The parameter or buffer of this name in float64, or None."""
        for group in ("_parameters", "_buffers"):
            found = (self.attributes.get(group) or {}).get(name)
            if isinstance(found, Tensor):
                self.unused.discard(f"{self.path}{name}")
                return found.double()
        return None

    def setting(self, name: str, kind: type) -> Any:
        """The attribute of this name as `kind` (bool, int, float, str).

        Raises:
            AssetError: If it is missing or of another kind.
        """
        value = self.attributes.get(name)
        value = value.item() if isinstance(value, np.generic) else value
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise self.problem(f"its {self.path}{name} is {_shown(value)}")
        return value

    def require(self, name: str, wanted: Any) -> None:
        """Raises an `AssetError` if a setting has another value."""
        found = self.setting(name, type(wanted))
        if found != wanted:
            raise self.problem(f"its {self.path}{name} is {_shown(found)}, not {wanted!r}")

    def side(self, name: str) -> int:
        """The length of a square size [width, height], or an `AssetError`."""
        lengths = {
            int(length) for length in np.asarray(self.attributes.get(name, ()), dtype=float).reshape(-1)
        }
        if len(lengths) != 1:
            raise self.problem(f"its {self.path}{name} is not square")
        return lengths.pop()

    def finish(self) -> None:
        """Raises an `AssetError` if tensors were not read."""
        if self.unused:
            first, *others = sorted(self.unused)
            raise self.problem(f"it also holds {first}" + (f" and {len(others)} more" if others else ""))

    def problem(self, what: str) -> AssetError:
        """An error for a file that is not in a published layout."""
        return AssetError(
            f"{self.source} is not a published StyleGAN2 or StyleGAN3 generator: {what}; give NVlabs' or "
            "rosinality's own layout"
        )


def _entries(value: Any) -> Mapping[str, Any]:
    """A dictionary, or a subclass of it (dnnlib's EasyDict)."""
    if isinstance(value, Inert):
        return value.entries or value.attributes
    return value if isinstance(value, dict) else {}


def _shown(value: Any) -> str:
    return (
        f"{value!r:.40}" if isinstance(value, str | int | float | bool | type(None)) else type(value).__name__
    )
