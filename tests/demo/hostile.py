"""A thousand uploads for a running page, most of them hostile: `attack`."""

from __future__ import annotations

import base64
import gzip
import io
import json
import random
import socket
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
from PIL import Image, PngImagePlugin

from tests.demo.requests import encoded

Sent = tuple[bytes, set[int]]
"""A raw request, and the statuses that may answer it; 0: the connection is closed without an answer."""
READ, REFUSED = {200, 422}, {422}


def attack(port: int, picture: Image.Image, count: int = 1000, threads: int = 8) -> Counter[tuple[str, int]]:
    """Sends `count` requests of all kinds and counts kind and status; an unexpected status is an error."""
    requests = list(_requests(port, picture, count))
    random.Random(0).shuffle(requests)

    wrong: list[str] = []

    def send(request: tuple[str, Sent]) -> tuple[str, int]:
        name, (raw, expected) = request
        status = _status(port, raw)
        if status not in expected:
            wrong.append(f"{name}: {status}, expected {expected}")
        return name, status

    with ThreadPoolExecutor(threads) as pool:
        answers = Counter(pool.map(send, requests))
    assert not wrong, wrong
    return answers


def _requests(port: int, picture: Image.Image, count: int) -> Iterator[tuple[str, Sent]]:
    kinds = list((_bodies(port, picture) | _odd_requests(port, picture)).items())
    for number in range(count):
        name, make = kinds[number % len(kinds)]
        yield name, make(random.Random(number))


def post(
    port: int,
    body: bytes,
    kind: str = "image/png",
    path: str = "/faces",
    extra: str = "",
    length: int | None = None,
) -> bytes:
    """A POST as bytes."""
    size = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Type: {kind}\r\n{extra}"
    return f"{head}Content-Length: {size}\r\n\r\n".encode() + body


def _status(port: int, raw: bytes) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=300) as connection:
        with suppress(OSError):  # refused before all was sent
            connection.sendall(raw)
        try:
            answer = connection.recv(64)
            while connection.recv(1 << 16):
                pass
        except ConnectionError:
            answer = b""
    return int(answer.split()[1]) if answer else 0


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, *chunks: bytes) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = _chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + rows + _chunk(b"IEND", b"")


def _webp(width: int, height: int) -> bytes:
    """An extended WebP whose canvas claims a size."""
    still = encoded(Image.new("RGB", (64, 64), "red"), "WEBP", lossless=True)[12:]
    canvas = bytes([2, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    frame = bytes(6) + (63).to_bytes(3, "little") * 2 + bytes([10, 0, 0, 0]) + still
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body += b"ANMF" + struct.pack("<I", len(frame)) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../etc/passwd", bytes(64 << 20))
    return file.getvalue()


def _bodies(port: int, picture: Image.Image) -> dict[str, Callable[[random.Random], Sent]]:
    """Photographs and what claims to be one."""
    jpeg = encoded(picture, "JPEG")
    files = {form: encoded(picture, form) for form in ("PNG", "WEBP", "BMP")}
    at = jpeg.index(b"\xff\xc0") + 5
    tall = jpeg[:at] + struct.pack(">HH", 65_500, 65_500) + jpeg[at + 4 :]
    text = PngImagePlugin.PngInfo()
    text.add_text("bomb", "a" * (8 << 20), zip=True)
    profile = _chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(256 << 20)))
    strip = encoded(Image.fromarray(np.zeros((1000, 32_000), np.uint8)))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (500, 640, 3), np.uint8)).resize(
        (6400, 5000)
    )
    large = encoded(noise, "JPEG", quality=60, progressive=True)
    sixteen = encoded(Image.fromarray(np.zeros((5600, 5600), np.uint16)))
    laughs = (
        b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "ha">'
        + b"".join(b'<!ENTITY %c "%s">' % (98 + k, b"&%c;" % (97 + k) * 10) for k in range(10))
        + b"]><svg>&k;</svg>"
    )
    refused = {
        "zip bomb": _zip(), "gzip": gzip.compress(bytes(64 << 20)), "svg": laughs, "script": b"<script>alert(1)</script>",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run", "gif": encoded(picture, "GIF"), "tiff": encoded(picture, "TIFF"),
        "pixel bomb": _png(60_000, 60_000), "webp bomb": _webp(16_383, 16_383), "webp bomb at our limit": _webp(5_657, 5_657),
        "jpeg bomb": tall, "sides": _png(2_000_000_000, 2), "no pixels": _png(0, 0), "empty": b"",
    }  # fmt: skip

    def turned(numbers: random.Random) -> Sent:
        exif = Image.Exif()
        exif[0x0112] = numbers.choice([0, 3, 6, 8, 9, 65_535])
        exif[0x010E] = "../../etc/passwd" * 1000
        raw = bytearray(exif.tobytes())
        for _ in range(numbers.randrange(20)):
            raw[numbers.randrange(6, len(raw))] = numbers.randrange(256)
        return post(port, encoded(picture, "JPEG", exif=bytes(raw)), "image/jpeg"), READ

    def damaged(numbers: random.Random) -> Sent:
        raw = bytearray(numbers.choice([jpeg, *files.values()]))
        for _ in range(numbers.randrange(1, 40)):
            raw[numbers.randrange(len(raw))] = numbers.randrange(256)
        return post(port, bytes(raw)), READ

    def cut(numbers: random.Random) -> Sent:
        raw = numbers.choice([jpeg, files["PNG"]])
        return post(port, raw[: numbers.randrange(1, len(raw) - 200)]), READ

    found: dict[str, Callable[[random.Random], Sent]] = {
        "jpeg": lambda _: (post(port, jpeg, "image/jpeg"), {200}),
        **{
            form: lambda _, form=form: (post(port, files[form], f"image/{form.lower()}"), {200})
            for form in files
        },
        "another type than named": lambda _: (post(port, jpeg, "image/png"), {200}),
        **{name: lambda _, body=body: (post(port, body), REFUSED) for name, body in refused.items()},
        "text bomb": lambda _: (post(port, encoded(picture, "PNG", pnginfo=text)), READ),
        "profile bomb": lambda _: (post(port, _png(64, 64, profile)), READ),
        "exif": turned,
        "damaged": damaged,
        "cut": cut,
    }
    heavy = {"strip": strip, "32 million pixels": large, "16 bits": sixteen}
    for name, body in heavy.items():  # slow: one in five
        found[name] = lambda numbers, body=body: (
            (post(port, body), {200}) if numbers.randrange(5) == 0 else (post(port, jpeg), {200})
        )
    return found


