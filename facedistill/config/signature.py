"""Checks a node with a `_target_` against the signature of the class or function that it names."""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from facedistill.config.trust import find_class
from facedistill.errors import ConfigError

# Arguments that `facedistill.runs` passes to the class at a key; a configuration neither needs nor may set them.
PROVIDED = {
    "method": {
        "student", "teacher", "head", "centers", "peer", "num_images", "num_identities", "embedding_dim", "optimizer",
        "schedule",
    },
    "head": {"num_identities", "embedding_dim"},
    "data.source": {"generator", "teacher", "faces", "seed", "directions"},
    "generator.network": {"weights"},
    "logger.*": {"save_dir"},
}  # fmt: skip


def provided(key: str) -> set[str]:
    """Names of the arguments that the program passes itself to the class at `key`.

    >>> provided("logger.csv")
    {'save_dir'}
    """
    return PROVIDED.get(key) or PROVIDED.get(f"{key.rpartition('.')[0]}.*", set())


def problems(key: str, node: Mapping[str, Any]) -> list[str]:
    """Lists what is wrong with the arguments of one resolved node, a sentence each."""
    path = node["_target_"]
    try:
        target = find_class(path)
    except ConfigError as error:
        return [f"{key}._target_: {error}"]
    known, open_ended = _parameters(target)
    own, found = provided(key) & set(known), []
    for name in map(str, node):
        if name.startswith("_"):
            continue
        if name in own:
            found.append(f"{key}.{name}: {target.__name__} gets it from the program; leave it out")
            continue
        if name not in known:
            if not open_ended:
                found.append(
                    f"{key}.{name}: {target.__name__} has no such argument{_did_you_mean(name, known)}"
                )
        else:
            found += _type_problem(f"{key}.{name}", known[name], node[name])
    for name, (_, required) in known.items() if not node.get("_partial_") else ():
        if required and name not in node and name not in own:
            found.append(f"{key}.{name}: {target.__name__} needs a value")
    return found


def accepted(target: Callable[..., Any]) -> set[str]:
    """Names of the arguments that `target` takes, those of its base classes included."""
    return set(_parameters(target)[0])


@lru_cache(maxsize=1024)
def _parameters(target: Callable[..., Any]) -> tuple[dict[str, tuple[Any, bool]], bool]:
    """Arguments by name with (annotation, required); follows **kwargs up the base classes."""
    levels = (
        [c for c in inspect.getmro(target) if "__init__" in vars(c)] if inspect.isclass(target) else [target]
    )
    known: dict[str, tuple[Any, bool]] = {}
    for level in levels:
        function = vars(level)["__init__"] if inspect.isclass(level) else level
        try:
            signature, hints = inspect.signature(function), typing.get_type_hints(function)
        except (ValueError, TypeError, NameError):
            return known, True
        open_ended = False
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                open_ended = True
            elif name != "self" and parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
                known.setdefault(name, (hints.get(name, Any), parameter.default is inspect.Parameter.empty))
        if not open_ended:
            return known, False
    return known, True


def _type_problem(key: str, parameter: tuple[Any, bool], value: Any) -> list[str]:
    if isinstance(value, Mapping) and "_target_" in value:
        return []
    options = _options(parameter[0])
    if options is None or any(_fits(option, value) for option in options):
        return []
    expected = " or ".join(_name(option) for option in options)
    return [f"{key}: expected {expected}, got {value!r}"]


def _options(annotation: Any) -> list[Any] | None:
    """The plain types and literals an annotation admits; None where it cannot be checked."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        parts = [_options(part) for part in typing.get_args(annotation)]
        return (
            None
            if any(part is None for part in parts)
            else [option for part in parts for option in part or []]
        )
    if typing.get_origin(annotation) is Literal:
        return [annotation]
    if typing.get_origin(annotation) in (list, tuple, Sequence):
        return [list]
    if typing.get_origin(annotation) in (dict, Mapping):
        return [dict]
    return [annotation] if annotation in (int, float, bool, str, type(None)) else None


def _fits(option: Any, value: Any) -> bool:
    if typing.get_origin(option) is Literal:
        return any(value == choice and type(value) is type(choice) for choice in typing.get_args(option))
    if option is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if option is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, option)


def _name(option: Any) -> str:
    if typing.get_origin(option) is Literal:
        return " | ".join(str(choice) for choice in typing.get_args(option))
    names = {type(None): "null", list: "a list", dict: "keys with values"}
    return names.get(option) or str(option.__name__)


def _did_you_mean(name: str, known: dict[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
