"""The command `facedistill`."""

from __future__ import annotations

import difflib
import errno
import importlib
import io
import os
import select
import signal
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from facedistill import __version__
from facedistill.cli.commands import COMMANDS
from facedistill.errors import UserError, memory_error, reason
from facedistill.runs.library_warnings import silence_expected_warnings
from facedistill.system.memory import keep_freed_memory
from facedistill.system.trust import take_trust

_ENVIRONMENT = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EMFILE,
    errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip


def usage() -> str:
    """The help text."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            f"facedistill {__version__}: distil large face recognition networks into small ones",
            "",
            "usage: facedistill COMMAND [arguments]",
            "",
            *lines,
            "",
            "trust=my_package lets files name code of that package (docs/security.md).",
            "`facedistill COMMAND --help` says more; exit codes: 0 done, 1 done in part or with findings,",
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
        close = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
        meant = f"did you mean {close[0]}? There are" if close else "there are"
        return _refuse(f"there is no command {arguments[0]!r}; {meant} {', '.join(COMMANDS)}")
    keep_freed_memory()
    silence_expected_warnings()
    for stream in (sys.stdout, sys.stderr):  # names of files and our own messages, in any locale
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if getattr(signal.getsignal(signal.SIGINT), "__module__", None) == "facedistill.cli":
            signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on the handler below
        if wrong := next((text for text in arguments if not _is_utf8(text)), None):
            return _refuse(f"{os.fsencode(wrong)!r} is not UTF-8; rename the file or folder")
        return int(importlib.import_module(COMMANDS[arguments[0]][0]).main(take_trust(arguments[1:])))
    except UserError as error:
        return _refuse(str(error))
    except UnicodeEncodeError as error:
        if "surrogates" not in error.reason:
            raise
        near = error.object[max(0, error.start - 40) : error.end + 40]
        return _refuse(f"the name {os.fsencode(near)!r} is not UTF-8; rename the file or folder")
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to flush goes nowhere
        return 128 + signal.SIGPIPE
    except OSError as error:  # that no command has a sentence of its own for
        if error.errno not in _ENVIRONMENT or not error.filename:
            raise
        return _refuse(
            f"{os.fsdecode(error.filename)}: {reason(error)}; change that, or name another file or folder"
        )
    except (MemoryError, RuntimeError) as error:
        if (found := memory_error(error)) is None:
            raise
        return _refuse(
            f"out of memory ({reason(found) if str(found) else 'no more can be allocated'}); lower "
            "data.batch_size or evaluation.batch_size, choose a smaller network, or free memory"
        )
    except KeyboardInterrupt as stop:
        again = "the same command without force=true" if "force=true" in arguments else "the same command"
        Console(stderr=True).print(f"interrupted; {again} continues")
        return 128 + getattr(stop, "number", signal.SIGINT)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reader_is_gone() -> bool:
    """Whether the reader of standard output is gone, as in `facedistill train --help | head`."""
    watched = select.poll()
    watched.register(sys.stdout, 0)
    return any(event & select.POLLERR for _, event in watched.poll(0))


def _refuse(sentence: str) -> int:
    Console(stderr=True).print(f"[bold red]error[/]  {escape(sentence)}", highlight=False, soft_wrap=True)
    return 2
