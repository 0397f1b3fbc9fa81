"""From a folder of photographs to a folder of aligned 112 x 112 faces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from facedistill.data.alignment.choose_face import Detector, Rule, choose_face
from facedistill.data.alignment.photograph import read_photograph
from facedistill.data.image_rows import write_rows
from facedistill.errors import DataError
from facedistill.models.detectors.similarity import align_face
from facedistill.system.files import atomic_path
from facedistill.system.progress import ProgressBar

_SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".png",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".jpe",
        ".jfif",
        ".gif",
        ".jp2",
        ".heic",
        ".heif",
        ".avif",
    }
)
_SIZE_PX = 112
_PICTURE_PAIRS, _PAIRS_PER_ROW = 24, 4


@dataclass(frozen=True)
class Failure:
    """A photograph that gave no aligned face: its path below the source folder, and why."""

    path: Path
    reason: str


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
        raise DataError(f"align: {src} and {dst} lie inside one another; write to a folder next to {src}")
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
    detector: Detector,
    src: Path,
    planned: dict[Path, Path],
    *,
    rule: Rule = "main",
    min_face_px: int = 0,
    again: bool = False,
    quiet: bool = False,
) -> list[Failure]:
    """Aligns every planned photograph, and returns those that gave no face.

    Raises:
        DataError: If a face cannot be written.
        ConfigError: If the detector's answer is not what it should be.
    """
    failures = []
    with ProgressBar("aligning", len(planned), "photographs", quiet=quiet) as progress:
        for photograph, face in planned.items():
            if again or not face.exists():
                aligned = align_photograph(detector, photograph, rule=rule, min_face_px=min_face_px)
                if isinstance(aligned, str):
                    failures.append(Failure(photograph.relative_to(src), aligned))
                else:
                    _write(aligned, face)
            progress.advance()
    return failures


def align_photograph(
    detector: Detector, path: Path, *, rule: Rule = "main", min_face_px: int = 0
) -> Image.Image | str:
    """One face of a photograph, 112 x 112, turned as its EXIF says; or the reason why there is none."""
    image = read_photograph(path)
    if isinstance(image, str):
        return image
    chosen = choose_face(detector, image, rule, min_face_px)
    if isinstance(chosen, str):
        return chosen
    try:
        return align_face(image, chosen)
    except ValueError:  # five landmarks in one place
        return "landmarks without extent"


def before_and_after(planned: dict[Path, Path], picture: Path) -> None:
    """Writes a picture of at most 24 photographs, spread over the folder, each next to its face.

    Raises:
        UserError: If it cannot be written.
    """
    done = [(photograph, face) for photograph, face in planned.items() if face.exists()]
    if not done:
        return
    tiles = []
    for number in np.linspace(0, len(done) - 1, min(len(done), _PICTURE_PAIRS)).astype(int):
        for path in done[number]:
            image = read_photograph(path)
            if not isinstance(image, str):
                tiles.append(np.asarray(ImageOps.pad(image, (_SIZE_PX, _SIZE_PX))))
    width = 2 * _PAIRS_PER_ROW
    write_rows(picture, [tiles[start : start + width] for start in range(0, len(tiles), width)])


def _write(face: Image.Image, path: Path) -> None:
    with atomic_path(path, DataError, "free space or change DST") as unfinished:
        if path.suffix.lower() == ".png":
            face.save(unfinished, format="PNG")
        else:
            face.save(unfinished, format="JPEG", quality=95, subsampling=0)
