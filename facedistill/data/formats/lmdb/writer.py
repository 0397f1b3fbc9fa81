"""Writes an LMDB database that the training code of HSFace and VFace reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from facedistill.data.formats.base import Items
from facedistill.data.formats.face_set import image_ending
from facedistill.data.formats.lmdb.msgpack import pack_bytes, pack_list, pack_number
from facedistill.data.formats.lmdb.reader import NAMES
from facedistill.errors import DataError

_MAP_SIZE = 1 << 42  # bytes of address space, not of disk
_AT_ONCE = 10_000


def write_lmdb(target: Path, items: Items, names: Sequence[str]) -> None:
    """Writes `[image, label]` as MessagePack under the keys `000000000`, …, and `__len__`, `__keys__`, `__classnum__`.

    `__names__` adds the identities' names. Images of an unlabeled set get the label 0.

    Args:
        target: A file if it ends with `.lmdb`, else a folder; must not exist yet.
        items: (image file, label).
        names: (K,) of the identities.

    Raises:
        DataError: If the package lmdb is missing, or an image is no JPEG, PNG or WebP file.
    """
    try:
        import lmdb
    except ImportError as error:
        raise DataError("writing LMDB needs its library: pip install 'facedistill[lmdb]'") from error
    if any("\0" in name for name in names):
        raise DataError(
            f"{target}: a name of an identity holds a null character; convert to shards or parquet"
        )
    is_file = target.suffix == ".lmdb"
    if not is_file:
        target.mkdir(parents=True)
    database = lmdb.open(str(target), subdir=not is_file, map_size=_MAP_SIZE, lock=False, sync=False)
    count, batch = 0, []
    try:
        for key, value in _samples(items):
            batch.append((key, value))
            count += 1
            if len(batch) == _AT_ONCE:
                _put(database, batch)
                batch = []
        keys = [pack_bytes(b"%09d" % number) for number in range(count)]
        described = {
            b"__len__": pack_number(count),
            b"__keys__": pack_list(keys),
            b"__classnum__": pack_number(max(1, len(names))),
        }
        if names:
            described[NAMES] = pack_bytes("\0".join(names).encode("utf-8", "surrogateescape"))
        _put(database, [*batch, *described.items()])
        database.sync(True)
    except lmdb.Error as error:
        raise OSError(str(error)) from error
    finally:
        database.close()


def _samples(items: Items) -> Iterator[tuple[bytes, bytes]]:
    for number, (image, label) in enumerate(items):
        image_ending(image, number)
        yield b"%09d" % number, pack_list([pack_bytes(image), pack_number(label or 0)])


def _put(database: object, pairs: list[tuple[bytes, bytes]]) -> None:
    with database.begin(write=True) as transaction:  # type: ignore[attr-defined]
        for key, value in pairs:
            transaction.put(key, value)
