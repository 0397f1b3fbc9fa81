"""Parsers and types of arguments that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from facedistill.errors import ConfigError


def parser_with_examples(
    command: str, description: str, examples: str, usage: str | None = None
) -> argparse.ArgumentParser:
    """The parser of `facedistill COMMAND`, with examples below its help."""
    return argparse.ArgumentParser(
        prog=f"facedistill {command}", usage=usage, description=description, epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip


def positive(text: str) -> int:
    """A number above 0 of a command line.

    Raises:
        argparse.ArgumentTypeError: If it is not above 0.
        ValueError: If it is no whole number.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def seconds(text: str) -> float:
    """A time of a command line, above 0.

    Raises:
        argparse.ArgumentTypeError: If it is not above 0, or without end.
        ValueError: If it cannot be read.
    """
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got {text}")
    return number


def points(text: str) -> float:
    """Percentage points of a command line, 0 to 100.

    Raises:
        argparse.ArgumentTypeError: If it is outside, or not a number.
        ValueError: If it cannot be read.
    """
    number = float(text)
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"expected 0 to 100 percentage points, got {text}")
    return number


def refuse_other_networks(command: str, names: Sequence[str], overrides: Sequence[str]) -> None:
    """Demands that overrides are of keys below `backbone`, and that they name the network of `timm`.

    Raises:
        ConfigError: If not.
    """
    for word in overrides:
        if not word.lstrip("+~").startswith("backbone."):
            raise ConfigError(
                f"{command} {word}: only keys below backbone can be set; write backbone.key=value"
            )
    if "timm" in names and not any(word.startswith("backbone.name=") for word in overrides):
        raise ConfigError(f"{command} timm: which network of timm? add backbone.name=resnet18")
