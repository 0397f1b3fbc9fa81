"""Types of command-line arguments that several commands share."""

from __future__ import annotations

import argparse


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
