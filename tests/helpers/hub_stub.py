"""A hub on this machine: repositories of files in memory, served as the hub's clients ask."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34

Repositories = dict[str, dict[str, bytes]]


class _Handler(BaseHTTPRequestHandler):
    repositories: Repositories
    gated: frozenset[str]
    served: list[str]

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        for repository, files in self.repositories.items():
            if path.startswith(f"api/models/{repository}/revision/"):
                self._answer_json({"id": repository, "sha": COMMIT, "siblings": []})
            elif path.startswith(f"api/models/{repository}/tree/"):
                self._answer_json([_entry(name, data) for name, data in files.items()])
            elif path.startswith(f"{repository}/resolve/"):
                self._answer_file(repository, path.removeprefix(f"{repository}/resolve/{COMMIT}/"))
            else:
                continue
            return
        self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _answer_file(self, repository: str, name: str) -> None:
        if repository in self.gated:
            self._answer(403, b"", {"X-Error-Code": "GatedRepo"})
            return
        data = self.repositories[repository].get(name)
        if data is None:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        if self.command == "GET":
            self.served.append(name)
        self._answer(200, data, {"ETag": f'"{_digest(data)}"', "X-Repo-Commit": COMMIT})

    def _answer_json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


def _digest(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def _entry(name: str, data: bytes) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(data), "oid": _digest(data)}


@contextmanager
def serve(
    repositories: Repositories, *, gated: frozenset[str] = frozenset()
) -> Iterator[tuple[str, list[str]]]:
    """Serve repositories on loopback; gives the address and the names of the files it sent."""
    served: list[str] = []
    members = {"repositories": repositories, "gated": gated, "served": served}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), members))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", served
    finally:
        server.shutdown()
        server.server_close()
