"""Finds the classes of a package by their base class, so that no list has to name them."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TypeVar

Base = TypeVar("Base")


def public_subclasses(package: str, base: type[Base]) -> dict[str, type[Base]]:
    """Imports every module of a package and collects the subclasses of `base` that it defines or imports.

    Args:
        package: Dotted name of the package.
        base: The base class itself is left out.

    Returns:
        The classes by name, in alphabetical order; names that begin with an underscore are private.
    """
    found: dict[str, type[Base]] = {}
    for entry in pkgutil.iter_modules(importlib.import_module(package).__path__):
        for name, value in vars(importlib.import_module(f"{package}.{entry.name}")).items():
            is_public = isinstance(value, type) and value.__name__ == name and not name.startswith("_")
            if is_public and issubclass(value, base) and value is not base:
                found[name] = value
    return dict(sorted(found.items()))


def find_subclass(package: str, base: type[Base], name: str) -> type[Base]:
    """One class of `public_subclasses`, for a package's `__getattr__`; a class name begins with a capital letter.

    Raises:
        AttributeError: If the package has no such class.
    """
    found = public_subclasses(package, base) if name[:1].isupper() else {}
    if name not in found:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return found[name]
