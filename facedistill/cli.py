"""The command `facedistill`."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from facedistill import __version__
from facedistill.errors import UserError

COMMANDS = {
    "train": ("facedistill.train", "distil a student: group=choice and key=value overrides, -m to sweep"),
    "evaluate": (
        "facedistill.evaluate",
        "measure a run, a student file or a teacher on the benchmarks at hand",
    ),
    "embed": ("facedistill.embed", "embed aligned face images with a student file"),
    "report": ("facedistill.reporting.command", "write the report and the model card of a run again"),
    "dashboard": (
        "facedistill.reporting.dashboard_command",
        "one page on all runs of a folder: filter, sort, compare",
    ),
    "push": ("facedistill.push", "upload a finished run's student and card to the Hugging Face hub"),
    "reproduce": ("facedistill.reproduce", "run what a table of experiments/ lacks and render it"),
    "methods": (
        "facedistill.methods_table",
        "the methods: papers, needs, defaults; --measure for their cost",
    ),
    "backbones": (
        "facedistill.backbones_table",
        "the student networks: params, macs, weights; --measure for their time on this CPU",
    ),
    "data": ("facedistill.data.command", "info, verify, convert, align, audit of face sets"),
    "generate": ("facedistill.generate", "render labelled synthetic identities to shards"),
    "teacher": (
        "facedistill.teacher_command",
        "add FILE: recognize a teacher and prove how it is fed; convert FILE: a pickle to tensors",
    ),
    "generator": (
        "facedistill.generator_command",
        "convert FILE: a StyleGAN of your own; preview: what a generator renders",
    ),
    "assets": (
        "facedistill.assets.command",
        "list, fetch, verify the pretrained weights and show their licences",
    ),
    "completion": ("facedistill.completion", "print a script for tab-completion in bash or zsh"),
    "align": ("facedistill.data.align", "short for data align"),
}


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
            "`facedistill COMMAND --help` says more; exit codes: 0 done, 2 a mistake named in one sentence,",
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
    try:
        return int(importlib.import_module(COMMANDS[arguments[0]][0]).main(arguments[1:]))
    except UserError as error:
        return _refuse(str(error))
    except KeyboardInterrupt as stop:
        Console(stderr=True).print("interrupted; the same command continues")
        return 128 + getattr(stop, "number", signal.SIGINT)


def _refuse(sentence: str) -> int:
    Console(stderr=True).print(f"[bold red]error[/]  {escape(sentence)}", highlight=False, soft_wrap=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
