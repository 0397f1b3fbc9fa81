"""Speed of reading stored faces: records/s of every format, and decoding compared with the raw decoder.

    python benchmarks/data.py --images 4000

One core, files in the page cache. Raw decoder and readers alternate over the same bytes, so that other load on
the machine affects all of them; a ratio is the median over the turns. Writes `results/data.md`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from facedistill.data.formats.face_set import FaceSet
from facedistill.data.formats.folder import FolderFaces
from facedistill.data.formats.parquet.reader import ParquetFaces
from facedistill.data.formats.parquet.writer import write_parquet
from facedistill.data.formats.recordio.reader import RecordIOFaces, write_recordio
from facedistill.data.formats.shards.reader import ShardFaces
from facedistill.data.formats.shards.writer import write_shards
from facedistill.images import decode_face

RESULTS = Path(__file__).parent / "results"
TARGET = 0.85
BLOCK = 100  # images per turn: short, so that other load affects all alike


def draw_faces(count: int) -> list[bytes]:
    """JPEG files of a real crop's size (112 px, quality 95, about 8 kB), drawn: no real person."""
    draw = np.random.default_rng(0)
    distinct = []
    for _ in range(min(count, 500)):
        coarse = draw.integers(0, 256, (8, 8, 3)).astype(np.float32)
        smooth = np.kron(coarse, np.ones((14, 14, 1), np.float32))
        noisy = smooth + draw.normal(0, 12, smooth.shape)
        distinct.append(
            simplejpeg.encode_jpeg(noisy.clip(0, 255).astype(np.uint8), quality=95, colorsubsampling="420")
        )
    return [distinct[number % len(distinct)] for number in range(count)]


def write_sets(folder: Path, faces: list[bytes]) -> dict[str, FaceSet]:
    """The same images in every format that this installation reads."""
    labels = [number // 20 for number in range(len(faces))]
    write_recordio(folder / "rec" / "train", zip(faces, labels, strict=True))
    for number, (face, label) in enumerate(zip(faces, labels, strict=True)):
        place = folder / "tree" / f"{label:06d}" / f"{number:08d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(face)
    names = [str(label) for label in sorted(set(labels))]
    write_shards(folder / "shards", zip(faces, labels, strict=True), names)
    write_parquet(folder / "parquet", zip(faces, labels, strict=True), names)
    return {
        "RecordIO": RecordIOFaces(folder / "rec"),
        "folder": FolderFaces(folder / "tree"),
        "tar shards": ShardFaces(folder / "shards"),
        "Parquet": ParquetFaces(folder / "parquet"),
    }


def seconds(act: Callable[[], None]) -> float:
    """CPU seconds of this process: other processes on the machine do not count."""
    start = time.process_time()
    act()
    return time.process_time() - start


def read(faces: FaceSet, block: range) -> None:
    """The bytes of some images."""
    for index in block:
        faces.encoded(index)


def decode(faces: FaceSet, block: range) -> None:
    """Some images decoded and checked, as training does."""
    for index in block:
        decode_face(faces.encoded(index), faces.where(index))


def decode_raw(faces: list[bytes], block: range) -> None:
    """The decoder alone."""
    for index in block:
        simplejpeg.decode_jpeg(faces[index], "RGB")


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown processor"


def opening(count: int, folder: Path) -> dict[str, float]:
    """Records/s of opening a large `.rec`, with its `.idx` and without."""
    write_recordio(folder / "large", ((b"0123456789abcdef", number // 50) for number in range(count)))
    rates = {"with `.idx`": count / seconds(lambda: _open(folder / "large.rec"))}
    (folder / "large.idx").unlink()
    return rates | {"by walking": count / seconds(lambda: _open(folder / "large.rec"))}


def _open(path: Path) -> None:
    RecordIOFaces(path)


def main() -> int:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    faces = draw_faces(args.images)
    size_kb = sum(map(len, faces)) / len(faces) / 1000
    with tempfile.TemporaryDirectory() as name:
        os.environ["FACEDISTILL_CACHE"] = f"{name}/cache"
        sets = write_sets(Path(name), faces)
        raw: list[float] = []
        reading: dict[str, list[float]] = {kind: [] for kind in sets}
        decoding: dict[str, list[float]] = {kind: [] for kind in sets}
        blocks = [
            range(start, start + BLOCK) for start in range(0, len(faces) - BLOCK + 1, BLOCK)
        ] * args.turns
        for block in blocks:
            raw.append(seconds(lambda block=block: decode_raw(faces, block)))  # type: ignore[misc]
            for kind, one in sets.items():
                decoding[kind].append(seconds(lambda one=one, block=block: decode(one, block)))  # type: ignore[misc]
                reading[kind].append(seconds(lambda one=one, block=block: read(one, block)))  # type: ignore[misc]
        opened = opening(1_000_000, Path(name))
    lines = ["| | bytes only, records/s | decoded, images/s | of the raw decoder |", "|---|--:|--:|--:|"]
    lines.append(f"| raw decoder alone | | {BLOCK / statistics.median(raw):,.0f} | 100 % |")
    ratios = {}
    for kind in sets:
        ratios[kind] = statistics.median(one / two for one, two in zip(raw, decoding[kind], strict=True))
        rates = [BLOCK / statistics.median(reading[kind]), BLOCK / statistics.median(decoding[kind])]
        lines.append(f"| {kind} | {rates[0]:,.0f} | {rates[1]:,.0f} | {ratios[kind]:.1%} |")
    text = (
        "# Reading stored faces on one core\n\n"
        f"`python benchmarks/data.py --images {args.images} --turns {args.turns}` on one core of {processor()} (CPU time, "
        f"page cache warm): {len(faces)} drawn JPEG of 112 px, {size_kb:.1f} kB on average, simplejpeg "
        f"{simplejpeg.__version__}. Decoded is read, decoded to uint8 RGB and checked. Medians over "
        f"turns of {BLOCK} images, decoder and readers alternating.\n\n"
        + "\n".join(lines)
        + "\n\nOpening a `.rec` of a million records: "
        + ", ".join(f"{rate:,.0f} records/s {how}" for how, rate in opened.items())
        + ".\n"
    )
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "data.md").write_text(text)
    return 0 if ratios["RecordIO"] >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
