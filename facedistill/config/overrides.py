"""Reads the overrides of a command line by Hydra's grammar, after the short forms of this package are written out."""

from __future__ import annotations

import re
from functools import lru_cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException

from facedistill.errors import ConfigError

WEIGHTS = "teacher.weights"
_AUGMENT = "data.source.augment"
_KEY = re.compile(r"[+~]{0,2}[\w@./]+=")
_PATH = re.compile(r"\+{0,2}(name|runs_dir|[\w.]+\.(path|file|data_dir|name))")


def as_group(text: str) -> str:
    """Turns `augment=photo` and `data.source.augment=photo` into the choice of that group in its place."""
    key, _, value = text.partition("=")
    if key.lstrip("+") not in ("augment", _AUGMENT) or "{" in value:
        return text
    if value in ("none", "null"):
        return f"{_AUGMENT}=null"
    return f"augment@{_AUGMENT}={value}"


def with_others(text: str) -> list[str]:
    """Turns `teacher=[a,b]` into the choice of a, that of b at `teacher.others.b`, and a weight of 1 for each.

    >>> with_others("teacher=[a,b]")
    ['teacher=a', '+teacher@teacher.others.b=b', '+teacher.weights={a:1.0,b:1.0}']

    Raises:
        ConfigError: If the list is empty or names a teacher twice.
    """
    value = parsed(text).value() if text.startswith("teacher=[") else None
    if not isinstance(value, list):
        return [text]
    names = [str(name) for name in value]
    if not names or len(set(names)) < len(names):
        raise ConfigError(
            f"{text}: names no teacher, or one twice; name each once, the first as the one that leads"
        )
    first, *others = names
    if not others:
        return [f"teacher={first}"]
    weights = ",".join(f"{name}:1.0" for name in names)
    chosen = [f"+teacher@teacher.others.{name}={name}" for name in others]
    return [f"teacher={first}", *chosen, f"+{WEIGHTS}={{{weights}}}"]


def unreadable(text: str) -> str:
    """A sentence on an override that Hydra's grammar does not admit."""
    if "=" not in text or not _KEY.match(text):
        return f"cannot read the override {text!r}; write key=value or group=choice"
    key, _, value = text.partition("=")
    return f"cannot read the value of {text!r}; put it in quotes twice, as '{key}=\"{value}\"'"


def quoted(text: str) -> str:
    """An override in which a path is in quotes where Hydra's grammar needs them: `runs_dir=/data (1)/runs`."""
    try:
        OverridesParser.create().parse_overrides([text])
    except OverrideParseException:
        key, _, value = text.partition("=")
        if _PATH.fullmatch(key):
            value = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'{key}="{value}"'
    return text


@lru_cache(maxsize=4096)
def parsed(text: str) -> Override:
    """Reads one override by Hydra's grammar."""
    (override,) = OverridesParser.create().parse_overrides([quoted(text)])
    return override
