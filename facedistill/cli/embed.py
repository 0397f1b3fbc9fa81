"""`facedistill embed`: unit embeddings of face images by a student."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from facedistill.cli.recognition import EXIT_CODES, FACE, print_failures

_MOST_COMPARED = 20


def main(arguments: Sequence[str]) -> int:
    """Embeds images and writes them, or prints the cosines between few of them."""
    parser = argparse.ArgumentParser(prog="facedistill embed", description=__doc__, epilog=EXIT_CODES)
    parser.add_argument("images", nargs="+", type=Path, help="aligned face images, or folders of them")
    parser.add_argument(
        "--student", "--model", required=True, help="student.safetensors or student.onnx; or as in `verify`"
    )
    parser.add_argument(
        "--align", action="store_true", help="the images are photographs; find and align faces"
    )
    parser.add_argument("--face", choices=["largest", "all"], default="largest", help=f"{FACE}; with --align")
    parser.add_argument("--out", type=Path, help="write an .npz with `files` (N,) and `embeddings` (N, D)")
    parsed = parser.parse_args(arguments)
    from facedistill.api.gallery import Gallery
    from facedistill.api.student import load

    gallery = Gallery.build(load(parsed.student), parsed.images, aligned=not parsed.align, face=parsed.face)
    count = f"{len(gallery.names)} embeddings of {gallery.embeddings.shape[1]} dimensions"
    if parsed.out:
        print(f"{count} in {gallery.save(parsed.out)}")
    else:
        print(f"{count}; --out FILE.npz keeps them. Cosines:")
        rows = gallery.embeddings[:_MOST_COMPARED]
        for name, row in zip(gallery.names, rows @ rows.T, strict=False):
            print(" ".join(f"{cosine:6.3f}" for cosine in row.tolist()), name)
    print_failures(gallery.failures)
    return 1 if gallery.failures else 0
