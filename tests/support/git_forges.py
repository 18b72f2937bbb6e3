"""Stand-ins for the APIs of GitHub, GitLab and Gitea that take a commit status only as these servers do."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "st4tus-token-of-the-server"

_PATHS = {
    # https://docs.github.com/en/rest/commits/statuses#create-a-commit-status
    "github": re.compile(r"/repos/ann/shop/statuses/[0-9a-f]{40}"),
    # https://docs.gitlab.com/api/commits/#set-commit-pipeline-status
    "gitlab": re.compile(r"/api/v4/projects/ann%2Fshop/statuses/[0-9a-f]{40}"),
    # https://docs.gitea.com/api/: repoCreateStatus
    "gitea": re.compile(r"/api/v1/repos/ann/shop/statuses/[0-9a-f]{40}"),
}
_STATES = {
    "github": {"error", "failure", "pending", "success"},
    "gitlab": {"pending", "running", "success", "failed", "canceled", "skipped"},
    "gitea": {"pending", "success", "error", "failure", "warning"},
}
_FIELDS = {
    "github": {"state", "target_url", "description", "context"},
    "gitlab": {"state", "name", "context", "target_url", "description", "ref", "coverage", "pipeline_id"},
    "gitea": {"state", "target_url", "description", "context"},
}


@dataclass(slots=True, kw_only=True)
class Forge:
    """One server. `taken` are the statuses that it took, oldest first; `fails` is how often it answers 502 first."""

    kind: str
    url: str = ""
    taken: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0
    fails: int = 0

    def judge(self, path: str, headers: Any, body: bytes) -> int:
        """The status code with which such a server answers."""
        self.asked += 1
        if self.fails:
            self.fails -= 1
            return 502
        given = {
            "github": headers.get("Authorization") == f"Bearer {TOKEN}"
            and headers.get("Accept") == "application/vnd.github+json",
            "gitlab": headers.get("PRIVATE-TOKEN") == TOKEN,
            "gitea": headers.get("Authorization") == f"token {TOKEN}",
        }
        if not given[self.kind]:
            return 401
        if not _PATHS[self.kind].fullmatch(path):
            return 404
        content = json.loads(body)
        if content["state"] not in _STATES[self.kind] or not content.keys() <= _FIELDS[self.kind]:
            return 422
        if len(content.get("description", "")) > 140:
            return 422
        self.taken.append(content | {"revision": path.rpartition("/")[2]})
        return 201


@contextmanager
def forge(kind: str) -> Iterator[Forge]:
    """A server of that kind on loopback meanwhile."""
    state = Forge(kind=kind)

    class ForgeHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(state.judge(self.path, self.headers, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it is called by
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), ForgeHandler)
    base = {"github": "", "gitlab": "/api/v4", "gitea": "/api/v1"}[kind]
    state.url = f"http://127.0.0.1:{server.server_port}{base}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
