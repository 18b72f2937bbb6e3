"""A Prefect server at which hosts enrol, asked as its own user."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from adapters.server.credentials import server_credentials
from adapters.server.host_keys import HostKeys


@dataclass(frozen=True)
class ControlPlane:
    url: str
    home: Path

    @property
    def address(self) -> str:
        return self.url.removesuffix("/api")

    @property
    def keys(self) -> HostKeys:
        return HostKeys(self.home)

    def invite(self, name: str) -> str:
        return self.keys.invite(name, datetime.now(UTC), timedelta(hours=1)).token

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Ask as the control plane's own user."""
        user, _, password = server_credentials(self.home).auth_string.partition(":")
        with httpx.Client(auth=(user, password), timeout=30, trust_env=False) as client:
            token = client.get(f"{self.url}/csrf-token", params={"client": "test"}).json()["token"]
            headers = {"Prefect-Csrf-Client": "test", "Prefect-Csrf-Token": token}
            return client.request(method, self.url + path, json=body, headers=headers)

    def deployments(self, pool: str) -> set[str]:
        found = self.ask("POST", "/deployments/filter", {"work_pools": {"name": {"any_": [pool]}}})
        return {one["name"] for one in found.json()}

    def begin(self, deployment: str) -> str:
        # Where the server was busy while the host enrolled, its worker makes up for it.
        deadline = time.monotonic() + 60
        while (found := self.ask("GET", f"/deployments/name/{deployment}")).status_code == httpx.codes.NOT_FOUND:
            assert time.monotonic() < deadline, f"{deployment} is not there"
            time.sleep(0.5)
        made = found.json()["id"]
        run: str = self.ask("POST", f"/deployments/{made}/create_flow_run", {}).json()["id"]
        return run

    def state(self, run: str) -> str:
        return str(self.ask("GET", f"/flow_runs/{run}").json()["state_type"])
