"""Requests that are answered, and requests that are refused."""

import asyncio
import base64
import io
import json
import struct

import pytest
from PIL import Image

from facedistill.demo.application import build_application
from facedistill.demo.photograph import MOST_BYTES
from tests.demo.requests import ask, encoded, post
from tests.helpers.photographs import photograph


@pytest.fixture(scope="module")
def app(shown):
    return build_application(shown, 7860)


def test_the_page_says_what_there_is_and_what_is_missing(app, shown):
    status, headers, page = ask(app, "/")
    assert status == 200
    assert "demo-1a2b3c4d" in page.decode()
    assert "No teacher is shown: demo-1a2b3c4d has no config.yaml that names one." in page.decode()
    assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert {path: ask(app, path)[0] for path in ("/page.css", "/page.js", "/result.js")} == dict.fromkeys(
        ("/page.css", "/page.js", "/result.js"), 200
    )
    assert ask(app, "/../../etc/passwd")[0] == 404
    assert [(one["protocol"], one["far"], one["thresholds"]) for one in shown.choices] == [
        ("lfw", 1e-3, {"student": 0.9}), ("lfw", 1e-2, {"student": 0.5}), ("cfp_fp", None, {}),
    ]  # fmt: skip
    assert list(shown.histograms["student"]) == ["lfw", "cfp_fp"]


def test_a_comparison_has_the_score_of_verify(app, shown):
    pictures = photograph(1), photograph(2, 1)
    found = [post(app, "/faces", encoded(picture)) for picture in pictures]
    assert [(status, answer["found"]) for status, answer in found] == [(200, 1), (200, 2)]
    assert found[1][1]["faces"][1]["box"] == pytest.approx([0.5, 0, (448 - 28) / 448, (224 - 28) / 224])
    crops = [answer["faces"][0]["crop"] for _, answer in found]
    status, scores = post(
        app, "/compare", json.dumps({"a": crops[0], "b": crops[1]}).encode(), "application/json"
    )
    assert status == 200
    assert scores == {"student": pytest.approx(shown.networks["student"].verify(*pictures).score, abs=1e-6)}


def test_a_photograph_is_turned_as_its_exif_says_and_loses_it(app):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "written by a camera"
    status, answer = post(app, "/faces", encoded(photograph(2, 1), "JPEG", exif=exif), "image/jpeg")
    assert status == 200
    preview = base64.b64decode(answer["preview"].partition(",")[2])
    assert Image.open(io.BytesIO(preview)).size == (224, 448)
    assert b"camera" not in preview


def webp_of(width: int, height: int) -> bytes:
    """A WebP file that claims a size."""
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "WEBP", lossless=True))
    data[21:25] = struct.pack("<I", width - 1 | height - 1 << 14)
    return bytes(data)


PNG = encoded(photograph(1))


@pytest.mark.parametrize(("body", "kind", "status", "sentence"), [
    (b"", "image/png", 422, "This photograph has zero bytes"),
    (b"PK\x03\x04" + bytes(99), "image/png", 422, "This photograph is no JPEG, PNG, WebP or BMP image"),
    (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image/png", 422, "This photograph is no JPEG"),
    (PNG, "image/svg+xml", 415, "Content-Type 'image/svg+xml' is not taken here"),
    (PNG, "multipart/form-data; boundary=x", 415, "Content-Type 'multipart/form-data' is not taken here"),
    (PNG[:900], "image/png", 422, "This photograph is cut short or damaged"),
    (encoded(Image.new("1", (40_000, 900))), "image/png", 422, "This photograph unpacks to 40000x900 pixels"),
    (webp_of(16_383, 16_383), "image/webp", 422, "This photograph unpacks to 16383x16383 pixels"),
    (encoded(Image.new("RGB", (8, 8)), "GIF"), "image/png", 422, "This photograph is no JPEG"),
    ([bytes(1 << 20)] * 17, "image/png", 413, "More than 16 MiB"),
], ids=["empty", "zip", "svg", "svg type", "multipart", "cut", "pixels", "webp", "gif", "huge"])  # fmt: skip
def test_what_is_no_photograph_is_refused(app, body, kind, status, sentence):
    answer = post(app, "/faces", body, kind)
    assert (answer[0], answer[1]["error"][: len(sentence)]) == (status, sentence)


def test_a_length_is_refused_before_the_body_is_read(app):
    assert post(app, "/faces", b"x", content_length=str(MOST_BYTES + 1))[0] == 413
    assert post(app, "/faces", b"x", content_length="-1")[0] == 413


@pytest.mark.parametrize("body", [b"{}", b"[", b'{"a": 1, "b": 2}', b'{"a": "x", "b": "x"}', b"[" * 100_000])
def test_what_is_no_pair_of_faces_is_refused(app, body):
    status, answer = post(app, "/compare", body, "application/json")
    assert (status, answer["error"]) == (422, "The request is not two aligned faces; load the page again.")


@pytest.mark.parametrize(("headers", "status"), [
    ({"host": "evil.example:7860"}, 403), ({"host": "127.0.0.1"}, 403), ({"host": "localhost:7860"}, 200),
    ({"origin": "https://evil.example"}, 403), ({"origin": "null"}, 403), ({"origin": "http://127.0.0.1:7860"}, 200),
])  # fmt: skip
def test_other_names_and_other_pages_are_refused(app, headers, status):
    assert ask(app, "/faces", PNG, **headers)[0] == status


def test_a_slow_upload_ends(app, monkeypatch):
    monkeypatch.setattr("facedistill.demo.application._MOST_SECONDS", 0.01)

    async def slow():
        await asyncio.sleep(1)

    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/faces", "headers": [(b"host", b"127.0.0.1:7860"), (b"content-type", b"image/png")],
    }  # fmt: skip
    asyncio.run(app(scope, slow, send))
    assert sent[0]["status"] == 408
