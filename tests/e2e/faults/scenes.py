"""One application that is well, how it is broken, and what of it is to be seen before and afterwards."""

from __future__ import annotations

import copy
import json
import secrets
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.ports import free_port

IMAGE = "debian:trixie-slim"
PRECIOUS = "what a person would miss"

Services = dict[str, dict[str, Any]]

HEALTH = {
    "test": ["CMD", "test", "-e", "/tmp/well"],
    "interval": "300ms",
    # A check that is late says nothing of the application.
    "timeout": "30s",
    "retries": 2,
    "start_period": "3s",
    "start_interval": "100ms",
}
WELL: Services = {
    "base": {
        "image": IMAGE,
        "init": True,
        "command": ["sh", "-c", "touch /tmp/well /tmp/serves; exec sleep 600"],
        "healthcheck": HEALTH,
        "volumes": ["kept:/kept"],
    },
    "top": {
        "image": IMAGE,
        "init": True,
        "command": ["sh", "-c", "touch /tmp/well; exec sleep 600"],
        "healthcheck": HEALTH,
        "depends_on": {"base": {"condition": "service_healthy"}},
    },
}
_ENVIRONMENT = {
    "stabilisation_seconds": 1,
    "start_timeout_seconds": 40,
    "services": {"base": {"probe": {"kind": "command", "command": ["test", "-e", "/tmp/serves"]}}},
}


def broken(service: str, **changes: object) -> Services:
    """The application that is well with one service changed; a key that becomes None is left out."""
    services = copy.deepcopy(WELL)
    changed = services.get(service, {"image": IMAGE, "init": True}) | changes
    services[service] = {key: value for key, value in changed.items() if value is not None}
    return services


def says(script: str) -> list[str]:
    """A command that runs a line of shell."""
    return ["sh", "-c", script.replace("$", "$$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The state: each container as (id, configuration, image, how it stands), and the networks."""

    containers: dict[str, tuple[str, ...]]
    networks: tuple[str, ...]

    def alike(self) -> dict[str, tuple[str, ...]]:
        """The containers without their ids: made again, but the same."""
        return {name: reported[1:] for name, reported in self.containers.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One environment with a project, a folder and a volume of its own."""

    environments: Path
    name: str
    engine: str = ""
    mark: str = field(default_factory=lambda: secrets.token_hex(4))
    port: int = field(default_factory=free_port)

    @property
    def project(self) -> str:
        return f"roas-fault-{self.mark}"

    @property
    def folder(self) -> Path:
        return self.environments / f"{self.name}.d"

    @property
    def compose_file(self) -> Path:
        return self.folder / "compose.yaml"

    def container(self, service: str) -> str:
        return f"{self.project}-{service}-1"

    def docker(self, *words: str, check: bool = True) -> str:
        """What the docker command prints, talking to this scene's engine."""
        engine = ("--host", self.engine) if self.engine else ()
        done = subprocess.run(["docker", *engine, *words], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0 or not check, f"docker {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()

    def set_up(self) -> None:
        """Make the folder, and a volume that holds something precious."""
        self.folder.mkdir()
        self.docker("volume", "create", self.project)
        self._precious_file().write_text(PRECIOUS)

    def declare(self, services: Mapping[str, Any] | str, /, **fields: object) -> None:
        """Write the Compose file, whole where it is given as text, and the environment."""
        document = {"services": services, "volumes": {"kept": {"external": True, "name": self.project}}}
        self.compose_file.write_text(services if isinstance(services, str) else yaml.safe_dump(document))
        environment: dict[str, Any] = {
            "name": self.name,
            "project": self.project,
            "compose_files": [str(self.compose_file)],
            **({"engine": self.engine} if self.engine else {}),
            **_ENVIRONMENT,
            **fields,
        }
        (self.environments / f"{self.name}.yaml").write_text(yaml.safe_dump(environment))

    def state(self) -> State:
        """The state now."""
        ids = self.docker("ps", "--all", "--quiet", "--no-trunc", *self._mine()).split()
        containers: dict[str, tuple[str, ...]] = {}
        # A container may go between the two questions; the rest is reported all the same.
        for reported in json.loads(self.docker("inspect", *ids, check=False)) if ids else []:
            labels, state = reported["Config"]["Labels"], reported["State"]
            stands = (state.get("Health") or {}).get("Status") or state["Status"]
            containers[labels["com.docker.compose.service"]] = (
                reported["Id"],
                labels["com.docker.compose.config-hash"],
                reported["Image"],
                stands,
            )
        networks = self.docker("network", "ls", "--format", "{{.Name}}", *self._mine()).split()
        return State(containers=containers, networks=tuple(sorted(networks)))

    def precious(self) -> str:
        """What the volume holds now."""
        return self._precious_file().read_text()

    def clean(self) -> None:
        """Remove all that the project has."""
        with suppress(subprocess.TimeoutExpired):
            if ids := self.docker("ps", "--all", "--quiet", *self._mine(), check=False).split():
                self.docker("rm", "--force", "--volumes", *ids, check=False)
            if networks := self.docker("network", "ls", "--quiet", *self._mine(), check=False).split():
                self.docker("network", "rm", *networks, check=False)
            self.docker("volume", "rm", self.project, check=False)

    def _mine(self) -> tuple[str, str]:
        return ("--filter", f"label=com.docker.compose.project={self.project}")

    def _precious_file(self) -> Path:
        return Path(self.docker("volume", "inspect", "--format", "{{.Mountpoint}}", self.project)) / "precious"
