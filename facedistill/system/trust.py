"""Code outside this package runs only if the user admits it on the command line: `trust=my_package`."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from facedistill.errors import ConfigError, reason

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_admitted: set[str] = set()


def take_trust(arguments: Sequence[str]) -> list[str]:
    """Removes every `trust=…` from a command line and admits what it names for the rest of the process.

    Only the command line is read like this: a `trust=` in a file has no effect.

    Args:
        arguments: Of any command; `trust=my_package`, `trust=my_package.module` or `trust=[a,b]`.

    Returns:
        The other arguments.

    Raises:
        ConfigError: If a name is no dotted name of a package, module, class or function.
    """
    others = [text for text in arguments if not text.startswith("trust=")]
    for text in arguments:
        if text.startswith("trust="):
            admit(name.strip() for name in text.removeprefix("trust=").strip("[]").split(","))
    return others


def admit(names: Iterable[str]) -> None:
    """Lets configurations and files of weights name these packages, modules or classes, and all that is in them.

    Raises:
        ConfigError: If a name is no dotted name.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"trust={name}: expected the dotted name of a package, module or class, such as trust=my_package, or a "
                "list of them, trust=[a,b]"
            )
        _admitted.add(name)


def admitted() -> list[str]:
    """What the user has admitted; a process that is started admits it again."""
    return sorted(_admitted)


def is_admitted(path: str) -> bool:
    """Whether the user has admitted `path` or a package that contains it.

    >>> admit(["my_package.models"])
    >>> is_admitted("my_package.models.Thin"), is_admitted("my_package.models_of_others.Thin")
    (True, False)
    """
    return any(path == name or path.startswith(f"{name}.") for name in _admitted)


def as_arguments() -> list[str]:
    """The command-line arguments that admit the same names, for processes that continue the work of this one."""
    return [f"trust=[{','.join(sorted(_admitted))}]"] if _admitted else []


def load_object(path: str) -> Any:
    """Imports the class or function at a dotted path; the caller has checked that it may be imported.

    Raises:
        ConfigError: If it cannot be imported.
    """
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:count])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if count > 1 and f"{module}.".startswith(
                f"{error.name}."
            ):  # the last parts are a class and its method
                continue
            raise _not_imported(path, error) from error
        except Exception as error:  # an import may raise anything
            raise _not_imported(path, error) from error
        try:
            for name in parts[count:]:
                found = getattr(found, name)
        except AttributeError as error:
            raise _not_imported(path, error) from error
        return found
    raise ConfigError(f"{path} cannot be imported: it names no module; write my_package.module.Class")


def _not_imported(path: str, error: Exception) -> ConfigError:
    advice = ""
    if isinstance(error, ModuleNotFoundError) and not path.startswith("facedistill."):
        advice = "; install its package, or add its folder to PYTHONPATH"
    return ConfigError(f"{path} cannot be imported ({type(error).__name__}: {reason(error)}){advice}")
