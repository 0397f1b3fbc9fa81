"""Opens a face set in any format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from facedistill.data.formats.base import Format, Truncated, all_formats
from facedistill.data.formats.face_set import FaceSet
from facedistill.errors import DataError, os_errors_as
from facedistill.system.store import is_remote

_MAX_LISTED_FILES = 2_000


def open_faces(path: str | Path, *, truncated: Truncated = "refuse") -> FaceSet:
    """The face set at `path`, recognized by its content.

    Args:
        path: A file, a folder, or a pattern of shards (`train-{000..123}.tar`) or Parquet files; shards also at an fsspec
            address such as `s3://bucket/faces`.
        truncated: "drop" reads a damaged RecordIO file or shard up to the damage instead of refusing it.

    Raises:
        DataError: In one sentence, if it is no face set, several, or a damaged one.
    """
    return format_of(path).open(path, truncated)


def format_of(path: str | Path) -> Format:
    """The format of the face set at `path`.

    Raises:
        DataError: If the path does not exist, or holds no face set, or more than one.
    """
    if is_remote(path):
        return next(form for form in all_formats() if form.takes_addresses)
    with os_errors_as(DataError, f"{path}: cannot be read"):
        return _local_format(path)


def _local_format(path: str | Path) -> Format:
    root = Path(path)
    by_suffix = {suffix: form for form in all_formats() for suffix in form.suffixes}
    found = by_suffix.get(root.suffix.lower())
    if not root.exists():
        if found is not None and found.takes_patterns and any(sign in str(path) for sign in "*?[{"):
            return found
        raise DataError(f"{path}: does not exist; give a face set: {_accepted()}")
    if root.is_file():
        if found is None:
            raise DataError(f"{path}: a {root.suffix or 'nameless'} file is no face set; {_accepted()}")
        return found
    for form in all_formats():
        if form.owns_folder(root):
            return form
    formats = _formats_in(root)
    if len(formats) > 1:
        names = " and ".join(form.title for form in formats)
        raise DataError(
            f"{path}: holds several face sets ({names}); give one of them, or move the others away"
        )
    if not formats:
        raise DataError(f"{path}: holds {_contents(root)}, and no face set; {_accepted()}")
    return formats[0]


def _formats_in(root: Path) -> list[Format]:
    """Formats of the files in the folder itself; else the format of the first file in its subfolders that has one."""
    suffixes = {
        child.suffix.lower() for child in root.iterdir() if not child.name.startswith(".") and child.is_file()
    }
    found = [form for form in all_formats() if form.in_folder & suffixes]
    if found:
        return found
    nested = {suffix: form for form in all_formats() if form.in_subfolders for suffix in form.in_folder}
    return next(([nested[path.suffix.lower()]] for path in _below(root) if path.suffix.lower() in nested), [])


def _below(root: Path) -> Iterator[Path]:
    """Files at any depth, without those of hidden folders."""
    files = (path for path in root.rglob("*") if path.is_file())
    return (path for path in files if not any(part.startswith(".") for part in path.relative_to(root).parts))


def _accepted() -> str:
    *most, last = (form.example for form in all_formats())
    return f"accepted are {', '.join(most)} and {last}"


def _contents(root: Path) -> str:
    """`3 .txt and 1 .bin files`, from the first 2,000."""
    counts = Counter(path.suffix.lower() or "nameless" for path in islice(_below(root), _MAX_LISTED_FILES))
    if not counts:
        return "no file"
    parts = [f"{number} {suffix}" for suffix, number in counts.most_common(4)]
    named = " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
    return f"{named} file{'s' if sum(counts.values()) > 1 else ''}"
