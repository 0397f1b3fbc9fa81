"""A stand-in for the Hugging Face hub: those of its endpoints that an upload calls, on the loopback interface."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_stand_in"


class Hub:
    """What was sent: repositories with their files, and every request."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.repositories: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, bytes] = {}
        self.commits: list[str] = []
        self.fail_uploads = False
        self.url = ""

    def answer(self, method: str, path: str, body: bytes, token: str) -> tuple[int, Any]:
        """Status and JSON of one request."""
        self.requests.append(f"{method} {path}")
        if method == "PUT" and path.startswith("/storage/"):
            if self.fail_uploads:
                return 400, {"error": "no room"}
            self.objects[path.removeprefix("/storage/")] = body
            return 200, {}
        if token != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid user token."}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        parts = path.strip("/").split("/")
        if path.endswith("/preupload/main"):
            return 200, {"files": [self._mode(file) for file in json.loads(body)["files"]]}
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, {
                "transfer": "basic",
                "objects": [self._object(one) for one in json.loads(body)["objects"]],
            }
        if path.endswith("/commit/main"):
            return self._commit("/".join(parts[2:4]), body)
        return 404, {"error": f"no such address {path}"}

    def _create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        if wanted["organization"] == "else":
            return 403, {"error": "You don't have the rights to create a model under this namespace"}
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.repositories:
            return 409, {"error": "You already created this model repo", "url": f"{self.url}/{name}"}
        self.repositories[name] = {"visibility": wanted.get("visibility"), "files": {}}
        return 200, {"url": f"{self.url}/{name}", "name": name}

    @staticmethod
    def _mode(file: dict[str, Any]) -> dict[str, Any]:
        large = file["path"].endswith((".safetensors", ".onnx"))
        return {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}

    def _object(self, one: dict[str, Any]) -> dict[str, Any]:
        actions = {"upload": {"href": f"{self.url}/storage/{one['oid']}"}}
        return {"oid": one["oid"], "size": one["size"], "actions": actions}

    def _commit(self, repo: str, body: bytes) -> tuple[int, Any]:
        files = self.repositories[repo]["files"]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.commits.append(value["summary"])
            elif line["key"] == "file":
                assert value["encoding"] == "base64"
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                content = self.objects[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                files[value["path"]] = content
        return 200, {"commitUrl": f"{self.url}/{repo}/commit/{'0' * 40}", "commitOid": "0" * 40}


@contextmanager
def serve() -> Iterator[Hub]:
    """Runs the stand-in until the block ends."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.split("?")[0]
            status, content = hub.answer(self.command, path, body, self.headers.get("Authorization", ""))
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = _reply  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
