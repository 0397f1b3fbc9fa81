"""Opens a face set in whatever format it lies there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from facedistill.data.formats.face_set import FaceSet
from facedistill.errors import DataError

Format = Literal["rec", "folder", "shards", "parquet"]

NAMES: dict[Format, str] = {
    "rec": "RecordIO",
    "folder": "folder of images",
    "shards": "tar shards",
    "parquet": "Parquet or Hugging Face table",
}
_UNDERSTOOD = (
    "understood are a folder with train.rec, a folder of one folder per identity, .tar shards, .parquet files and "
    "a Hugging Face save_to_disk folder"
)
_SUFFIXES: dict[str, Format] = {".rec": "rec", ".tar": "shards", ".parquet": "parquet", ".arrow": "parquet"}
_IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
_MOST_LOOKED_AT = 2_000


def open_faces(path: str | Path, *, truncated: Literal["refuse", "drop"] = "refuse") -> FaceSet:
    """The face set at `path`, recognized by what lies there.

    Args:
        path: A file, a folder, or a pattern of shards (`train-{000..123}.tar`) or Parquet files.
        truncated: "drop" reads a damaged RecordIO file or shard up to the damage instead of refusing it.

    Raises:
        DataError: In one sentence, if it is no face set, several, or a damaged one.
    """
    form = format_of(path)
    if form == "rec":
        from facedistill.data.formats.recordio.reader import RecordIOFaces

        return RecordIOFaces(path, truncated=truncated)
    if form == "shards":
        from facedistill.data.formats.shards.reader import ShardFaces

        return ShardFaces(path, truncated=truncated)
    if form == "parquet":
        from facedistill.data.formats.parquet.reader import ParquetFaces

        return ParquetFaces(path)
    from facedistill.data.formats.folder import FolderFaces

    return FolderFaces(path)


def format_of(path: str | Path) -> Format:
    """The format of what lies at `path`.

    Raises:
        DataError: If nothing is there, or what is there is no face set, or more than one.
    """
    root = Path(path)
    if not root.exists():
        is_pattern = any(sign in str(path) for sign in "*?[{")
        if is_pattern and root.suffix in (".tar", ".parquet", ".arrow"):
            return _SUFFIXES[root.suffix]
        raise DataError(f"{path}: is not there; give a face set: {_UNDERSTOOD}")
    if root.is_file():
        form = _SUFFIXES.get(root.suffix.lower())
        if form is None:
            raise DataError(f"{path}: a {root.suffix or 'nameless'} file is no face set; {_UNDERSTOOD}")
        return form
    if (root / "state.json").is_file() or (root / "dataset_dict.json").is_file():
        return "parquet"
    found = _formats_below(root)
    if len(found) > 1:
        names = " and ".join(NAMES[form] for form in sorted(found))
        raise DataError(
            f"{path}: holds several face sets ({names}); give one of them, or move the others away"
        )
    if not found:
        raise DataError(f"{path}: holds {_contents(root)}, and no face set; {_UNDERSTOOD}")
    return found.pop()


def _formats_below(root: Path) -> set[Format]:
    found: set[Format] = set()
    for child in root.iterdir():
        form = _SUFFIXES.get(child.suffix.lower())
        if form is not None and child.suffix != ".arrow" and child.is_file():
            found.add(form)
        elif child.suffix.lower() in _IMAGES and not child.name.startswith("."):
            found.add("folder")
    if found:
        return found
    for path in _below(root):
        if path.suffix.lower() in _IMAGES:
            return {"folder"}
        if path.suffix.lower() == ".parquet":
            return {"parquet"}
    return found


def _below(root: Path) -> Iterator[Path]:
    """Files at any depth, those of hidden folders left out."""
    files = (path for path in root.rglob("*") if path.is_file())
    return (path for path in files if not any(part.startswith(".") for part in path.relative_to(root).parts))


def _contents(root: Path) -> str:
    """`3 .txt and 1 .bin files`, from the first 2,000."""
    counts = Counter(path.suffix.lower() or "nameless" for path in islice(_below(root), _MOST_LOOKED_AT))
    if not counts:
        return "no file"
    parts = [f"{number} {suffix}" for suffix, number in counts.most_common(4)]
    named = " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
    return f"{named} file{'s' if sum(counts.values()) > 1 else ''}"
