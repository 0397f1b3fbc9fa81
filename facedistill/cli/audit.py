"""`facedistill data audit TRAIN BENCHMARK`: are people of a benchmark among the training faces?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facedistill.errors import ConfigError

if TYPE_CHECKING:
    from facedistill.data.audit.result import Audit
    from facedistill.data.formats.face_set import FaceSet
    from facedistill.models.teachers.frozen import FrozenTeacher

_MOST_NAMED = 10


def main(arguments: Sequence[str]) -> int:
    """Audits, writes the report page and a JSON file next to it.

    Returns:
        0 when no benchmark image has a match, 1 when some have.

    Raises:
        UserError: On a user's mistake.
    """
    options = _parser().parse_args(list(arguments))
    from facedistill.data.audit.page import write_audit_page
    from facedistill.data.audit.result import write_json
    from facedistill.data.audit.search import audit
    from facedistill.data.formats.bin import BinFaces
    from facedistill.data.formats.open import open_faces

    if not -1 < options.threshold <= 1:
        raise ConfigError(f"--threshold: must be within (-1, 1], got {options.threshold}")
    train = open_faces(options.train)
    is_bin = options.benchmark.suffix.lower() == ".bin"
    benchmark: FaceSet = BinFaces(options.benchmark) if is_bin else open_faces(options.benchmark)
    teacher = _pocket_teacher(options.quiet)
    found = audit(train, benchmark, teacher, threshold=options.threshold, quiet=options.quiet)
    names = (str(options.train), str(options.benchmark))
    write_audit_page(options.report, found, train, benchmark, names)
    write_json(options.report.with_suffix(".json"), found, train, benchmark)
    _print_summary(found, train, options.report)
    return 1 if len(found.leaks) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facedistill data audit",
        description="Search a training set for the people of a benchmark, by the teacher's embeddings.",
        epilog="Exit codes: 0 no benchmark image has a match, 1 some have, 2 a mistake.",
    )
    parser.add_argument("train", metavar="TRAIN", help="the training set, any format")
    parser.add_argument(
        "benchmark",
        type=Path,
        metavar="BENCHMARK",
        help="aligned faces of the benchmark: any format, or a .bin",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.7,
        help="teacher cosine from which on two images are taken for one person (default: 0.7)",
    )
    parser.add_argument(
        "--report",
        type=Path,
        default=Path("leak-audit.html"),
        metavar="HTML",
        help="page with the pictures of the matches (default: leak-audit.html); the list is .json next to it",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser


def _pocket_teacher(quiet: bool) -> FrozenTeacher:
    from facedistill.assets import obtain
    from facedistill.models.teachers.arcface_mobilefacenet import ArcFaceMobileFaceNet
    from facedistill.models.teachers.frozen import FrozenTeacher
    from facedistill.types import InputSpec

    return FrozenTeacher(ArcFaceMobileFaceNet(), obtain("w600k_mbf", quiet=quiet), InputSpec())


def _print_summary(found: Audit, train: FaceSet, report: Path) -> None:
    from facedistill.data.audit.result import matched_identities

    leaks, total = len(found.leaks), len(found.cosine)
    people = len(matched_identities(found, train))
    text = f"{leaks} of {total} benchmark images have a match from cosine {found.threshold} on"
    text += f" among {found.num_train} training images"
    text += f", of {people} training identities" if people else ""
    print(f"{text}; {found.duplicates} of them are nearly the same picture" if leaks else text)
    for sentence in found.unreadable[:_MOST_NAMED]:
        print(f"  left out: {sentence}", file=sys.stderr)
    if len(found.unreadable) > _MOST_NAMED:
        print(f"  and {len(found.unreadable) - _MOST_NAMED} more left out", file=sys.stderr)
    print(f"report: {report}")
