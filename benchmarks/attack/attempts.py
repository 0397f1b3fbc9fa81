"""What an attempt is, and how one runs a command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from facedistill.cli.main import main as facedistill
from facedistill.errors import UserError

Attempts: TypeAlias = Iterator[tuple[str, Callable[[], object]]]
"""Name of an attack, and what a user would do with the file."""


def run(*arguments: str) -> object:
    """Runs a command; a refusal is an error."""
    if facedistill(list(arguments)) == 2:
        raise UserError("refused")
    return None


def with_text(path: Path, text: str, *arguments: str) -> object:
    """Writes a file and runs a command."""
    path.write_text(text)
    return run(*arguments)
