"""Keyword arguments as the overrides that the command line takes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from facedistill.errors import ConfigError


def as_overrides(settings: Mapping[str, Any]) -> list[str]:
    """`group=choice` and `key=value` in Hydra's grammar; a mapping sets the keys below its own.

    >>> as_overrides({"seed": 7, "optimizer": {"lr": 1e-3, "betas": [0.9, 0.99]}, "name": "a,b", "head": None})
    ['seed=7', 'optimizer.lr=0.001', 'optimizer.betas=[0.9,0.99]', "name='a,b'", 'head=null']
    """
    return [f"{key}={literal(value, key)}" for key, value in _leaves(settings)]


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def literal(value: Any, key: str) -> str:
    """A plain value as Hydra reads it back.

    Raises:
        ConfigError: If it is no plain value.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        return _text(str(value))
    if isinstance(value, Mapping):
        inside = ",".join(f"{name}:{literal(one, key)}" for name, one in value.items())
        return f"{{{inside}}}"
    if isinstance(value, Sequence):
        return f"[{','.join(literal(one, key) for one in value)}]"
    is_class = isinstance(value, type)
    fix = f"; give an object, {value.__name__}(…), not the class" if is_class else ""
    raise ConfigError(
        f"{key}={value!r}: expected a number, a text, a bool, None, or a list or dict of them{fix}"
    )


def _text(text: str) -> str:
    """Unquoted if Hydra reads the same text back."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        (read,) = OverridesParser.create().parse_overrides([f"key={text}"])
        if not read.is_sweep_override() and isinstance(read.value(), str) and read.value() == text:
            return text
    except (HydraException, ValueError):
        pass
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)  # before a quote, backslashes count double
    return f"'{escaped}{escaped[len(escaped.rstrip(chr(92))) :]}'"
