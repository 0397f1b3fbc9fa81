"""Keeps other websites away from a server on this computer, and the page from everything outside."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class LocalOnly:
    """ASGI middleware for a server on 127.0.0.1.

    A request must name this host, so that a website cannot reach the server under a name that it resolves to 127.0.0.1
    (DNS rebinding). A request of another website's page is refused; browsers send `Origin` with every POST.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = (f"127.0.0.1:{port}", f"localhost:{port}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or refuses with 403."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        app = self._app
        if headers.get("host") not in self._hosts:
            app = _refusal(f"This page is only at http://{self._hosts[0]}/")
        elif origin is not None and origin not in [f"http://{host}" for host in self._hosts]:
            app = _refusal("Requests of other pages are refused")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await app(scope, receive, send_with_headers)


def _refusal(sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, 403, headers={"Connection": "close"})
