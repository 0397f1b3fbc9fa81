"""Writes Parquet in the layout of Hugging Face's `Image` and `ClassLabel` features."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from facedistill.data.formats.face_set import image_ending
from facedistill.errors import DataError
from facedistill.system.files import new_target

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_PER_GROUP = 16  # a whole group is read for one image; larger ones make shuffled reading slow
_ROWS_PER_FILE = 50_000


def write_parquet(
    path: str | Path, items: Iterable[tuple[bytes, int | None]], identities: Sequence[str]
) -> int:
    """Writes one file if `path` ends in `.parquet`, else a folder of `train-00000-of-00003.parquet`, …; or nothing.

    `datasets.load_dataset` shows the images and the names of the identities.

    Args:
        path: Must not exist yet.
        items: (image file, label); label None for an unlabeled set.
        identities: (K,) names, which may not repeat; empty when unlabeled.

    Returns:
        N, the number of images.

    Raises:
        DataError: If the path exists, there is no image, a label is outside [0, K), an image is no JPEG, PNG or
            WebP file, or writing fails.
    """
    import pyarrow.parquet as pq

    target = Path(path)
    alone = target.suffix == ".parquet"
    schema = _schema(identities)
    remaining = iter(items)
    with new_target(target) as stage:
        parts: list[Path] = []
        count = 0
        if not alone:
            stage.mkdir()
        while group := list(islice(remaining, _ROWS_PER_GROUP)):
            part = stage if alone else stage / f"part-{len(parts):05d}"
            with pq.ParquetWriter(part, schema, compression="none", use_dictionary=False) as writer:
                written = 0
                while group:
                    writer.write_table(_table(group, count + written, schema, len(identities)))
                    written += len(group)
                    is_full = not alone and written >= _ROWS_PER_FILE
                    group = [] if is_full else list(islice(remaining, _ROWS_PER_GROUP))
            parts.append(part)
            count += written
        if not count:
            raise DataError(f"{path}: there are no images to write; give a set with images")
        if not alone:
            for number, part in enumerate(parts):
                part.rename(stage / f"train-{number:05d}-of-{len(parts):05d}.parquet")
    return count


def _schema(identities: Sequence[str]) -> pa.Schema:
    import pyarrow as pa

    features: dict[str, object] = {"image": {"_type": "Image"}}
    fields = [pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))]
    if identities:
        features["label"] = {"names": list(identities), "_type": "ClassLabel"}
        fields.append(pa.field("label", pa.int64()))
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _table(
    group: Sequence[tuple[bytes, int | None]], first: int, schema: pa.Schema, num_identities: int
) -> pa.Table:
    import pyarrow as pa

    columns = [pa.array(list(_images(group, first)), schema.field("image").type)]
    if num_identities:
        labels = [label for _, label in group]
        for number, label in enumerate(labels, start=first):
            if label is None or not 0 <= label < num_identities:
                raise DataError(
                    f"image {number} has label {label}, outside the {num_identities} identities; name them all"
                )
        columns.append(pa.array(labels, pa.int64()))
    return pa.Table.from_arrays(columns, schema=schema)


def _images(group: Sequence[tuple[bytes, int | None]], first: int) -> Iterator[dict[str, object]]:
    for number, (image, _) in enumerate(group, start=first):
        yield {"bytes": image, "path": f"{number:09d}.{image_ending(image, number)}"}