def _odd_requests(port: int, picture: Image.Image) -> dict[str, Callable[[random.Random], Sent]]:
    """Requests that no page sends."""
    good = encoded(picture)
    part = b'--x\r\nContent-Disposition: form-data; name="a"; filename="../../../etc/passwd"\r\n\r\n1\r\n'
    bomb = "data:image/png;base64," + base64.b64encode(_png(60_000, 60_000)).decode()
    pair = json.dumps({"a": bomb, "b": bomb}).encode()
    chunked = f"POST /faces HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    endless = chunked + (b"100000\r\n" + bytes(1 << 20) + b"\r\n") * 40
    raw: dict[str, Sent] = {
        "multipart": (post(port, part + b"--x--\r\n", "multipart/form-data; boundary=x"), {415}),
        "many parts": (post(port, part * 20_000, "multipart/form-data; boundary=x"), {415, 0}),
        "html": (post(port, good, "text/html"), {415}),
        "form": (post(port, good, "application/x-www-form-urlencoded"), {415}),
        "svg type": (post(port, b"<svg/>", "image/svg+xml"), {415}),
        "huge length": (post(port, good, length=10**10), {413}),
        "no number": (post(port, good, extra="Content-Length: 5\r\n"), {400}),
        "endless": (endless, {413, 0}),
        "17 MiB": (post(port, bytes(17 << 20)), {413, 0}),
        "traversal": (post(port, good, path="/../../etc/passwd"), {404}),
        "traversal in the name": (post(port, good, path="/faces/..%2f..%2fetc%2fpasswd", extra='Content-Disposition: attachment; filename="../../x"\r\n'), {404}),
        "another host": (post(port, good).replace(b"Host: 127.0.0.1", b"Host: evil.example"), {403}),
        "another page": (post(port, good, extra="Origin: https://evil.example\r\n"), {403}),
        "method": (post(port, good).replace(b"POST", b"PUT", 1), {405}),
        "pair of bombs": (post(port, pair, "application/json", "/compare"), REFUSED),
        "deep": (post(port, b"[" * 200_000, "application/json", "/compare"), REFUSED),
        "long pair": (post(port, b" " * (300 << 10), "application/json", "/compare"), {413, 0}),
        "long header": (post(port, good, extra=f"X: {'a' * 100_000}\r\n"), {200, 400, 0}),
        "no http": (random.Random(0).randbytes(5000) + b"\r\n\r\n", {400, 0}),
        "encoding": (post(port, gzip.compress(good), extra="Content-Encoding: gzip\r\n"), REFUSED),
    }  # fmt: skip
    return {name: lambda _, sent=sent: sent for name, sent in raw.items()}
