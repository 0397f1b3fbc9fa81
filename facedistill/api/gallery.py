"""A gallery of known faces, and the search in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from facedistill.api.index import Index
from facedistill.api.photographs import Chosen, Face, Picture, faces_of
from facedistill.data.alignment.choose_face import Detector
from facedistill.errors import DataError, UserError, reason
from facedistill.evaluation.thresholds import Threshold
from facedistill.system.files import read_npz, write_npz
from facedistill.system.progress import ProgressBar

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
_PORTION = 64


class Embeds(Protocol):
    """What is needed of a `Student` here."""

    embedding_dim: int
    run: str

    def embed(self, images: Sequence[Picture]) -> Tensor:
        """Aligned faces as (N, D) unit rows."""
        ...


@dataclass(frozen=True)
class Hit:
    """One face of a gallery that a search returns.

    Attributes:
        rank: From 1.
        name: Its file, with `#2` and so on for further faces of one photograph.
        score: Cosine, [-1, 1].
        same: Whether the score is at least the threshold; None without one.
    """

    rank: int
    name: str
    score: float
    same: bool | None


@dataclass(frozen=True)
class SearchResult:
    """The hits of a search, the best first, and the threshold of their decisions; see `Match`."""

    hits: list[Hit]
    threshold: float | None
    fitted: Threshold | None


@dataclass
class Gallery:
    """Embedded faces by name.

    Attributes:
        names: N.
        embeddings: (N, D) float32 unit rows.
        run: Of the student that embedded them; "" if unknown.
        failures: Photographs without a row: path and reason.
    """

    names: list[str]
    embeddings: Tensor
    run: str = ""
    failures: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def build(
        cls,
        student: Embeds,
        images: str | Path | Iterable[str | Path],
        *,
        aligned: bool = False,
        face: Chosen = "largest",
        detector: Detector | None = None,
        quiet: bool = False,
    ) -> Gallery:
        """Embeds the images of a folder, or those given.

        Args:
            student: Embeds.
            images: A folder, searched with its subfolders, or files.
            aligned: Whether they are square aligned faces; else each is a photograph, and one that shows no face is
                named in `failures`.
            face: Of several faces in a photograph, the largest or all.
            detector: See `find_faces`.
            quiet: Shows no progress.

        Raises:
            DataError: If there is no image, or an aligned face cannot be read.
        """
        files = image_files([images] if isinstance(images, str | Path) else images)
        if not files:
            raise DataError("no image is given for the gallery; give a folder or files")
        gallery = cls([], torch.empty(0, student.embedding_dim), student.run)
        rows = []
        with ProgressBar("embedding", len(files), quiet=quiet) as progress:
            for start in range(0, len(files), _PORTION):
                portion = files[start : start + _PORTION]
                if aligned:
                    gallery.names += map(str, portion)
                    rows.append(student.embed(portion))
                else:
                    faces = [one for file in portion for one in gallery._found(file, face, detector)]
                    rows.append(student.embed([one.crop for one in faces]))
                progress.advance(len(portion))
        gallery.embeddings = torch.cat(rows)
        return gallery

    def _found(self, file: Path, face: Chosen, detector: Detector | None) -> list[Face]:
        try:
            faces = faces_of(file, detector, every=face == "all")
        except DataError as error:
            self.failures.append((str(file), str(error)))
            return []
        faces = faces if face == "all" else faces[:1]
        self.names += [f"{file}#{number}" if number > 1 else str(file) for number in range(1, len(faces) + 1)]
        return faces

    @classmethod
    def load(cls, path: str | Path) -> Gallery:
        """Reads what `facedistill embed --out` or `save` wrote.

        Raises:
            DataError: If the file is missing, damaged, or of another kind.
        """
        try:
            arrays = read_npz(Path(path), ("files", "embeddings", "run"))
            names, rows = [str(name) for name in arrays["files"]], arrays["embeddings"]
            run = str(arrays.get("run", ""))
        except (OSError, ValueError, KeyError, EOFError, TypeError, BadZipFile) as error:
            raise DataError(
                f"{path} holds no embeddings; give a folder of images or an .npz of `facedistill embed --out`"
            ) from error
        if rows.ndim != 2 or len(rows) != len(names) or rows.dtype.kind != "f" or not np.isfinite(rows).all():
            raise DataError(
                f"{path}: {len(names)} names and embeddings of {rows.dtype} and shape {rows.shape}; embed it again"
            )
        return cls(names, torch.nn.functional.normalize(torch.from_numpy(rows).float()), run)

    def save(self, path: str | Path) -> Path:
        """Writes `files` (N,), `embeddings` (N, D) and `run` as an .npz.

        Raises:
            UserError: If it cannot be written.
        """
        return write_npz(
            Path(path), files=np.array(self.names), embeddings=self.embeddings.numpy(), run=np.array(self.run)
        )

    def demand_made_by(self, run: str, embedding_dim: int) -> None:
        """Refuses to compare with embeddings of another student.

        Raises:
            UserError: If the gallery is empty, or its run or width differs.
        """
        if not self.names:
            raise UserError("the gallery holds no face; give photographs that show one")
        if self.embeddings.shape[1] != embedding_dim or (self.run and run and self.run != run):
            raise UserError(
                f"the gallery was embedded by {self.run or 'another student'} ({self.embeddings.shape[1]} dimensions) and "
                f"the model is {run or 'another one'} ({embedding_dim}); embed it again with this model"
            )

    def nearest(self, row: Tensor, top: int) -> Sequence[tuple[int, float]]:
        """Index and cosine of the `top` rows that are nearest to a (1, D) unit row, the best first."""
        return self._index.nearest(row, min(top, len(self.names)))

    @cached_property
    def _index(self) -> Index:
        return Index(self.embeddings)


def image_files(paths: Iterable[str | Path]) -> list[Path]:
    """The files among `paths`, and the image files in and below its folders, sorted.

    Raises:
        DataError: If a folder holds no image, or a path is none.
    """
    files = []
    for given in paths if isinstance(paths, Iterable) else [paths]:
        if not isinstance(given, str | Path):
            raise DataError(
                f"{given!r}: is no path; a gallery is built from the paths of images or of folders"
            )
        path = Path(given)
        inside = _images_below(path) if os.path.isdir(path) else [path]
        if not inside:
            raise DataError(f"{path} holds no image; give jpg, png, bmp or webp files")
        files += inside
    return files


def _images_below(folder: Path) -> list[Path]:
    """Image files at any depth; a folder that cannot be read is refused, since its images would be left out."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({reason(error)})") from error

    found = [Path(place, name) for place, _, names in os.walk(folder, onerror=refuse) for name in names]
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES and path.is_file())
