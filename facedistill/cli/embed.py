"""`facedistill embed`: unit embeddings of aligned face images by a student file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from facedistill.errors import DataError

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def main(arguments: Sequence[str]) -> int:
    """Embeds images and writes them, or prints the cosines between few of them."""
    parser = argparse.ArgumentParser(prog="facedistill embed", description=__doc__)
    parser.add_argument("images", nargs="+", type=Path, help="aligned face images, or folders of them")
    parser.add_argument(
        "--student", type=Path, required=True, help="student.safetensors or student.onnx of a run"
    )
    parser.add_argument("--out", type=Path, help="write an .npz with `files` (N,) and `embeddings` (N, D)")
    parsed = parser.parse_args(arguments)
    import numpy as np

    from facedistill.export import Embedder
    from facedistill.system.files import write_npz

    files = _image_files(parsed.images)
    embeddings = Embedder(parsed.student).embed(files).numpy()
    if parsed.out:
        write_npz(parsed.out, files=np.array([str(f) for f in files]), embeddings=embeddings)
        print(f"{len(files)} embeddings of {embeddings.shape[1]} dimensions in {parsed.out}")
        return 0
    print(f"{len(files)} embeddings of {embeddings.shape[1]} dimensions; --out FILE.npz keeps them. Cosines:")
    for file, row in zip(files[:20], (embeddings @ embeddings.T)[:20, :20], strict=True):
        print(" ".join(f"{cosine:6.3f}" for cosine in row), file)
    return 0


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
