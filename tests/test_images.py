"""Every kind of image file becomes RGB, or one sentence."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from facedistill.data.alignment.photograph import read_photograph
from facedistill.errors import DataError
from facedistill.images import decode_face
from tests.helpers.errors import error_message

RAMP = np.linspace(0, 255, 112).round().astype(np.uint8)
COLOR = np.stack(np.broadcast_arrays(RAMP[:, None], RAMP[None, :], np.uint8(90)), axis=2)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(color_type: int, depth: int, rows: np.ndarray, *, size: tuple[int, int] = (112, 112)) -> bytes:
    """A PNG by its own rules: `rows` (H, bytes per row)."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", *size, depth, color_type, 0, 0, 0)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    )


def message_of(data: bytes, **options: Any) -> str:
    return error_message(DataError, decode_face, data, "train.rec, byte 8", **options)


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True, "exact": True})]
)
def test_lossless_formats_come_back_exactly(kind: str, options: dict[str, Any]) -> None:
    pixels = decode_face(encode(Image.fromarray(COLOR), kind, **options), "x")
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, COLOR)


def test_jpeg_is_rgb_and_not_bgr() -> None:
    for subsampling, progressive in ((0, False), (2, True)):
        data = encode(
            Image.fromarray(COLOR), "JPEG", quality=95, subsampling=subsampling, progressive=progressive
        )
        pixels = decode_face(data, "x")
        assert pixels.shape == (112, 112, 3)
        assert np.abs(pixels.astype(int) - COLOR).max() <= 12
        reference = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))  # libjpeg-turbo once more
        assert np.abs(pixels.astype(int) - reference).max() <= 3


def test_grey_becomes_three_equal_channels() -> None:
    gray = np.ascontiguousarray(COLOR[:, :, 0])
    for data in (encode(Image.fromarray(gray), "PNG"), encode(Image.fromarray(gray), "JPEG", quality=100)):
        pixels = decode_face(data, "x")
        assert np.abs(pixels.astype(int) - gray[:, :, None]).max() <= 2
        assert np.array_equal(pixels[..., 0], pixels[..., 1])


def test_sixteen_bits_lose_their_lower_eight() -> None:
    draw = np.random.default_rng(0)
    gray = draw.integers(0, 65536, (112, 112)).astype(">u2")
    assert np.array_equal(
        decode_face(png(0, 16, gray), "x"), np.repeat((gray >> 8).astype(np.uint8)[..., None], 3, axis=2)
    )
    color = draw.integers(0, 65536, (112, 112, 3)).astype(">u2")
    assert np.array_equal(decode_face(png(2, 16, color.reshape(112, -1)), "x"), (color >> 8).astype(np.uint8))


def test_palette_alpha_and_one_bit() -> None:
    palette = Image.fromarray(COLOR).quantize(200)
    assert np.array_equal(decode_face(encode(palette, "PNG"), "x"), np.asarray(palette.convert("RGB")))
    assert np.array_equal(
        decode_face(encode(palette, "PNG", transparency=bytes(range(200))), "x"),
        np.asarray(palette.convert("RGB")),
    )
    alpha = np.dstack([COLOR, RAMP[:, None].repeat(112, axis=1)])
    assert np.array_equal(decode_face(encode(Image.fromarray(alpha), "PNG"), "x"), COLOR)
    bits = COLOR[..., 0] > 99
    assert np.array_equal(
        decode_face(encode(Image.fromarray(bits), "PNG"), "x"), np.where(bits, 255, 0)[..., None].repeat(3, 2)
    )


def test_cmyk_jpeg() -> None:
    cmyk = Image.fromarray(COLOR).convert("CMYK")
    pixels = decode_face(encode(cmyk, "JPEG", quality=98), "x")
    assert np.abs(pixels.astype(int) - COLOR).max() <= 12


def test_empty_garbage_and_cut_files() -> None:
    jpeg = encode(Image.fromarray(COLOR), "JPEG", quality=95)
    assert message_of(b"") == "train.rec, byte 8 has zero bytes; replace or remove it"
    for garbage in (b"\0" * 500, b"GIF89a" + b"x" * 99, b"<html>", b"\x89PNG\r\n\x1a\n"):
        assert (
            message_of(garbage)
            == "train.rec, byte 8 is no JPEG, PNG, WebP or BMP image; replace or remove it"
        )
    assert (
        message_of(jpeg[:-300])
        == "train.rec, byte 8 is cut short or damaged (Premature end of JPEG file); replace or remove it"
    )
    whole = {
        kind: encode(Image.fromarray(COLOR), kind, **options)
        for kind, options in {"PNG": {}, "BMP": {}, "WEBP": {"lossless": True}, "JPEG": {}}.items()
    }
    whole["CMYK"] = encode(Image.fromarray(COLOR).convert("CMYK"), "JPEG")
    for data in whole.values():
        for length in (3, 20, 60, len(data) // 2, len(data) - 40):
            assert message_of(data[:length]).endswith("; replace or remove it")


def test_bombs_are_refused_before_they_unpack(tmp_path: Path) -> None:
    bomb = png(0, 8, np.zeros((1, 10), dtype=np.uint8), size=(60000, 60000))
    expected = "train.rec, byte 8 unpacks to {0}x{0} pixels, more than 100 million; replace or remove it"
    for options in ({}, {"size_px": None}):
        assert message_of(bomb, **options) in (
            expected.format(60000),
            "train.rec, byte 8 unpacks to more than 100 million pixels; replace or remove it",
        )
    jpeg = bytearray(encode(Image.fromarray(COLOR), "JPEG"))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = struct.pack(">HH", 60000, 60000)
    assert message_of(bytes(jpeg), size_px=None) == expected.format(60000)
    for lossless, place, size in ((True, 21, 16382 | 16382 << 14), (False, 26, 16383 | 16383 << 16)):
        webp = bytearray(encode(Image.fromarray(COLOR), "WEBP", lossless=lossless))
        webp[place : place + 4] = struct.pack("<I", size)
        with mock.patch("PIL.Image.open", side_effect=AssertionError):  # it would allocate 2 GB
            assert message_of(bytes(webp), size_px=None) == expected.format(16383)
            (tmp_path / "bomb.webp").write_bytes(webp)
            assert read_photograph(tmp_path / "bomb.webp") == "too many pixels"


def test_another_size_names_the_fix() -> None:
    for wide, high in ((96, 112), (112, 96), (224, 224)):
        for data in (
            simplejpeg.encode_jpeg(np.zeros((high, wide, 3), np.uint8)),
            encode(Image.new("RGB", (wide, high)), "PNG"),
        ):
            assert message_of(data) == (
                f"train.rec, byte 8 is {wide}x{high} pixels, and faces are 112x112; run `facedistill data align` on "
                "the photographs, or on the whole set after `facedistill data convert` to a folder"
            )
            assert decode_face(data, "x", size_px=None).shape == (high, wide, 3)
