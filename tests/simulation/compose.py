"""A simulated Compose at the place where programs are run: it reads real files, and makes containers in an engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests
from docker.errors import DockerException

from adapters.docker.client import PROJECT_LABEL, SERVICE_LABEL
from adapters.host.programs import ProgramResult, ProgramRun
from tests.simulation import kernel
from tests.simulation.containers import NANOSECONDS, Container
from tests.simulation.engine import Engine

VERSION = "2.26.1"
_WITH_VALUE = frozenset(
    {"--ansi", "--progress", "--project-name", "--project-directory", "--file", "--env-file", "--profile"}
)
_LABEL = "com.docker.compose."
_DURATIONS = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start_period": "StartPeriod",
    "start_interval": "StartInterval",
}


class ComposeFailedError(Exception):
    """It ends with code 1 and this on standard error."""


class Compose:
    """The program."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, program: ProgramRun, words: Sequence[str]) -> ProgramResult:
        """Run it with the words after its name."""
        options, arguments = _options(words)
        try:
            if arguments[0] == "version":
                return ProgramResult(code=0, output=VERSION.encode())
            document = _read(options, program.given)
            if arguments[0] == "config":
                return ProgramResult(code=0, output=_config(document, arguments[1:]).encode())
            if self._engine.weather.is_away:
                raise ComposeFailedError(
                    "Cannot connect to the Docker daemon at unix:///simulated.sock. Is the docker daemon running?"
                )
            self._change(document, arguments[0], arguments[1:])
        except ComposeFailedError as error:
            return ProgramResult(code=1, errors=str(error).encode())
        except (DockerException, requests.RequestException) as error:
            return ProgramResult(code=1, errors=f"Error response from daemon: {error}".encode())
        return ProgramResult(code=0)

    def _change(self, document: dict[str, Any], command: str, words: list[str]) -> None:
        kernel.sleep(0.3)
        flags, services = _flags(words)
        if command == "pull":
            for name in services or document["services"]:
                self._pull(document["services"][name]["image"])
        elif command in ("create", "up"):
            alone = "--no-deps" in flags
            names = _with_dependencies(document, services, alone=alone)
            self._networks_and_volumes(document)
            for name in names:
                self._create(document, name, anew="--force-recreate" in flags)
        else:
            raise ComposeFailedError(f"the simulated Compose does not know {command}")

    def _pull(self, image: str) -> None:
        kernel.sleep(self._engine.choices.uniform(0.5, 5.0))
        version = self._engine.registry.get(image)
        if version is None:
            raise ComposeFailedError(f"Error response from daemon: manifest for {image} not found: manifest unknown")
        self._engine.names[image] = self._engine.pulled[version.image_id] = version

    def _networks_and_volumes(self, document: dict[str, Any]) -> None:
        project = document["name"]
        for network in (document.get("networks") or {}).values():
            self._engine.networks.setdefault(
                network["name"], {"Name": network["name"], "Driver": "bridge", "Labels": {PROJECT_LABEL: project}}
            )

    def _create(self, document: dict[str, Any], name: str, *, anew: bool) -> None:
        """As Compose replaces a container: the new one under another name, the old one away, then the right name."""
        project, service = document["name"], document["services"][name]
        if service["image"] not in self._engine.names:
            self._pull(service["image"])
        image_id, number_of = self._engine.names[service["image"]].image_id, _hash(service)
        proper = f"{project}-{name}-1"
        old = next(iter(self._engine.of_project(project, name)), None)
        if old is not None and not anew and _is_same(old, number_of, image_id):
            return
        body = _body(document, name, number_of, image_id)
        if old is None:
            self._engine.create(proper, body)
            return
        body["Labels"][f"{_LABEL}replace"] = old.name
        new = self._engine.create(f"{old.container_id[:12]}_{proper}", body)
        kernel.sleep(0.05)
        self._engine.stop(old)
        self._engine.remove(old, force=True)
        kernel.sleep(0.05)
        if new.container_id in self._engine.containers:
            new.name = proper
            self._engine.report(new, "rename")


