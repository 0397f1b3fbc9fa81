"""`facedistill align`: from a folder of photographs to a folder of aligned 112 x 112 faces."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from facedistill.assets import obtain
from facedistill.errors import DataError, UserError
from facedistill.models.detectors import Scrfd, align_face

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_MOST_NAMED = 20


@dataclass(frozen=True)
class Failure:
    """A photograph that gave no aligned face: its path below the source folder, and why."""

    path: Path
    reason: str


def main(argv: Sequence[str]) -> int:
    """Runs `facedistill align SRC DST`.

    Returns:
        0 when every photograph gave a face, 1 when some did not, 2 after a user's mistake.
    """
    parser = argparse.ArgumentParser(
        prog="facedistill align",
        description="Find the main face of every photograph below SRC and write it, aligned to the ArcFace "
        "template at 112 x 112, under the same relative path below DST. What DST already holds is kept.",
    )
    parser.add_argument("src", type=Path, metavar="SRC", help="folder of photographs, for example LFW's")
    parser.add_argument("dst", type=Path, metavar="DST", help="folder to write into")
    parser.add_argument("--threads", type=int, default=1, help="threads of the detector; 0 takes every core")
    parser.add_argument("--again", action="store_true", help="write anew what DST already holds")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    options = parser.parse_args(list(argv))
    try:
        planned = plan(options.src, options.dst)
        detector = Scrfd(obtain("scrfd_500m", quiet=options.quiet), num_threads=options.threads)
        failures = align_folder(detector, options.src, planned, again=options.again, quiet=options.quiet)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    _tell(failures, len(planned), options.dst)
    return 1 if failures else 0


def plan(src: Path, dst: Path) -> dict[Path, Path]:
    """Photograph to aligned face, by path; `.jpg`, `.jpeg` and `.png` keep their names, others get `.jpg`.

    Raises:
        DataError: If `src` is no folder or holds no photograph, if one folder lies inside the other, or if
            two photographs would be written to one file.
    """
    if not src.is_dir():
        raise DataError(f"align: {src} is not a folder; name the folder that holds the photographs")
    source, target = src.resolve(), dst.resolve()
    if source.is_relative_to(target) or target.is_relative_to(source):
        raise DataError(f"align: {src} and {dst} lie inside one another; write to a folder beside {src}")
    planned: dict[Path, Path] = {}
    origin: dict[Path, Path] = {}
    for photograph in sorted(_photographs(src)):
        relative = photograph.relative_to(src)
        keeps = relative.suffix.lower() in (".jpg", ".jpeg", ".png")
        face = dst / (relative if keeps else relative.with_suffix(".jpg"))
        if face in origin:
            raise DataError(f"align: {origin[face]} and {photograph} would both become {face}; rename one")
        origin[face] = photograph
        planned[photograph] = face
    if not planned:
        raise DataError(f"align: {src} holds no photograph ({', '.join(sorted(_SUFFIXES))})")
    return planned


def _photographs(src: Path) -> Iterator[Path]:
    return (path for path in src.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())


def align_folder(
    detector: Scrfd, src: Path, planned: dict[Path, Path], *, again: bool = False, quiet: bool = False
) -> list[Failure]:
    """Aligns every planned photograph, and returns those that gave no face.

    Raises:
        DataError: If a face cannot be written.
    """
    failures = []
    columns = (TextColumn("aligning"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as progress:
        for photograph, face in progress.track(planned.items(), total=len(planned)):
            if face.exists() and not again:
                continue
            aligned = align_photograph(detector, photograph)
            if isinstance(aligned, str):
                failures.append(Failure(photograph.relative_to(src), aligned))
            else:
                _write(aligned, face)
    return failures


def align_photograph(detector: Scrfd, path: Path) -> Image.Image | str:
    """The main face of a photograph, 112 x 112, turned as its EXIF says; or the reason why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                image = ImageOps.exif_transpose(opened).convert("RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return "too many pixels"
    except (OSError, ValueError, SyntaxError):  # Pillow raises each of them on damaged files
        return "not a readable image"
    faces = detector.find(image)
    if not len(faces):
        return "no face found"
    return align_face(image, faces.landmarks[faces.main(*image.size)])


def _write(face: Image.Image, path: Path) -> None:
    beside = path.with_name(f".{path.name}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".png":
            face.save(beside, format="PNG")
        else:
            face.save(beside, format="JPEG", quality=95, subsampling=0)
        os.replace(beside, path)
    except OSError as error:
        raise DataError(
            f"align: cannot write {path} ({error.strerror or error}); free or change DST"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _tell(failures: Sequence[Failure], total: int, dst: Path) -> None:
    print(f"{total - len(failures)} of {total} photographs aligned into {dst}")
    for failure in failures[:_MOST_NAMED]:
        print(f"  {failure.path}: {failure.reason}", file=sys.stderr)
    if len(failures) > _MOST_NAMED:
        print(f"  and {len(failures) - _MOST_NAMED} more", file=sys.stderr)
