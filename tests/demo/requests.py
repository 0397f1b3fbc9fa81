"""Requests to the application in this process."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Sequence
from typing import Any

from PIL import Image
from starlette.types import ASGIApp, Message

HOST = {"host": "127.0.0.1:7860"}


def ask(
    app: ASGIApp,
    path: str,
    body: bytes | Sequence[bytes] | None = None,
    kind: str = "image/png",
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer; a POST if there is a body, in parts if it is a sequence."""
    parts = [body] if isinstance(body, bytes) else list(body or [b""])
    given = (
        HOST
        | ({} if body is None else {"content-type": kind})
        | {k.replace("_", "-"): v for k, v in headers.items()}
    )
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages[-1]["more_body"] = False
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET" if body is None else "POST", "path": path, "raw_path": path.encode(),
        "query_string": b"", "headers": [(key.encode(), value.encode()) for key, value in given.items()],
        "scheme": "http", "server": ("127.0.0.1", 7860), "client": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    answer = {key.decode().lower(): value.decode() for key, value in sent[0]["headers"]}
    return sent[0]["status"], answer, b"".join(message.get("body", b"") for message in sent[1:])


def post(
    app: ASGIApp, path: str, body: bytes | Sequence[bytes], kind: str = "image/png", **headers: str
) -> Any:
    """Status and JSON of the answer to a POST."""
    status, _, answer = ask(app, path, body, kind, **headers)
    return status, json.loads(answer)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """The file of an image."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()
