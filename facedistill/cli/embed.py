"""`facedistill embed`: unit embeddings of face images by a student."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facedistill.cli.recognition import EXIT_CODES, FACE, print_failures
from facedistill.errors import DataError, UserError
from facedistill.system.messages import print_message

if TYPE_CHECKING:
    from facedistill.api.gallery import Gallery

_MOST_COMPARED = 20


def main(arguments: Sequence[str]) -> int:
    """Embeds images and writes them, or prints the cosines between few of them."""
    parsed = _parser().parse_args(arguments)
    if parsed.out and parsed.out.suffix not in _WRITERS:
        raise DataError(f"--out {parsed.out}: name a file that ends in {' or '.join(_WRITERS)}")
    if parsed.face == "all" and not parsed.align:
        raise UserError(
            "--face all: has no effect on aligned faces; add --align if the images are photographs"
        )
    from facedistill.api.gallery import Gallery
    from facedistill.api.student import load

    student = load(parsed.student)
    gallery = Gallery.build(student, parsed.images, aligned=not parsed.align, face=parsed.face)
    if not gallery.names:
        print_failures(gallery.failures)
        print_message(f"no image could be embedded{f'; {parsed.out} is not written' if parsed.out else ''}")
        return 1
    if not parsed.align:
        _tell_resized(gallery.names, student.size_px)
    count = f"{len(gallery.names)} embeddings of {gallery.embeddings.shape[1]} dimensions"
    if parsed.out:
        _WRITERS[parsed.out.suffix](gallery, parsed.out)
        print(f"{count} in {parsed.out}")
    else:
        print(f"{count}; --out FILE.npz keeps them. Cosines:")
        rows = gallery.embeddings[:_MOST_COMPARED]
        for name, row in zip(gallery.names, rows @ rows.T, strict=False):
            print(" ".join(f"{cosine:6.3f}" for cosine in row.tolist()), name)
    print_failures(gallery.failures)
    return 1 if gallery.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="facedistill embed", description=__doc__, epilog=EXIT_CODES)
    parser.add_argument("images", nargs="+", type=Path, help="aligned face images, or folders of them")
    parser.add_argument(
        "--student", "--model", required=True, help="student.safetensors or student.onnx; or as in `verify`"
    )
    parser.add_argument(
        "--align", action="store_true", help="the images are photographs; find and align faces"
    )
    parser.add_argument("--face", choices=["largest", "all"], default="largest", help=f"{FACE}; with --align")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="FILE.npz: `files` (N,) and `embeddings` (N, D); FILE.csv: a line per image, its file first",
    )
    return parser


def _tell_resized(files: Sequence[str], size_px: int) -> None:
    from PIL import Image

    resized = 0
    for file in files:
        with Image.open(file) as image:
            resized += image.size != (size_px, size_px)
    if resized:
        print_message(
            f"{resized} of {len(files)} images were resized to {size_px} px; embeddings are right for aligned faces only: "
            "add --align for photographs"
        )


def _write_csv(gallery: Gallery, path: Path) -> None:
    from facedistill.system.files import write_atomically

    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["file", *(f"e{number}" for number in range(gallery.embeddings.shape[1]))])
    rows.writerows([file, *row] for file, row in zip(gallery.names, gallery.embeddings.tolist(), strict=True))
    write_atomically(path, text.getvalue())


_WRITERS = {".npz": lambda gallery, path: gallery.save(path), ".csv": _write_csv}
