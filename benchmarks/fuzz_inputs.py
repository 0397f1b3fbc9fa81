"""Generated valid files, and ways to damage them."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from collections.abc import Callable

import numpy as np
from PIL import Image

MAGIC = 0xCED7230A


def images(count: int) -> list[bytes]:
    """Small drawn JPEG and PNG files of 112 x 112 pixels in every mode that occurs."""
    draw = np.random.default_rng(5)
    files = []
    for number in range(count):
        coarse = draw.integers(0, 256, (7, 7, 3), dtype=np.uint8)
        image = Image.fromarray(np.kron(coarse, np.ones((16, 16, 1), np.uint8)))
        mode = ("RGB", "L", "RGB", "P", "RGB", "RGBA", "RGB", "CMYK")[number % 8]
        kind = "PNG" if mode in ("P", "RGBA") or number % 8 == 4 else "JPEG"
        file = io.BytesIO()
        image.convert(mode).save(file, kind, quality=80, progressive=number % 8 == 6)
        files.append(file.getvalue())
    return files


def rec_files(faces: list[bytes]) -> list[tuple[bytes, bytes]]:
    """(.rec, .idx) of three layouts: insightface's, images only, and one with split records."""
    short = [face[:200] for face in faces]
    header = [_record(number + 1, [number // 3, 1], face) for number, face in enumerate(short)]
    ends = len(header) + 1
    header += [_record(0, [ends, ends + 1], b""), _record(ends, [1, ends], b"")]
    flat = [_record(number, [], face, label=float(number % 4 * 2)) for number, face in enumerate(short)]
    magic = struct.pack("<I", MAGIC)
    split = [_record(number, [number % 3], b"ab12" + magic + face) for number, face in enumerate(short[:4])]
    return [
        _joined(records, keys)
        for records, keys in ((header, [*range(1, ends), 0, ends]), (flat, None), (split, None))
    ]


def _record(key: int, labels: list[float], image: bytes, label: float = 0.0) -> bytes:
    payload = (
        struct.pack("<IfQQ", len(labels), label, key, 0) + struct.pack(f"<{len(labels)}f", *labels) + image
    )
    parts = payload.split(struct.pack("<I", MAGIC))
    flags = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    return b"".join(
        struct.pack("<II", MAGIC, flag << 29 | len(part)) + part + bytes(-len(part) % 4)
        for flag, part in zip(flags, parts, strict=True)
    )


def _joined(records: list[bytes], keys: list[int] | None) -> tuple[bytes, bytes]:
    places = np.cumsum([0, *map(len, records)])
    lines = [f"{key}\t{place}\n" for key, place in zip(keys or range(len(records)), places, strict=False)]
    return b"".join(records), "".join(lines).encode()


def bin_files(faces: list[bytes]) -> list[bytes]:
    """Verification sets of ten pairs, in the protocols that occur."""
    pairs = [(faces * 20)[number][:120] for number in range(20)]
    return [pickle.dumps((pairs, [True, False] * 5), protocol=protocol) for protocol in (0, 2, 3, 4, 5)]


def tar_files(faces: list[bytes]) -> list[bytes]:
    """A tar of folders and one of shard samples (`key.jpg`, `key.cls`), in the three formats."""
    files = []
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
            for number, face in enumerate(faces[:5]):
                ending = "png" if face[:1] == b"\x89" else "jpg"
                for suffix, body in ((ending, face[:300]), ("cls", str(number % 2).encode())):
                    member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                    member.size = len(body)
                    tar.addfile(member, io.BytesIO(body))
        files.append(file.getvalue())
    return files


def hostile_opcodes(canary: str) -> list[bytes]:
    """Opcodes that create the file `canary` when a careless reader meets them."""
    shell = f"touch {canary}".encode()
    python = f"open({canary!r}, 'w')".encode()
    short = b"\x8c\x05posix\x8c\x06system\x93" + b"\x8c" + bytes([len(shell)]) + shell
    return [
        b"cposix\nsystem\n(S'" + shell + b"'\ntR",
        b'c__builtin__\neval\n(S"' + python + b'"\ntR',
        b"cbuiltins\nexec\n(V" + python + b"\ntR",
        b"(S'" + shell + b"'\niposix\nsystem\n",
        b"(cposix\nsystem\nS'" + shell + b"'\no",
        short + b"\x85R",
        short + b"\x85\x81",
        b"c_codecs\nencode\ncposix\nsystem\n\x85R",
        b"Pposix.system\n",
        b"\x82\x01",
    ]


def mutate(data: bytes, other: bytes, draw: np.random.Generator, inserts: list[bytes]) -> tuple[str, bytes]:
    """One of the ways to spoil `data`; `other` is spliced in, `inserts` are put anywhere."""
    ways: list[Callable[[], bytes]] = [
        lambda: _flip(data, draw),
        lambda: data[: int(draw.integers(0, len(data)))],
        lambda: _edit_length(data, draw),
        lambda: data[: int(draw.integers(len(data)))] + other[int(draw.integers(len(other))) :],
        lambda: _cut_out(data, draw),
        lambda: _insert(data, data[int(draw.integers(len(data))) :][: int(draw.integers(1, 600))], draw),
        lambda: _insert(data, inserts[int(draw.integers(len(inserts)))], draw),
        lambda: data + draw.bytes(int(draw.integers(1, 700))),
    ]
    names = ("bit flips", "truncation", "length edit", "splice", "cut out", "repeat", "insert", "append")
    chosen = int(draw.integers(len(ways)))
    return names[chosen], ways[chosen]()


def _flip(data: bytes, draw: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(int(draw.integers(1, 9))):
        changed[int(draw.integers(len(changed)))] ^= 1 << int(draw.integers(8))
    return bytes(changed)


def _edit_length(data: bytes, draw: np.random.Generator) -> bytes:
    """Writes a telling number over two, four or eight bytes, near a magic or anywhere."""
    changed = bytearray(data)
    starts = [
        data.find(mark) for mark in (struct.pack("<I", MAGIC), b"IHDR", b"\xff\xc0", b"ustar") if mark in data
    ]
    near = (
        starts[0] + int(draw.integers(0, 24))
        if starts and draw.random() < 0.5
        else int(draw.integers(len(data)))
    )
    value = int(
        draw.choice([0, 1, 2**16 - 1, 2**29 - 1, 2**31 - 1, 2**32 - 1, len(data), int(draw.integers(2**16))])
    )
    kind = str(draw.choice(["<H", ">H", "<I", ">I", "<Q"]))
    field = struct.pack(kind, value & (2 ** (8 * struct.calcsize(kind)) - 1))
    changed[near : near + len(field)] = field
    return bytes(changed[: len(data)])


def _cut_out(data: bytes, draw: np.random.Generator) -> bytes:
    start = int(draw.integers(len(data)))
    return data[:start] + data[start + int(draw.integers(1, 600)) :]


def _insert(data: bytes, piece: bytes, draw: np.random.Generator) -> bytes:
    start = int(draw.integers(len(data)))
    return data[:start] + piece + data[start:]
