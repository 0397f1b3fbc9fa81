"""Serves the page on 127.0.0.1 until Ctrl-C."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from facedistill.demo.application import build_application
from facedistill.demo.shown import Shown
from facedistill.errors import UserError, reason

PORT = 7860


def listen(port: int | None) -> socket.socket:
    """A socket on 127.0.0.1; None takes port 7860, or a free one if that is taken.

    Raises:
        UserError: If the port is taken, or may not be used.
    """
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind(("127.0.0.1", PORT if port is None else port))
    except OSError as error:
        if port is None:
            opened.bind(("127.0.0.1", 0))
            return opened
        opened.close()
        raise UserError(
            f"--port {port}: cannot be used ({reason(error)}); give another one, or none for a free one"
        ) from error
    return opened


def build_server(shown: Shown, listening: socket.socket) -> uvicorn.Server:
    """The server for a socket of `listen`; it keeps no log of requests."""
    port = listening.getsockname()[1]
    return uvicorn.Server(uvicorn.Config(
        build_application(shown, port), loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None,
        log_level="error", access_log=False, server_header=False, limit_concurrency=64, timeout_keep_alive=10,
        timeout_graceful_shutdown=2, h11_max_incomplete_event_size=16 << 10,
    ))  # fmt: skip


def serve(shown: Shown, listening: socket.socket, ready: Callable[[str], object]) -> None:
    """Serves until the process is interrupted.

    Args:
        shown: See `open_model`.
        listening: See `listen`.
        ready: Called with the page's address before the first request is answered.

    Raises:
        KeyboardInterrupt: At Ctrl-C.
    """
    listening.listen(64)
    ready(f"http://127.0.0.1:{listening.getsockname()[1]}/")
    build_server(shown, listening).run(sockets=[listening])
