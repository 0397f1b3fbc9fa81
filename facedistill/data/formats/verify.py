"""Reads and decodes every image of a face set."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from facedistill.data.formats.face_set import FaceSet
from facedistill.data.formats.open import format_of, open_faces
from facedistill.errors import DataError
from facedistill.images import decode_face
from facedistill.system.progress import ProgressBar

_CHUNK = 64


def open_for_verifying(path: str | Path) -> tuple[FaceSet, list[str]]:
    """What can be read of a face set, and a message for each file, shard or sample that is damaged.

    Raises:
        DataError: If nothing can be read, or it is no face set.
    """
    form = format_of(path)
    try:
        faces, unreadable = open_faces(path), []
    except DataError as error:
        if not form.reads_damaged:
            raise
        try:
            faces = open_faces(path, truncated="drop")
        except DataError:
            raise error from None
        unreadable = list(getattr(faces, "damage", [])) or [str(error)]
    return faces, [*unreadable, *form.changed_files(path)]


def problems(faces: FaceSet, *, size_px: int | None = 112, threads: int = 1) -> Iterator[str]:
    """Decodes every image, with progress, and yields one sentence for each that cannot be, in order.

    Args:
        faces: The set.
        size_px: Demanded width and height; None for any.
        threads: Decoding threads.
    """
    chunks = (range(start, min(start + _CHUNK, len(faces))) for start in range(0, len(faces), _CHUNK))
    waiting: deque[Future[list[str]]] = deque()
    with ProgressBar("verifying", len(faces)) as progress, ThreadPoolExecutor(threads) as pool:
        for chunk in chunks:
            waiting.append(pool.submit(_problems_of, faces, chunk, size_px))
            if len(waiting) >= 4 * threads:
                yield from waiting.popleft().result()
                progress.advance(_CHUNK)
        for future in waiting:
            yield from future.result()


def problem_of(faces: FaceSet, index: int, size_px: int | None) -> str | None:
    """Why one image cannot be decoded, in a sentence that says where it lies; None when it can."""
    try:
        decode_face(faces.encoded(index), faces.where(index), size_px)
    except DataError as error:
        return str(error)
    return None


def _problems_of(faces: FaceSet, chunk: range, size_px: int | None) -> list[str]:
    found = (problem_of(faces, index, size_px) for index in chunk)
    return [problem for problem in found if problem is not None]
