"""The messages of errors that a test expects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from facedistill.cli.main import main


def error_message(
    kind: type[Exception], function: Callable[..., Any], *arguments: Any, **options: Any
) -> str:
    """Calls the function, which must raise `kind`, and returns the error's message."""
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    return str(caught.value)


def command_error(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Runs a `facedistill` command, which must exit with code 2, and returns what it prints to stderr."""
    assert main([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err.strip()
