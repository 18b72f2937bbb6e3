"""The production control plane of a checkout of its own, set up for a fleet as the documentation says."""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import psycopg

from tests.integration.docs.documents import ROOT, tracked_files
from tests.support.ports import free_port

# Other tests may run beside these.
WITHIN_SECONDS = 300
_PORTS = ("UI", "METRICS", "CACHE", "PROMETHEUS", "WORKER", "TLS", "STORES")
_IMAGES = {
    "ops": ("server", "services", "deploy", "socket-proxy", "supervisor", "worker", "exporter"),
    "postgres": ("postgres", "stores"),
    "caddy": ("caddy",),
    "alertmanager": ("alertmanager",),
}
"""What the Compose file builds, and the services of each image."""


@dataclass(frozen=True)
class ComposedPlane:
    """A checkout, and what its docker-compose.yml runs under a project name of its own."""

    checkout: Path
    project: str
    ports: dict[str, int]

    @property
    def variables(self) -> dict[str, str]:
        return os.environ | {"PWD": str(self.checkout)}

    @property
    def address(self) -> str:
        """Where hosts enrol."""
        return f"https://localhost:{self.ports['TLS']}"

    def write(self) -> None:
        """Copy the files of this checkout, and say in `.env` what is the plane's own."""
        for file in tracked_files():
            (self.checkout / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, self.checkout / file)
        shutil.copytree(ROOT / ".secrets", self.checkout / ".secrets")
        # Others use the images of the usual names.
        named = {name: {"image": tag} for tag, names in self._tags().items() for name in names}
        (self.checkout / "images.json").write_text(json.dumps({"services": named}))
        lines = {
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_FILE": "docker-compose.yml:images.json",
            "COMPOSE_PROFILES": "tls,fleet",
            "ROAS_TLS_NAME": "localhost",
            "ROAS_UI_URL": self.address,
            "ROAS_HOSTS_STORES_URL": f"postgresql://localhost:{self.ports['STORES']}/roas?sslmode=require",
            **{f"ROAS_{name}_PORT": port for name, port in self.ports.items()},
        }
        (self.checkout / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))

    def make_prod(self) -> None:
        """Run `make prod` without its preparations: what it installs is there."""
        command = ["make", "--old-file=images", "prod"]
        made = subprocess.run(command, cwd=self.checkout, env=self.variables, capture_output=True, text=True)
        assert made.returncode == 0, made.stdout + made.stderr + self.compose("logs", "--tail", "20").stdout

    def compose(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["docker", "compose", *arguments]
        return subprocess.run(command, cwd=self.checkout, env=self.variables, capture_output=True, text=True)

    def remove(self) -> None:
        """Remove containers, volumes, networks and its images."""
        done = self.compose("down", "--volumes", "--timeout", "5")
        subprocess.run(["docker", "image", "rm", *self._tags()], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr

    def _tags(self) -> dict[str, tuple[str, ...]]:
        return {f"roas/{image}:{self.project}": names for image, names in _IMAGES.items()}

    def secret(self, name: str) -> str:
        return (self.checkout / ".secrets" / name).read_text()

    def state(self, name: str) -> dict[str, Any]:
        """State of a container, as the engine has it."""
        command = ["docker", "inspect", "--format", "{{json .State}}", f"{self.project}-{name}"]
        state: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return state

    def await_state(self, name: str, reached: Callable[[dict[str, Any]], bool]) -> None:
        """Wait for a container's state. The engine's events of the past are few, and others fill them."""
        deadline = time.monotonic() + WITHIN_SECONDS
        while not reached(state := self.state(name)):
            assert time.monotonic() < deadline, (name, state)
            time.sleep(0.2)

    def run(self, deployment: str) -> subprocess.CompletedProcess[str]:
        return self.compose(
            *("exec", "-T", "worker", "with-secrets", "prefect", "deployment", "run", deployment, "--watch")
        )

    def get(self, port: str, path: str) -> str:
        return httpx.get(f"http://127.0.0.1:{self.ports[port]}{path}", timeout=10).raise_for_status().text

    def ask_server(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask the API, logged in."""
        user, _, password = self.secret("prefect_auth").partition(":")
        api = f"http://127.0.0.1:{self.ports['UI']}/api"
        with httpx.Client(base_url=api, auth=(user, password), timeout=300) as client:
            token = client.get("/csrf-token", params={"client": "test"}).raise_for_status().json()["token"]
            headers = {"Prefect-Csrf-Client": "test", "Prefect-Csrf-Token": token}
            given = (body or {}) if method == "POST" else None
            return client.request(method, path, json=given, headers=headers).raise_for_status().json()

    def deployments(self) -> list[dict[str, Any]]:
        """The deployments of the control plane's own environments; hosts that were enrolled have hundreds."""
        own = {"work_pools": {"name": {"any_": ["roas"]}}}
        return list(self.ask_server("POST", "/deployments/filter", own))

    def scheduled(self) -> set[str]:
        """Those of them that have a schedule."""
        return {
            f"{deployment['entrypoint'].rsplit('.', 1)[1]}/{deployment['name']}"
            for deployment in self.deployments()
            if deployment["schedules"]
        }

    def authority(self) -> Path:
        """The root certificate, as hosts are given it."""
        file = self.checkout / "root.crt"
        copied = self.compose("cp", "caddy:/data/caddy/pki/authorities/local/root.crt", str(file))
        assert copied.returncode == 0, copied.stderr
        return file

    def invite(self, name: str) -> str:
        """The token of a new host."""
        invited = self.compose("exec", "-T", "server", "with-secrets", "roas", "fleet", "invite", name)
        found = re.search(rf"roas join {self.address} (\S+)", invited.stdout)
        assert found, invited.stdout + invited.stderr
        return found[1]

    def install(self, folder: Path) -> None:
        """Unpack the program that it hands out to hosts."""
        trusted = ssl.create_default_context(cafile=self.authority())
        with httpx.Client(base_url=f"{self.address}/roas/install/", verify=trusted, timeout=300) as client:
            name = client.get("wheel").raise_for_status().text.strip()
            wheel = client.get(name).raise_for_status().content
        zipfile.ZipFile(BytesIO(wheel)).extractall(folder)

    def recorded(self, question: str) -> list[tuple[Any, ...]]:
        """Ask the stores, whatever version made them."""
        url = f"postgresql://roas@localhost:{self.ports['STORES']}/roas?sslmode=require"
        with psycopg.connect(url, password=self.secret("stores_password")) as connection:
            return connection.execute(question.encode()).fetchall()


def is_healthy(state: dict[str, Any]) -> bool:
    return bool(state["Running"] and state["Health"]["Status"] == "healthy")


@contextmanager
def composed_plane(folder: Path) -> Iterator[ComposedPlane]:
    """One that runs, built from a checkout in this folder, and is removed afterwards."""
    plane = ComposedPlane(folder, f"roas-test-{uuid.uuid4().hex[:8]}", {name: free_port() for name in _PORTS})
    plane.write()
    try:
        plane.make_prod()
        yield plane
    finally:
        plane.remove()
