"""`facedistill search`: which faces of a gallery are most similar to a photograph."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from facedistill.cli.arguments import positive
from facedistill.cli.recognition import (
    EXIT_CODES,
    FACE,
    add_decision,
    add_model,
    demand_effect,
    origin_of,
    print_failures,
)
from facedistill.errors import NoFaceError, UserError


def main(arguments: Sequence[str]) -> int:
    """Embeds gallery and probe, and prints rank, score and decision."""
    parser = argparse.ArgumentParser(prog="facedistill search", description=__doc__, epilog=EXIT_CODES)
    parser.add_argument(
        "gallery", type=Path, metavar="GALLERY", help="folder of images, or an .npz of `facedistill embed`"
    )
    parser.add_argument("probe", type=Path, metavar="PROBE", help="a photograph")
    add_model(parser)
    add_decision(parser)
    parser.add_argument("--top", type=positive, default=5, help="how many are printed (default 5)")
    parser.add_argument(
        "--face", choices=["largest", "all"], default="largest", help=f"{FACE}, in the gallery"
    )
    parsed = parser.parse_args(arguments)
    demand_effect(parsed)
    if parsed.face == "all" and parsed.gallery.is_file():
        raise UserError(
            f"--face all: has no effect on {parsed.gallery}, which is embedded already; leave it out"
        )
    from facedistill.api.gallery import Gallery
    from facedistill.api.student import load

    student = load(parsed.model)
    if parsed.gallery.is_dir():
        gallery = Gallery.build(student, parsed.gallery, aligned=parsed.aligned, face=parsed.face)
    else:
        gallery = Gallery.load(parsed.gallery)
    print_failures(gallery.failures)
    try:
        result = student.search(
            gallery, parsed.probe, top=parsed.top, far=parsed.far, protocol=parsed.protocol,
            threshold=parsed.threshold, aligned=parsed.aligned,
        )  # fmt: skip
    except NoFaceError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(gallery.names):,} faces; {origin_of(result.threshold, result.fitted, student)}")
    for hit in result.hits:
        decision = {True: "same person", False: "different people", None: ""}[hit.same]
        print(f"{hit.rank:4d}  {hit.score:7.4f}  {hit.name}  {decision}".rstrip())
    return 1 if gallery.failures else 0
