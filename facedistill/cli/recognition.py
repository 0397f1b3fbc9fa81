"""Arguments and output that `verify`, `search` and `embed` share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from facedistill.errors import UserError

if TYPE_CHECKING:
    from facedistill.api.student import Student
    from facedistill.evaluation.thresholds import Threshold

FACE = "of several faces in a photograph: the largest, or all"
EXIT_CODES = "Exit codes: 0 done, 1 a photograph shows no face (each with its reason), 2 a mistake."
_MOST_NAMED = 20


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds `--model`."""
    parser.add_argument(
        "--model",
        required=True,
        help="run folder, student.safetensors, student.onnx, org/name on the Hugging Face hub, or a teacher's name",
    )


def add_decision(parser: argparse.ArgumentParser) -> None:
    """Adds the options that choose a threshold."""
    parser.add_argument(
        "--far",
        type=fraction,
        help="false accept rate of the decision: 1e-3, or 1e-2 if only that was measured",
    )
    parser.add_argument("--protocol", help="benchmark that the threshold was fitted on, for instance lfw")
    parser.add_argument("--threshold", type=cosine, help="cosine in place of the model's threshold")
    parser.add_argument(
        "--aligned", action="store_true", help="the images are square aligned faces, not photographs"
    )


def demand_effect(parsed: argparse.Namespace) -> None:
    """Refuses options of `verify` and `search` that change nothing next to another.

    Raises:
        UserError: If there is one.
    """
    if parsed.aligned and parsed.face == "all":
        raise UserError(
            "--face all: has no effect with --aligned, whose images are one face each; leave one out"
        )
    if parsed.threshold is not None and (parsed.far is not None or parsed.protocol is not None):
        raise UserError(
            "--threshold: takes the place of the model's, which --far and --protocol choose; leave one out"
        )


def fraction(text: str) -> float:
    """A rate of a command line, above 0 and below 1."""
    number = float(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"expected a fraction between 0 and 1, got {text}")
    return number


def cosine(text: str) -> float:
    """A cosine of a command line."""
    number = float(text)
    if not -1 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a cosine between -1 and 1, got {text}")
    return number


def origin_of(threshold: float | None, fitted: Threshold | None, student: Student) -> str:
    """A sentence on where the threshold comes from, or how to get one."""
    if fitted is not None:
        pairs = f" ({fitted.impostor:,} impostor pairs)" if fitted.impostor else ""
        return f"threshold {fitted.threshold:.4f}: FAR {fitted.far:g} on {fitted.protocol}{pairs}"
    if threshold is not None:
        return f"threshold {threshold:.4f}: given"
    return (
        f"{student.path or student.run} carries no threshold; `facedistill evaluate` of its run fits one, --threshold "
        "gives one"
    )


def print_failures(failures: Sequence[tuple[str, str]]) -> None:
    """Names the photographs that show no face, on standard error."""
    for _, reason in failures[:_MOST_NAMED]:
        print(reason, file=sys.stderr)
    if len(failures) > _MOST_NAMED:
        print(f"and {len(failures) - _MOST_NAMED} more", file=sys.stderr)
