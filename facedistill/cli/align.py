"""`facedistill data align`: from a folder of photographs to a folder of aligned 112 x 112 faces."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facedistill.data.alignment.choose_face import load_detector, rules

if TYPE_CHECKING:
    from facedistill.data.alignment.align import Failure

_MOST_NAMED = 20


def main(argv: Sequence[str]) -> int:
    """Runs `facedistill data align SRC DST`, also known as `facedistill align`.

    Returns:
        0 when every photograph gave a face, 1 when some did not.

    Raises:
        UserError: On a user's mistake.
    """
    options = _parser().parse_args(list(argv))
    from facedistill.assets import obtain
    from facedistill.data.alignment.align import align_folder, before_and_after, plan
    from facedistill.models.detectors.scrfd import Scrfd

    planned = plan(options.src, options.dst)
    if options.detector:
        detector = load_detector(options.detector)
    else:
        detector = Scrfd(obtain("scrfd_500m", quiet=options.quiet), num_threads=options.threads)
    failures = align_folder(
        detector,
        options.src,
        planned,
        rule=options.face,
        min_face_px=options.min_face,
        again=options.again,
        quiet=options.quiet,
    )
    if options.picture:
        before_and_after(planned, options.picture)
    _print_summary(failures, len(planned), options.dst)
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facedistill data align",
        description="Find one face in every photograph below SRC and write it, aligned to the ArcFace template at "
        "112 x 112, under the same relative path below DST. What DST already holds is kept.",
        epilog="Exit codes: 0 every photograph gave a face, 1 some did not (each with its reason), 2 a mistake.",
    )
    parser.add_argument("src", type=Path, metavar="SRC", help="folder of photographs, for example LFW's")
    parser.add_argument("dst", type=Path, metavar="DST", help="folder to write into")
    described = "; ".join(f"{name}: {text}" for name, text in rules().items())
    parser.add_argument(
        "--face", choices=list(rules()), default="main", help=f"of several faces. {described}"
    )
    parser.add_argument(
        "--min-face", type=int, default=0, metavar="PX", help="reject faces narrower than this"
    )
    parser.add_argument(
        "--detector",
        metavar="PACKAGE.CLASS",
        help="another detector: made without arguments; its find(image) returns boxes (M, 4), scores (M,) and "
        "landmarks (M, 5, 2) in pixels of the PIL photograph",
    )
    parser.add_argument(
        "--picture", type=Path, metavar="PNG", help="write photographs next to their faces here"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of the detector; 0 takes every core")
    parser.add_argument("--again", action="store_true", help="write again what DST already holds")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser


def _print_summary(failures: Sequence[Failure], total: int, dst: Path) -> None:
    reasons = Counter(failure.reason for failure in failures)
    counted = "".join(f"; {reason}: {count}" for reason, count in reasons.most_common())
    print(f"{total - len(failures)} of {total} photographs aligned into {dst}{counted}")
    for failure in failures[:_MOST_NAMED]:
        print(f"  {failure.path}: {failure.reason}", file=sys.stderr)
    if len(failures) > _MOST_NAMED:
        print(f"  and {len(failures) - _MOST_NAMED} more", file=sys.stderr)
