"""Start public applications as `roas init` proposes it: python -m tests.e2e.gallery.adopted [--only NAME].

applications/*.yaml describe the shape of a public Compose file each, written anew: its services, commands, variables
and networks. Their images are real programs from Debian's packages; applications/images.yaml says which.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import secrets
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from tests.e2e.gallery.__main__ import BUILD
from tests.support.kept_images import forget_kept_images
from tests.support.ports import free_port
from tests.support.prefect_server import server_variables, temporary_server
from tests.support.projects import remove_project
from tests.support.warm import begin_session, end_session, warm_commands

_FOLDER = Path(__file__).with_name("applications")
_BASE = "roas/applications:local"
_IMAGE = re.compile(r"localhost/((?:[a-z0-9_-]+/)*[a-z0-9_-]+)(?::(?:\$\{\w+\}|[\w.-]+))?")
_PORT = re.compile(r"@PORT\d?@")
_PROVEN = frozenset({"healthy", "completed"})
_ENDS_WITHIN_SECONDS = 300
ROAS = Path(sys.executable).with_name("roas")


class PublicApplication(BaseModel):
    """The shape of one public Compose file.

    `source` is its repository and file, `shape` what is special about it. `files` lie in its folder: `@PORT@` and
    `@PORT2@` are free ports of the host, `@PROJECT@` the project. `unproven` are the services that no file says enough
    about.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    source: str
    shape: str
    files: dict[str, str]
    unproven: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AdoptedApplication:
    """What became of an application: the JSON of `init` and `start`, and what both printed beside it.

    `collected` is the JSON of a collection afterwards, `restarts` those of its containers until then, and `stopped`: it
    stopped as it was asked to, with its volumes.
    """

    application: PublicApplication
    proposed: dict[str, Any]
    started: dict[str, Any]
    output: str
    collected: dict[str, Any] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    stopped: bool = False
    seconds: float

    @property
    def verdicts(self) -> dict[str, str]:
        """The health of each service after the start."""
        return {one["service"]: one["health"] for one in (self.started.get("health") or {}).get("services", ())}

    @property
    def services(self) -> tuple[str, ...]:
        return tuple(one["service"] for one in self.proposed["services"])

    @property
    def proven(self) -> tuple[str, ...]:
        return tuple(name for name in self.services if self.verdicts.get(name) in _PROVEN)

    @property
    def explained(self) -> dict[str, str]:
        """The services that nothing proves, with the line that says what they need."""
        lines = ((one["service"], line) for one in self.proposed["services"] for line in one["remarks"])
        return {name: line for name, line in lines if line.startswith("nothing proves it, because ")}

    @property
    def is_whole(self) -> bool:
        """Whether each service is proven, or a line says what it needs."""
        return {*self.services} == {*self.proven, *self.explained}

    @property
    def harmed(self) -> tuple[str, ...]:
        """What the proposal breaks: a failed start, a service that is not well or was restarted, a stop that failed."""
        bad = [f"{name}: {health}" for name, health in self.verdicts.items() if health not in {*_PROVEN, "unproven"}]
        bad += [f"{name} restarted {count} times" for name, count in self.restarts.items() if count]
        bad += [f"a recovery: {json.dumps(one)}" for one in self.collected.get("recoveries", ())]
        if not self.verdicts:
            bad.append("the start failed")
        return (*bad, *(() if self.stopped else ("the stop failed",)))


def read_applications() -> dict[str, PublicApplication]:
    """Return the applications by name, in the order of their files."""
    paths = (path for path in sorted(_FOLDER.glob("*.yaml")) if path.name != "images.yaml")
    return {path.stem: PublicApplication(name=path.stem, **yaml.safe_load(path.read_text())) for path in paths}


def build_images(applications: Sequence[PublicApplication]) -> None:
    """Build the images that applications name; what is there already costs a second."""
    lines: dict[str, str] = yaml.safe_load((_FOLDER / "images.yaml").read_text())
    subprocess.run([BUILD], check=True, capture_output=True)
    build = ["docker", "build", "--quiet", "--tag"]
    subprocess.run([*build, _BASE, _FOLDER / "image"], check=True, capture_output=True)
    for reference, repository in sorted(_references(applications)):
        text = f"FROM {_BASE}\n{lines[repository]}"
        subprocess.run([*build, reference, "-"], input=text.encode(), check=True, capture_output=True)


def _references(applications: Sequence[PublicApplication]) -> Iterator[tuple[str, str]]:
    for application in applications:
        values = dict(re.findall(r"(?m)^(\w+)=(\S+)$", application.files.get(".env", "")))
        for text in application.files.values():
            for match in _IMAGE.finditer(re.sub(r"\}:\$\{\w+:-", ":", text)):
                yield string.Template(match[0]).safe_substitute(values), match[1].removeprefix("library/")


