"""Reads the arguments of a `_target_` with types and defaults, and the parts of its docstring."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from facedistill.config.signature import provided

_SECTION = re.compile(r"^(Args|Returns|Raises|Attributes|Yields|Example|Examples):$")


@dataclass(frozen=True)
class Argument:
    """One argument: its type in words, its default as in code ("" if it is required)."""

    type: str
    default: str


def arguments(target: Callable[..., Any], key: str) -> dict[str, Argument]:
    """The arguments that a configuration may set at `key`, those behind `**kwargs` of base classes included."""
    found: dict[str, Argument] = {}
    for function in _functions(target):
        try:
            parameters, hints = inspect.signature(function).parameters, typing.get_type_hints(function)
        except (NameError, TypeError, ValueError):
            return found
        passes_on = False
        for name, parameter in parameters.items():
            passes_on |= parameter.kind is parameter.VAR_KEYWORD
            if name in ("self", *provided(key)) or parameter.kind in (
                parameter.VAR_KEYWORD,
                parameter.VAR_POSITIONAL,
            ):
                continue
            default = "" if parameter.default is parameter.empty else _default(parameter.default)
            found.setdefault(name, Argument(_type(hints.get(name)), default))
        if not passes_on:
            break
    return found


def documented(target: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The docstring up to its first section, and the text of each argument, base classes included."""
    texts = [inspect.getdoc(target) or ""]
    if inspect.isclass(target):
        texts = [
            inspect.cleandoc(kind.__doc__ or "")
            for kind in target.__mro__
            if kind.__module__.startswith("facedistill")
        ]
    described: dict[str, str] = {}
    for text in texts:
        for name, sentence in _sections(text).get("Args", {}).items():
            described.setdefault(name, sentence)
    head = re.split(r"\n(?:Args|Returns|Raises|Attributes|Yields|Examples?):\n", texts[0] if texts else "")[0]
    return head.strip(), described


def _functions(target: Callable[..., Any]) -> list[Callable[..., Any]]:
    if not inspect.isclass(target):
        return [target]
    return [vars(kind)["__init__"] for kind in target.__mro__ if "__init__" in vars(kind)]


def _sections(text: str) -> dict[str, dict[str, str]]:
    """Google-style sections: name -> entry -> its text on one line."""
    found: dict[str, dict[str, str]] = {}
    section = entry = None
    for line in text.splitlines():
        heading = _SECTION.match(line)
        if heading:
            section, entry = found.setdefault(heading.group(1), {}), None
        elif section is None or (line and not line.startswith(" ")):
            section = None
        elif (named := re.match(r"^    (\*{0,2}\w+)(?: \([^)]*\))?:\s*(.*)$", line)) is not None:
            entry = named.group(1)
            section[entry] = named.group(2)
        elif entry is not None and line.strip():
            section[entry] += " " + line.strip()
    return found


def _type(hint: Any) -> str:
    """An annotation in words: "float or null", "`exact` or `released`"."""
    if hint is None or hint is Any:
        return ""
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(f"`{choice}`" for choice in typing.get_args(hint))
    parts = typing.get_args(hint)
    if parts and type(None) in parts:
        return " or ".join([*(_type(part) for part in parts if part is not type(None)), "null"])
    return (
        hint.__name__
        if isinstance(hint, type) and not parts
        else re.sub(r"\b[a-z_]+\.(?=[\w.])", "", str(hint))
    )


def _default(value: Any) -> str:
    return (
        {None: "null", True: "true", False: "false"}.get(value, repr(value))
        if isinstance(value, bool | type(None))
        else repr(value)
    )
