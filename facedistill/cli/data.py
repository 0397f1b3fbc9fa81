"""`facedistill data`: what a face set holds, whether it is whole, and the same set in another format."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Sequence
from pathlib import Path

from facedistill.cli.arguments import parser_with_examples
from facedistill.errors import DataError

_ELSEWHERE = {
    "align": "facedistill.cli.align",
    "audit": "facedistill.cli.audit",
    "preview": "facedistill.cli.preview",
}
_EXAMPLES = """\
examples:
  facedistill data info ms1mv3 --sheet faces.png
  facedistill data verify 'shards/{000000..000099}.tar'
  facedistill data convert ms1mv3/train.rec ms1mv3-shards --to shards
  facedistill data align photographs aligned
  facedistill data audit aligned lfw.bin
  facedistill data preview experiment=demo augment=photo

PATH is a folder with train.rec, a folder of one folder per identity, .tar shards, .parquet files, a
Hugging Face save_to_disk folder or an .lmdb file; .tar shards also at an address such as s3://bucket/faces.
Exit codes: 0 done, 1 damaged images found, 2 a mistake named in one sentence.
"""


def main(arguments: Sequence[str]) -> int:
    """Runs `facedistill data info|verify|convert|align|audit|preview`.

    Returns:
        0 when done, 1 when `verify` found damaged images (or `align` a photograph without a face).

    Raises:
        UserError: On a user's mistake.
    """
    if arguments and arguments[0] in _ELSEWHERE:
        return int(importlib.import_module(_ELSEWHERE[arguments[0]]).main(list(arguments[1:])))
    options = _parser().parse_args(list(arguments))
    return int(options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = parser_with_examples("data", "Looks at, checks and converts sets of aligned faces.", _EXAMPLES)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    info = commands.add_parser("info", help="format, images, identities, sizes, fingerprint, warnings")
    info.add_argument("path", metavar="PATH")
    info.add_argument("--sheet", type=Path, metavar="PNG", help="write a contact sheet, a row per identity")
    info.set_defaults(run=_info)

    verify = commands.add_parser("verify", help="decode every image; list the damaged ones with their place")
    verify.add_argument("path", metavar="PATH")
    verify.add_argument("--any-size", action="store_true", help="accept faces of other sizes than 112 x 112")
    cores = min(8, os.cpu_count() or 1)
    verify.add_argument("--threads", type=int, default=cores, help=f"decoding threads (default {cores})")
    verify.set_defaults(run=_verify)

    convert = commands.add_parser("convert", help="write the same set in another format")
    convert.add_argument("source", metavar="SOURCE")
    convert.add_argument("target", type=Path, metavar="TARGET", help="must not exist yet")
    convert.add_argument("--to", required=True, metavar="FORMAT", help="rec, folder, shards, parquet or lmdb")
    convert.add_argument("--skip-damaged", action="store_true", help="leave damaged images out, with a count")
    convert.set_defaults(run=_convert)

    commands.add_parser("align", help="cut aligned 112 px faces out of photographs")
    commands.add_parser("audit", help="look for a benchmark's people in a training set")
    commands.add_parser("preview", help="draw the faces that a configuration trains on, clean and augmented")
    return parser


def _info(options: argparse.Namespace) -> int:
    from facedistill.data.formats.contact_sheet import draw_sheet
    from facedistill.data.formats.describe import describe
    from facedistill.data.formats.open import format_of, open_faces
    from facedistill.reporting.face_sheet import picture_kind, write_picture

    if options.sheet is not None:
        picture_kind(options.sheet)
    form = format_of(options.path).title
    faces = open_faces(options.path)
    print("\n".join([f"{'format':<14}{form}", *describe(faces)]))
    if options.sheet is not None:
        write_picture(options.sheet, draw_sheet(faces))
        print(f"{'sheet':<14}{options.sheet}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from facedistill.data.formats.verify import open_for_verifying, problems

    if options.threads < 1:
        raise DataError(f"--threads {options.threads}: must be 1 or more")
    faces, unreadable = open_for_verifying(options.path)
    damaged = 0
    for problem in unreadable:
        print(problem)
    for problem in problems(faces, size_px=None if options.any_size else 112, threads=options.threads):
        damaged += 1
        print(problem, flush=True)
    found = [f"{damaged:,} of {len(faces):,} images are damaged"] if damaged else []
    found += [f"{len(unreadable):,} files, shards or samples are not whole"] if unreadable else []
    print(f"{options.path}: {' and '.join(found) or f'{len(faces):,} images, all readable'}")
    return 1 if found else 0


def _convert(options: argparse.Namespace) -> int:
    from facedistill.data.formats.base import all_formats
    from facedistill.data.formats.convert import convert

    formats = [form.key for form in all_formats()]
    if options.to not in formats:
        raise DataError(f"--to {options.to}: there is no such format; there are {', '.join(formats)}")
    done = convert(options.source, options.target, options.to, skip_damaged=options.skip_damaged)
    print(f"{options.target}: {done.written:,} images written and read back, all equal")
    if done.skipped:
        print(f"{done.skipped:,} damaged images or parts of {options.source} left out")
    if done.names_lost:
        print("RecordIO keeps no names of identities; they are numbers now, in the same order")
    return 0