def _options(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    options: dict[str, list[str]] = {}
    remaining = list(words)
    while remaining and remaining[0] in _WITH_VALUE:
        options.setdefault(remaining[0], []).append(remaining[1])
        remaining = remaining[2:]
    return options, remaining


def _flags(words: list[str]) -> tuple[list[str], list[str]]:
    flags, services, skip = [], [], False
    for word in words:
        if skip:
            skip = False
        elif word in ("--pull", "--scale", "--policy"):
            skip = True
        elif word.startswith("--"):
            flags.append(word)
        else:
            services.append(word)
    return flags, services


def _read(options: dict[str, list[str]], stdin: bytes) -> dict[str, Any]:
    file = options["--file"][0]
    try:
        text = stdin.decode() if file == "-" else Path(file).read_text()
    except FileNotFoundError as error:
        raise ComposeFailedError(f"open {file}: no such file or directory") from error
    document: dict[str, Any] = json.loads(text)
    return document | {"name": options["--project-name"][0]}


def _config(document: dict[str, Any], words: list[str]) -> str:
    if "--hash" in words:
        return "".join(f"{name} {_hash(service)}\n" for name, service in document["services"].items())
    if "--variables" in words:
        return ""
    return json.dumps(document)


def _hash(service: dict[str, Any]) -> str:
    """As Compose counts it: without what is empty, and without how its image is had."""
    counted = {key: value for key, value in service.items() if value and key not in ("build", "pull_policy")}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()


def _with_dependencies(document: dict[str, Any], services: list[str], *, alone: bool) -> list[str]:
    names: list[str] = []

    def add(name: str) -> None:
        for other in () if alone else document["services"][name].get("depends_on") or {}:
            add(other)
        if name not in names:
            names.append(name)

    for name in services or document["services"]:
        add(name)
    return names


def _is_same(old: Container, number: str, image_id: str) -> bool:
    return old.labels[f"{_LABEL}config-hash"] == number and old.version.image_id == image_id


def _body(document: dict[str, Any], name: str, config_hash: str, image_id: str) -> dict[str, Any]:
    project, service = document["name"], document["services"][name]
    check = service.get("healthcheck")
    return {
        "Image": service["image"],
        "Env": [],
        "Cmd": ["serve"],
        "Labels": {
            PROJECT_LABEL: project,
            SERVICE_LABEL: name,
            f"{_LABEL}container-number": "1",
            f"{_LABEL}oneoff": "False",
            f"{_LABEL}config-hash": config_hash,
            f"{_LABEL}image": image_id,
            **(service.get("labels") or {}),
        },
        **({"Healthcheck": _check(check)} if check else {}),
        "HostConfig": {
            "RestartPolicy": {"Name": service.get("restart") or "no"},
            "NetworkMode": document["networks"]["default"]["name"],
            "Mounts": [
                {
                    "Type": "volume",
                    "Source": document["volumes"][mount["source"]]["name"],
                    "Target": mount["target"],
                }
                for mount in service.get("volumes") or ()
            ],
        },
        "NetworkingConfig": {
            "EndpointsConfig": {document["networks"]["default"]["name"]: {"Aliases": [f"{project}-{name}-1", name]}}
        },
    }


def _check(declared: dict[str, Any]) -> dict[str, Any]:
    """A health check as the engine has it: durations in nanoseconds."""
    durations = {key: _nanoseconds(declared[name]) for name, key in _DURATIONS.items() if name in declared}
    return durations | {"Test": declared["test"], "Retries": declared.get("retries", 0)}


def _nanoseconds(text: str) -> int:
    number, unit = (text[:-2], 1e-3) if text.endswith("ms") else (text[:-1], 1.0)
    return int(float(number) * unit * NANOSECONDS)
