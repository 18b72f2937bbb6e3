"""The sample application under a project of its own, how it is hurt, and what of it is to be seen afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.faults.scenes import IMAGE, Scene, Services
from tests.support.engines import OwnEngine
from tests.support.ports import free_port

SAMPLE = Path(__file__).parents[3] / "deployments" / "sample" / "compose.yaml"
PASSWORD = "for-the-campaign"
# A machine that is busy with several samples must not look ill.
_CHECK = {"interval": "2s", "timeout": "60s", "retries": 2, "start_period": "60s"}
_ANSWERS_WITHIN_SECONDS = 60
IMAGES = tuple(f"roas/{name}:local" for name in ("redis", "sample-bot", "prometheus"))
SERVICES = ("redis", "bot", "prometheus")


@dataclass(frozen=True, kw_only=True)
class Sample(Scene):
    """The sample with all its services, their probes and a volume that holds something precious."""

    prometheus_port: int = field(default_factory=free_port)
    known_engine: OwnEngine | None = None

    @property
    def own_engine(self) -> OwnEngine:
        """The engine that is this sample's alone."""
        assert self.known_engine is not None
        return self.known_engine

    @cached_property
    def images(self) -> dict[str, str]:
        """Names of this scene alone for the images, so that one can be taken away."""
        return {name: f"roas-heal/{name}:{self.mark}" for name in ("redis", "sample-bot", "prometheus")}

    def set_up(self) -> None:
        """Name the images, and write what does not change."""
        self.folder.mkdir()
        for name, own in self.images.items():
            self.docker("tag", f"roas/{name}:local", own)
        (self.folder / "ports.env").write_text(
            f"SAMPLE_BOT_PORT={self.port}\nSAMPLE_PROMETHEUS_PORT={self.prometheus_port}\n"
        )
        (self.folder / "password").write_text(PASSWORD)

    def declare(self, services: Mapping[str, Any] | str = "", /, **fields: object) -> None:
        """Write what differs from the sample's own Compose file, and the environment."""
        own: Services = {
            "redis": {"image": self.images["redis"], "healthcheck": _CHECK},
            "migrate": {"image": self.images["sample-bot"]},
            "bot": {"image": self.images["sample-bot"], "healthcheck": _CHECK},
            "prometheus": {"image": self.images["prometheus"], "healthcheck": _CHECK},
        }
        document: dict[str, Any] = {"services": own}
        for name, changes in (services if isinstance(services, Mapping) else {}).items():
            if name == "volumes":
                document["volumes"] = changes
            else:
                own[name] = own.get(name, {}) | changes
        self.compose_file.write_text(yaml.safe_dump(document))
        http = {
            "kind": "http",
            "port": 8080,
            "path": "/healthz",
            "contains": '"ok"',
            "timeout_seconds": _ANSWERS_WITHIN_SECONDS,
        }
        redis = {
            "kind": "redis",
            "port": 6379,
            "password_secret": "SAMPLE_REDIS_PASSWORD",
            "timeout_seconds": _ANSWERS_WITHIN_SECONDS,
        }
        environment: dict[str, Any] = {
            "name": self.name,
            "project": self.project,
            "compose_files": [str(SAMPLE), str(self.compose_file)],
            "env_files": [str(self.folder / "ports.env")],
            "secrets": [{"name": "SAMPLE_REDIS_PASSWORD", "file": str(self.folder / "password")}],
            **({"engine": self.engine} if self.engine else {}),
            "services": {
                "redis": {"probe": redis},
                "migrate": {"stabilisation_seconds": 0},
                "bot": {"probe": http, "dependencies": [{"service": "redis"}]},
                "prometheus": {
                    "probe": {"kind": "prometheus", "port": 9090, "timeout_seconds": _ANSWERS_WITHIN_SECONDS},
                    "required": False,
                },
            },
            "stabilisation_seconds": 1,
            "start_timeout_seconds": 300,
            # Several scenes live side by side on one engine, and each is to be judged for itself.
            "recovery": {"points_per_host_15min": 500, "points_per_host_day": 5000, "verify_timeout_seconds": 60},
            **fields,
        }
        (self.environments / f"{self.name}.yaml").write_text(yaml.safe_dump(environment))

    def inside(self, service: str, *command: str, user: str = "") -> str:
        """Run a command in a service's container, and give what it printed."""
        return self.docker("exec", *(("--user", user) if user else ()), self.container(service), *command, check=False)

    def redis(self, *command: str) -> str:
        """Say something to Redis as its own clients would."""
        name = self.container("redis")
        return self.docker("exec", "-e", f"REDISCLI_AUTH={PASSWORD}", name, "redis-cli", *command, check=False)

    def pid(self, service: str) -> int:
        """The first process of a service, as the host numbers it."""
        return int(self.docker("inspect", "--format", "{{.State.Pid}}", self.container(service)))

    def within(self, service: str, *command: str, namespaces: str = "-n") -> None:
        """Run a command of the host within the network (`-n`) or the mounts (`-m`) of a service."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid(service)), namespaces, *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"

    def set_down(self, what: str) -> None:
        """Write something that only a touched volume would lose."""
        assert self.redis("set", "precious", what) == "OK"
        self.redis("bgrewriteaof")

    def precious(self) -> str:
        """What the volume holds now."""
        return self.redis("get", "precious")

    def lives(self) -> dict[str, tuple[str, str]]:
        """Container and moment of its last start, by service."""
        ids = self.docker("ps", "--all", "--quiet", "--no-trunc", *self._mine()).split()
        reported = json.loads(self.docker("inspect", *ids, check=False)) if ids else []
        return {
            one["Config"]["Labels"]["com.docker.compose.service"]: (one["Id"], one["State"]["StartedAt"])
            for one in reported
        }

    @contextmanager
    def starts(self, service: str) -> Iterator[list[str]]:
        """What the engine tells of each start of a service's containers while the body runs.

        It keeps its last few hundred events only, and every health check makes three of them.
        """
        engine = ("--host", self.engine) if self.engine else ()
        mine = ("--filter", f"label=com.docker.compose.service={service}", *self._mine())
        reported: list[str] = []
        with subprocess.Popen(
            ["docker", *engine, "events", *mine, "--filter", "event=start", "--since", f"{time.time():.3f}"],
            stdout=subprocess.PIPE, text=True,
        ) as listening:  # fmt: skip
            received = threading.Thread(target=lambda: reported.extend(listening.stdout or ()))
            received.start()
            try:
                yield reported
            finally:
                listening.terminate()
                received.join()

    def clean(self) -> None:
        """Remove all that the project has, with its volumes and names of images."""
        super().clean()
        if volumes := self.docker("volume", "ls", "--quiet", *self._mine(), check=False).split():
            self.docker("volume", "rm", *volumes, check=False)
        self.docker("rmi", *self.images.values(), check=False)


@dataclass(frozen=True, slots=True)
class Stranger:
    """A container, a volume and an image of another owner, which no harm may touch."""

    name: str

    def begin(self) -> None:
        """Let it live."""
        labels = ("--label", "com.docker.compose.project=stranger", "--label", "com.docker.compose.service=one")
        run = ("run", "--detach", "--init", "--name", self.name, "--volume", f"{self.name}:/kept", *labels)
        _docker(*run, IMAGE, "sleep", "86400")

    def shows(self) -> str:
        """What would differ if it had been touched."""
        state = _docker("inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.State.Status}}", self.name)
        return f"{state} {_docker('volume', 'inspect', '--format', '{{.CreatedAt}}', self.name)}"

    def end(self) -> None:
        """Take it away."""
        _docker("rm", "--force", self.name)
        _docker("volume", "rm", self.name)


def _docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=True, env=dict(os.environ))
    return done.stdout.strip()