def adopt(application: PublicApplication, folder: Path, variables: dict[str, str]) -> AdoptedApplication:
    """Write an environment file for an application as a user does, start it as proposed, and stop it; nothing of it is
    left afterwards."""
    return _Adoption(application, folder, variables).run()


@dataclass(slots=True)
class _Adoption:
    """One application in a folder of its own, with stores of its own."""

    application: PublicApplication
    folder: Path
    variables: dict[str, str]
    project: str = ""
    output: str = ""

    def run(self) -> AdoptedApplication:
        began = time.monotonic()
        self.project = f"adopted-{secrets.token_hex(4)}"
        self._write()
        with ExitStack() as stack:
            stack.callback(self._clean)
            proposed = self._roas("init", "-p", self.project, "--json")
            started = self._roas("start", "--json")
            collected = self._roas("collect", "--json")
            restarts = dict(self._restarts())
            volumes = self._volumes()
            stopped = bool(self._roas("stop", "--json")) and self._volumes() == volumes
            return AdoptedApplication(
                application=self.application,
                proposed=proposed,
                started=started,
                output=self.output,
                restarts=restarts,
                stopped=stopped,
                collected=collected,
                seconds=time.monotonic() - began,
            )

    @property
    def _stores(self) -> Path:
        # Beside the folder, which some applications build.
        return self.folder.with_name(f"{self.folder.name}-stores")

    def _write(self) -> None:
        texts = self.application.files
        ports = {name: str(free_port()) for text in texts.values() for name in _PORT.findall(text)}
        for name, text in texts.items():
            for placeholder, port in ports.items():
                text = text.replace(placeholder, port)
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("@PROJECT@", self.project))

    def _roas(self, *words: str) -> dict[str, Any]:
        """The JSON that a command printed; empty where it failed without any."""
        own = {"ROAS_DATA_DIR": str(self._stores), "COLUMNS": "200"}
        environment = {name: value for name, value in self.variables.items() if not name.startswith("ROAS_")}
        done = subprocess.run(
            [ROAS, *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=environment | warm_commands() | own,
            timeout=_ENDS_WITHIN_SECONDS,
        )
        self.output += f"$ roas {' '.join(words)}\n{done.stderr}{done.stdout}\nexit code {done.returncode}\n"
        result: dict[str, Any] = json.loads(done.stdout) if done.stdout.startswith("{") else {}
        return result if done.returncode == 0 or words[0] == "start" else {}

    def _restarts(self) -> Iterator[tuple[str, int]]:
        form = '{{index .Config.Labels "com.docker.compose.service"}} {{.RestartCount}}'
        listed = ["docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}"]
        containers = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
        if not containers:
            return
        inspect = ["docker", "inspect", "--format", form, *containers]
        for line in subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.splitlines():
            service, count = line.split()
            yield service, int(count)

    def _volumes(self) -> frozenset[str]:
        listed = ["docker", "volume", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}"]
        return frozenset(subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split())

    def _clean(self) -> None:
        remove_project(self.project)
        forget_kept_images(self._stores)
        own = ["--quiet", "--filter", f"label=com.docker.compose.project={self.project}"]
        for kind in ("volume", "image"):
            listed = subprocess.run(["docker", kind, "ls", *own], capture_output=True, text=True, check=True)
            if names := {*listed.stdout.split()}:
                subprocess.run(["docker", kind, "rm", "--force", *names], capture_output=True, check=False)


def main() -> int:
    """Start every application that is asked for, and print what became of it; 1 where a start is not whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a word of names; may be repeated")
    parser.add_argument("--log", type=Path, help="a file for all that was printed")
    options = parser.parse_args()
    words = options.only or [""]
    chosen = [case for name, case in read_applications().items() if any(word in name for word in words)]
    build_images(chosen)
    begin_session()
    results = []
    try:
        with tempfile.TemporaryDirectory(prefix="roas-adopted-") as folder, temporary_server():
            print(
                "| application | services | proven | named | harmful | seconds |\n|---|---|---|---|---|---|", flush=True
            )
            for application in chosen:
                results.append(adopt(application, Path(folder) / application.name, server_variables()))
                print(_row(results[-1]), flush=True)
                if options.log:
                    with options.log.open("a") as file:
                        file.write(f"=== {application.name}\n{results[-1].output}\n")
    finally:
        end_session()
    columns = zip(*((len(r.services), len(r.proven), len(r.explained)) for r in results), strict=True)
    print(f"| all | {' | '.join(str(sum(column)) for column in columns)} | | |")
    return 0 if all(not result.harmed and result.is_whole for result in results) else 1


def _row(result: AdoptedApplication) -> str:
    counts = f"{len(result.services)} | {len(result.proven)}"
    named, harmed = ", ".join(result.explained), "; ".join(result.harmed)
    return f"| {result.application.name} | {counts} | {named} | {harmed} | {result.seconds:.0f} |"


if __name__ == "__main__":
    logging.getLogger("prefect").setLevel(logging.CRITICAL)
    sys.exit(main())
