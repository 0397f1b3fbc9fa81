"""Tar shards packed by the standard library, for tests."""

import functools
import io
import tarfile

from facedistill.data.formats.shards.reader import ShardFaces
from facedistill.errors import DataError
from tests.data.formats.drawn_set import DrawnSet
from tests.helpers.errors import error_message

DRAWN = DrawnSet(3, 4)
PNG = DRAWN.encoded(0)
NAMES = ["anna", "béla", "chen"]


def items(faces=DRAWN):
    labels = faces.labels if faces.labels is not None else [None] * len(faces)
    return [(faces.encoded(i), None if label is None else int(label)) for i, label in enumerate(labels)]


def pack(path, members, form=tarfile.PAX_FORMAT):
    """A tar by the standard library, which is the oracle of the own header parser."""
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1_700_000_000
            tar.addfile(member, io.BytesIO(content))
    return path


message_of = functools.partial(error_message, DataError, ShardFaces)
