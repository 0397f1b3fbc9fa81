"""`facedistill verify`: whether two photographs show the same person."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from facedistill.cli.recognition import EXIT_CODES, FACE, add_decision, add_model, demand_effect, origin_of
from facedistill.errors import NoFaceError


def main(arguments: Sequence[str]) -> int:
    """Detects, aligns and compares; prints score and decision."""
    parser = argparse.ArgumentParser(prog="facedistill verify", description=__doc__, epilog=EXIT_CODES)
    parser.add_argument("a", type=Path, metavar="A", help="a photograph")
    parser.add_argument("b", type=Path, metavar="B", help="another photograph")
    add_model(parser)
    add_decision(parser)
    parser.add_argument(
        "--face", choices=["largest", "all"], default="largest", help=f"{FACE} (the most similar two count)"
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="write both aligned faces and the score, .png or .jpg"
    )
    parsed = parser.parse_args(arguments)
    demand_effect(parsed)
    if parsed.picture:
        from facedistill.reporting.face_sheet import picture_kind

        picture_kind(parsed.picture)
    from facedistill.api.student import load

    student = load(parsed.model)
    try:
        match = student.verify(
            parsed.a, parsed.b, far=parsed.far, protocol=parsed.protocol, threshold=parsed.threshold,
            face=parsed.face, aligned=parsed.aligned,
        )  # fmt: skip
    except NoFaceError as error:
        print(error, file=sys.stderr)
        return 1
    for path, count in zip((parsed.a, parsed.b), match.found, strict=True):
        if count > 1:
            taken = "the largest is compared" if parsed.face == "largest" else "all are compared"
            print(f"{path} shows {count} faces; {taken}", file=sys.stderr)
    print(match)
    print(origin_of(match.threshold, match.fitted, student))
    if parsed.picture:
        print(f"picture {match.save_picture(parsed.picture)}")
    return 0
