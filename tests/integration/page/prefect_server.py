"""Prefect's API as it answers about deployments and runs; what it made is in a file, as it is in Prefect's database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

RUN = "73fac6ad-b8f1-4e96-a7fd-dae0decd1c71"
MESSAGE = '"><script>alert(1)</script>\u202e\x1b]0;title\x07'


class PrefectServer:
    """A server with the deployments of an environment. As Prefect's it makes one run of an idempotency key."""

    def __init__(self, file: Path) -> None:
        self.deployments = {"stop/shop": "d-stop", "snapshot/shop": "d-snapshot", "rollback/shop": "d-rollback"}
        self._file = file

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The bodies with which runs were made."""
        return [json.loads(line) for line in self._file.read_text().splitlines()] if self._file.exists() else []

    async def reach(self, point: str) -> int:
        """A point of a request: "find run", "find deployment", "make run", "made run"; the status if it fails there."""
        return 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"].removeprefix("/api")
        body = json.loads((await receive())["body"] or "{}") if scope["method"] == "POST" else {}
        answer, status = await self._answer(path, body)
        await JSONResponse(answer, status)(scope, receive, send)

    async def _answer(self, path: str, body: dict[str, Any]) -> tuple[Any, int]:
        if path.startswith("/deployments/name/"):
            failure = await self.reach("find deployment")
            found = self.deployments.get(path.removeprefix("/deployments/name/"))
            return ({"id": found}, failure or 200) if found else ({"detail": "Deployment not found"}, 404)
        if path == "/flow_runs/filter":
            failure = await self.reach("find run")
            keys = body["flow_runs"]["idempotency_key"]["any_"]
            return [{"id": RUN} for run in self.runs if run["idempotency_key"] in keys], failure or 200
        if path.endswith("/create_flow_run"):
            failure = await self.reach("make run")
            if body["idempotency_key"] not in {run["idempotency_key"] for run in self.runs}:
                with self._file.open("a") as file:
                    file.write(json.dumps(body | {"deployment": path.split("/")[2]}) + "\n")
            return {"id": RUN}, await self.reach("made run") or failure or 201
        if path == f"/flow_runs/{RUN}":
            state = {"type": "SCHEDULED", "name": "Late", "message": MESSAGE}
            return {"id": RUN, "name": "stop shop", "parameters": {"environment": "shop"}, "state": state}, 200
        return {"token": "token"}, 200
