"""`facedistill embed`: unit embeddings of aligned face images by a student file."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facedistill.errors import DataError
from facedistill.system.messages import print_message

if TYPE_CHECKING:
    import numpy as np

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def main(arguments: Sequence[str]) -> int:
    """Embeds images and writes them, or prints the cosines between few of them."""
    parser = argparse.ArgumentParser(prog="facedistill embed", description=__doc__)
    parser.add_argument("images", nargs="+", type=Path, help="aligned face images, or folders of them")
    parser.add_argument(
        "--student", type=Path, required=True, help="student.safetensors or student.onnx of a run"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="FILE.npz: `files` (N,) and `embeddings` (N, D); FILE.csv: a line per image, its file first",
    )
    parsed = parser.parse_args(arguments)
    if parsed.out and parsed.out.suffix not in _WRITERS:
        raise DataError(f"--out {parsed.out}: name a file that ends in {' or '.join(_WRITERS)}")
    from facedistill.export import Embedder

    files = _image_files(parsed.images)
    embedder = Embedder(parsed.student)
    embeddings = embedder.embed(files).numpy()
    if embedder.num_resized:
        print_message(
            f"{embedder.num_resized} of {len(files)} images were resized to {embedder.size_px} px; embeddings are right for "
            "aligned faces only: align photographs first with `facedistill data align`"
        )
    if parsed.out:
        _WRITERS[parsed.out.suffix](parsed.out, files, embeddings)
        print(f"{len(files)} embeddings of {embeddings.shape[1]} dimensions in {parsed.out}")
        return 0
    print(f"{len(files)} embeddings of {embeddings.shape[1]} dimensions; --out FILE.npz keeps them. Cosines:")
    for file, row in zip(files[:20], (embeddings @ embeddings.T)[:20, :20], strict=True):
        print(" ".join(f"{cosine:6.3f}" for cosine in row), file)
    return 0


def _write_npz(path: Path, files: Sequence[Path], embeddings: np.ndarray) -> None:
    import numpy as np

    from facedistill.system.files import write_npz

    write_npz(path, files=np.array([str(f) for f in files]), embeddings=embeddings)


def _write_csv(path: Path, files: Sequence[Path], embeddings: np.ndarray) -> None:
    from facedistill.system.files import write_atomically

    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["file", *(f"e{number}" for number in range(embeddings.shape[1]))])
    rows.writerows([file, *row] for file, row in zip(files, embeddings.tolist(), strict=True))
    write_atomically(path, text.getvalue())


_WRITERS = {".npz": _write_npz, ".csv": _write_csv}


def _image_files(paths: Sequence[Path]) -> list[Path]:
    files = []
    for path in paths:
        inside = (
            sorted(p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES) if path.is_dir() else [path]
        )
        if not inside:
            raise DataError(f"{path} holds no image; give jpg, png, bmp or webp files")
        files += inside
    return files
