"""Small archives and images that claim, or unpack to, far more than they hold."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path

from attempts import Attempts, run
from PIL import Image

import facedistill as fd
from facedistill.data.alignment.photograph import read_photograph
from facedistill.errors import UserError
from facedistill.evaluation.protocols.archives import TarArchive
from facedistill.images import decode_face
from facedistill.runs.checkpointing.files import newest_intact

HEADER = b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"  # a JPEG of 65,535 pixels


def archives(folder: Path) -> Attempts:
    """Shards, RecordIO, images, safetensors and checkpoints."""
    for name, size in (("huge.tar", 1 << 62), ("json.tar", 1 << 20)):
        head = tarfile.TarInfo("a/00.json" if size < 1 << 30 else "a/00.png")
        head.size = size
        (folder / name).write_bytes(head.tobuf(tarfile.GNU_FORMAT) + b"[" * (1 << 20) + bytes(1024))
        yield f"data info: {name}", lambda name=name: run("data", "info", name)
        if size > 1 << 30:
            yield f"evaluate: {name}", lambda name=name: TarArchive(folder / name).names()
    names = io.BytesIO()
    with tarfile.open(fileobj=names, mode="w") as tar:
        for number in range(2_000):
            label = json.dumps({"identity": "n" * (10**6 if number == 0 else 1) + str(number)}).encode()
            for ending, content in (("png", b"\x89PNG" + bytes(96)), ("json", label)):
                head = tarfile.TarInfo(f"{number}.{ending}")
                head.size = len(content)
                tar.addfile(head, io.BytesIO(content))
    (folder / "names.tar").write_bytes(names.getvalue())
    yield "data info: shard with a name of 10^6 characters", lambda: run("data", "info", "names.tar")
    (folder / "long.rec").write_bytes(struct.pack("<II", 0xCED7230A, (1 << 29) - 1) + bytes(64))
    yield "data info: RecordIO of a record of 2^29 bytes", lambda: run("data", "info", "long.rec")
    parts = b"".join(struct.pack("<II", 0xCED7230A, flag << 29) for flag in [1, *[2] * 500_000])
    (folder / "parts.rec").write_bytes(parts)
    yield "data info: RecordIO of a record without an end", lambda: run("data", "info", "parts.rec")
    wide = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(wide, "PNG")
    for name, data in (("bomb.png", wide.getvalue()), ("bomb.jpg", HEADER + b"\xff\xd9")):
        (folder / name).write_bytes(data)
        yield f"data: {name} as a face", lambda data=data, name=name: decode_face(data, name, None)
        yield f"verify: {name} as a photograph", lambda name=name: photograph(folder / name)
    for name, size in (("2^62", 1 << 62), ("10^8", 10**8)):
        path = folder / f"{len(name)}.safetensors"
        path.write_bytes(size.to_bytes(8, "little") + b"{")
        yield f"fd.load: safetensors with a header of {name} bytes", lambda path=path: fd.load(str(path))
    with zipfile.ZipFile(folder / "last.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"archive/data/{number}", bytes(100 << 20))
    yield "train: a checkpoint that unpacks to 2 GB", lambda: newest_intact(folder / "last.ckpt")


def photograph(path: Path) -> object:
    """Reads a photograph; one that cannot be read is an error."""
    if isinstance(found := read_photograph(path), str):
        raise UserError(found)
    return found
