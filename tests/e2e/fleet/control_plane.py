"""A Prefect server at which hosts enrol, asked as its own user."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.server.credentials import server_credentials
from adapters.server.host_keys import HostKeys
from adapters.stores import Stores
from flows.server.embedded import api_server, listening_socket
from models.settings import Settings
from tests.support.certificates import self_signed
from tests.support.ports import free_port
from tests.support.postgresql_server import PostgresqlForTests, postgresql
from tests.support.prefect_server import TIMEOUT_SECONDS, copy_database
from tests.support.tls_front import tls_front


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
        with httpx.Client(auth=(user, password), timeout=300, trust_env=False) as client:
            token = client.get(f"{self.url}/csrf-token", params={"client": "test"}).json()["token"]
            headers = {"Prefect-Csrf-Client": "test", "Prefect-Csrf-Token": token}
            return client.request(method, self.url + path, json=body, headers=headers)

    def deployments(self, pool: str) -> set[str]:
        found = self.ask("POST", "/deployments/filter", {"work_pools": {"name": {"any_": [pool]}}})
        return {one["name"] for one in found.json()}

    def begin(self, deployment: str) -> str:
        # Where the server was busy while the host enrolled, its worker makes up for it.
        made = self._answered("GET", f"/deployments/name/{deployment}")["id"]
        run: str = self._answered("POST", f"/deployments/{made}/create_flow_run", {})["id"]
        return run

    def _answered(self, method: str, path: str, body: Any = None) -> Any:
        """The answer of a server that may be busy (503), or may not know the thing yet."""
        deadline = time.monotonic() + 300
        while not (found := self.ask(method, path, body)).is_success:
            assert time.monotonic() < deadline, f"{path}: {found.status_code} {found.text}"
            time.sleep(0.5)
        return found.json()

    def state(self, run: str) -> str:
        return str(self.ask("GET", f"/flow_runs/{run}").json()["state_type"])


@dataclass(slots=True)
class OwnControlPlane:
    """A Prefect server that hosts enrol at, which can be killed and started again with all that it knew."""

    home: Path
    port: int
    variables: dict[str, str] = field(default_factory=dict)
    """What it is started with besides, such as the address of the stores."""
    _running: ExitStack = field(default_factory=ExitStack)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def plane(self) -> ControlPlane:
        return ControlPlane(f"http://127.0.0.1:{self.port}/api", self.home)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        if not (self.home / "prefect.db").exists():
            copy_database(self.home)
        with pytest.MonkeyPatch.context() as its_own:
            for name, value in self.variables.items():
                its_own.setenv(name, value)
            listening = listening_socket(self.port)
            server = self._running.enter_context(api_server(server_credentials(self.home), listening, with_ui=False))
        self._process = server.process
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, (self.home / "server.log").read_text()[-3000:]
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill it (SIGKILL), where it was started."""
        if self._process is not None:
            self._process.kill()
        self._running.close()

    def _answers(self) -> bool:
        try:
            return self.plane.ask("GET", "/ready").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


@contextmanager
def own_control_plane(home: Path, **variables: str) -> Iterator[OwnControlPlane]:
    """One that runs, and is ended afterwards."""
    made = OwnControlPlane(home, free_port(), variables)
    made.start()
    try:
        yield made
    finally:
        made.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachedControlPlane:
    """A control plane with the stores of its hosts in PostgreSQL, which machines elsewhere reach at an address."""

    plane: ControlPlane
    address: str
    certificate: Path
    database: PostgresqlForTests
    stores_url: str

    @contextmanager
    def stores(self) -> Iterator[Stores]:
        settings = Settings(data_dir=self.plane.home.parent / "reading", stores_url=self.stores_url)
        with Stores.open(settings) as stores:
            yield stores


@contextmanager
def control_plane_at(address: str, folder: Path) -> Iterator[ReachedControlPlane]:
    """One that runs on this machine, with TLS and PostgreSQL at one of its addresses."""
    with postgresql(address) as database, database.database() as url:
        port, certificate = free_port(), self_signed(folder, name=address, also_named=True)
        variables = {
            "ROAS_STORES_URL": url,
            "ROAS_HOSTS_STORES_URL": database.url_elsewhere(url),
            "ROAS_SERVER_HOSTS": f"{address}:{port}",
        }
        with (
            own_control_plane(folder / "plane", **variables) as server,
            tls_front(address, port, server.port, certificate),
        ):
            yield ReachedControlPlane(
                plane=server.plane,
                address=f"https://{address}:{port}",
                certificate=certificate,
                database=database,
                stores_url=url,
            )
