"""The command `facedistill`."""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from facedistill import __version__
from facedistill.cli.commands import COMMANDS
from facedistill.errors import UserError
from facedistill.system.memory import keep_freed_memory


def usage() -> str:
    """The help text."""
    lines = [f"  {name:<10}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            f"facedistill {__version__}: distil large face recognition networks into small ones",
            "",
            "usage: facedistill COMMAND [arguments]",
            "",
            *lines,
            "",
            "`facedistill COMMAND --help` says more; exit codes: 0 done, 1 done for some images only,",
            "2 a mistake named in one sentence,",
            "130 interrupted, 143 by SIGTERM, 138 by SIGUSR1 (run the same command again to continue).",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; a user's mistake is one sentence and exit code 2, never a traceback."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(__version__)
        return 0
    if arguments[0] not in COMMANDS:
        return _refuse(f"there is no command {arguments[0]!r}; there are {', '.join(COMMANDS)}")
    keep_freed_memory()
    try:
        return int(importlib.import_module(COMMANDS[arguments[0]][0]).main(arguments[1:]))
    except UserError as error:
        return _refuse(str(error))
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to flush goes nowhere
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt as stop:
        Console(stderr=True).print("interrupted; the same command continues")
        return 128 + getattr(stop, "number", signal.SIGINT)


def _reader_is_gone() -> bool:
    """Whether the reader of standard output is gone, as in `facedistill train --help | head`."""
    watched = select.poll()
    watched.register(sys.stdout, 0)
    return any(event & select.POLLERR for _, event in watched.poll(0))


def _refuse(sentence: str) -> int:
    Console(stderr=True).print(f"[bold red]error[/]  {escape(sentence)}", highlight=False, soft_wrap=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
