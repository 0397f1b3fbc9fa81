"""The page's web application: three addresses, and what each request may contain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from facedistill.demo.local_only import LocalOnly
from facedistill.demo.photograph import MOST_BYTES, MOST_PAIR_BYTES, MOST_PIXELS, faces_in, scores_of
from facedistill.demo.shown import Shown
from facedistill.errors import UserError
from facedistill.reporting.pages import templates

IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp")
_MOST_AT_ONCE = 4
_MOST_SECONDS = 30.0
_REPORT_CSS = Path(__file__).parents[1] / "reporting" / "run" / "templates" / "report.css"


def build_application(shown: Shown, port: int) -> Starlette:
    """The ASGI application for `http://127.0.0.1:<port>/`.

    `GET /` is the page, with `/page.css` and two scripts. `POST /faces` takes the bytes of a photograph, `POST /compare`
    two aligned faces, see `facedistill.demo.photograph`. A request that is refused is answered with `error`, a sentence.
    Photographs are held in memory until they are answered, at most four at once; one at a time is worked on.
    """
    uploads, worker = asyncio.Semaphore(_MOST_AT_ONCE), ThreadPoolExecutor(1, "demo")

    async def answer(
        request: Request, types: tuple[str, ...], most: int, work: Callable[[bytes], Any]
    ) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in types:
            raise HTTPException(415, f"Content-Type {kind[:80]!r} is not taken here; send {', '.join(types)}")
        async with uploads:
            data = await _body(request, most)
            return JSONResponse(await asyncio.get_running_loop().run_in_executor(worker, work, data))

    async def faces(request: Request) -> Response:
        return await answer(request, IMAGE_TYPES, MOST_BYTES, faces_in)

    async def compare(request: Request) -> Response:
        return await answer(
            request, ("application/json",), MOST_PAIR_BYTES, lambda data: scores_of(data, shown.networks)
        )

    return Starlette(
        routes=[
            *(Route(path, _sends(*content)) for path, content in _files(shown).items()),
            Route("/faces", faces, methods=["POST"]),
            Route("/compare", compare, methods=["POST"]),
        ],
        middleware=[Middleware(LocalOnly, port=port)],
        exception_handlers={
            HTTPException: lambda _, error: _refusal(error.status_code, error.detail),
            UserError: lambda _, error: _refusal(422, f"{error}."),
            MemoryError: lambda _, error: _refusal(503, "The computer has no memory left for this."),
            ClientDisconnect: lambda _, error: _refusal(400, "The upload was broken off."),
        },
    )


async def _body(request: Request, most: int) -> bytes:
    """The request's body; refused as soon as it is too large or too slow."""
    too_large = HTTPException(413, f"More than {most / 2**20:g} MiB; give a smaller file")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > most:
        raise too_large
    data = bytearray()
    try:
        async with asyncio.timeout(_MOST_SECONDS):
            async for part in request.stream():
                data += part
                if len(data) > most:
                    raise too_large
    except TimeoutError as error:
        raise HTTPException(408, f"The upload took more than {_MOST_SECONDS:g} seconds") from error
    return bytes(data)


def _refusal(status: int, sentence: str) -> JSONResponse:
    """An answer after which the connection is closed, so that the rest of a refused body is not read."""
    return JSONResponse({"error": sentence}, status, headers={"Connection": "close"})


def _sends(content: bytes, kind: str) -> Callable[[Request], Response]:
    return lambda request: Response(content, media_type=kind)


def _files(shown: Shown) -> Mapping[str, tuple[bytes, str]]:
    folder = Path(__file__).parent / "templates"
    page = templates(__file__).get_template("page.html").render(
        shown=shown,
        types=IMAGE_TYPES,
        data={
            "choices": shown.choices, "histograms": shown.histograms, "types": IMAGE_TYPES, "mostBytes": MOST_BYTES,
        },
        most_mib=MOST_BYTES >> 20,
        most_mpx=MOST_PIXELS // 1_000_000,
    )  # fmt: skip
    scripts = {
        f"/{name}": ((folder / name).read_bytes(), "text/javascript") for name in ("page.js", "result.js")
    }
    return {
        "/": (page.encode(), "text/html"),
        "/page.css": (_REPORT_CSS.read_bytes() + (folder / "page.css").read_bytes(), "text/css"),
        **scripts,
    }
