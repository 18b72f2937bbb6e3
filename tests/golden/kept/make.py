"""Make kept.tar.xz: a folder of a version of the program, as real operations on the real engine left it.

    cd CHECKOUT-OF-THAT-VERSION
    PYTHONPATH=. .venv/bin/python .../tests/golden/kept/make.py /srv/kept .../tests/golden/kept/kept.tar.xz

With names of environments behind it, these alone: so was made going_back.tar.xz, with `undone restoring`.

The folder must not exist. Its path is on record in the stores, so it is one that names no machine; tests put theirs
in its place. It needs the engine, restic and the image of the tests.

The environment `shop` has a life: releases, an update that failed and was rolled back, a death that was healed, a
ticket, a snapshot and a restore. Most others have an operation whose process was killed half-way: the Compose file of
before is in `before.yaml`, and containers.json names the containers that were there, as far as they are known.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml
from prefect.client.schemas.objects import State
from prefect.utilities.importtools import import_object

from tasks.runtime.plain_tasks import without_task_runs
from tasks.runtime.stores import open_stores
from tests.support.docker_command import docker_command
from tests.support.killed_flow import killed_flow
from tests.support.prefect_server import own_server
from tests.support.projects import remove_project

IMAGE = "debian:trixie-slim"
PREFIX = "roaskept"
"""Tests put a name of the same length in its place, since it is on record in the stores."""
FAILS = "echo no licence found; exit 3"
SERVICE = """
  {name}:
    image: {image}
    pull_policy: never
    init: true
    command: [sh, -c, '{command}']
    labels: {{version: '{version}'}}
    volumes: [files:/srv/files]
    healthcheck: {health}
"""
HEALTH = (
    "{test: [CMD, test, -e, /tmp/well], interval: 3s, timeout: 30s, retries: 2, "
    "start_period: 10s, start_interval: 200ms}"
)
KILLED = {
    "start": ("startup", ("after", "proven", "base")),
    "update": ("update", ("after", "proven", "base")),
    "undoing": ("update", ("before", "data saved")),
    "rollback": ("rollback", ("after", "found")),
    "restart": ("restart", ("after", "restarted", "base")),
    "undone": ("update", ("after", "undoing")),
    "restoring": ("restore", ("after", "restored", "files")),
}
"""The flow of each environment's interrupted operation, and the moment at which its process was killed."""

SAVED = "restore"
"""An environment with snapshots, of which no operation was interrupted."""


class KeptApplication:
    """An environment of two services, one behind the other."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name, self.project = folder, name, f"{PREFIX}-{name}"
        lines = {
            "name": name,
            "project": self.project,
            "compose_files": f"[{name}/compose.yaml]",
            "stabilisation_seconds": 0.5,
            "start_timeout_seconds": 300,
            "data": "{save: [{kind: files, volume: files}]}",
        }
        (folder / f"{name}.yaml").write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
        (folder / name).mkdir()

    def declare(self, version: str, web: str = "touch /tmp/well; exec sleep 3600") -> None:
        """Write the Compose file of a version; the one before is kept beside it."""
        file = self.folder / self.name / "compose.yaml"
        if file.exists():
            file.rename(file.with_name("before.yaml"))
        base, last = (
            SERVICE.format(name=name, image=IMAGE, version=version, command=command, health=HEALTH)
            for name, command in (("base", "touch /tmp/well; exec sleep 3600"), ("web", web))
        )
        needs = "\n    depends_on: {base: {condition: service_healthy}}\n"
        file.write_text(f"services:{base}{last.rstrip()}{needs}volumes: {{files: {{}}}}\n")

    def run(self, flow: str, *, fails: bool = False, **parameters: object) -> None:
        """Run a flow; it must end well unless it is to fail."""
        state = asyncio.run(run_flow(flow, {"environment": self.name, **parameters}))
        print(f"{flow} of {self.name}: {state.name} {state.message}", flush=True)
        assert state.is_completed() != fails

    def containers(self) -> list[dict[str, object]]:
        """What of each container a test needs to make one like it."""
        label = "{{index .Config.Labels %s}}"
        words = " ".join(("{{.Id}} {{.State.Running}}", label % '"com.docker.compose.service"', label % '"version"'))
        listed = docker_command("ps", "-aq", "--filter", f"label=com.docker.compose.project={self.project}").split()
        rows = (docker_command("inspect", "-f", words, container).split() for container in listed)
        return [
            {"id": container, "running": running == "true", "service": service, "version": version}
            for container, running, service, version in rows
        ]

    def remove(self) -> None:
        """Take it off the engine."""
        remove_project(self.project)
        subprocess.run(["docker", "volume", "rm", "-f", f"{self.project}_files"], capture_output=True, check=False)


async def run_flow(name: str, parameters: dict[str, object]) -> State[Any]:
    # Deployments of that version are run by these names, too, so they stay.
    declared = yaml.safe_load(Path("prefect.yaml").read_text())["deployments"]
    flow = next(import_object(one["entrypoint"]) for one in declared if one["entrypoint"].endswith(f".{name}"))
    # A task run costs its server more than the task costs, and it is not in this folder.
    with without_task_runs():
        state: State[Any] = await flow(**parameters, return_state=True)
    return state


def live(shop: KeptApplication) -> None:
    """Let the shop have its life."""
    shop.declare("1")
    shop.run("startup")
    docker_command("exec", f"{shop.project}-base-1", "sh", "-c", "echo first >/srv/files/word")
    shop.declare("2")
    shop.run("update")
    shop.run("snapshot")
    shop.declare("3", FAILS)
    shop.run("update", fails=True)
    shop.declare("2")
    shop.run("restart", services=["web"])
    docker_command("kill", f"{shop.project}-web-1")
    shop.run("collection")
    shop.run("restore", confirmed=True)
    shop.run("rollback")
    open_stores().pauses.pause("shop", "web", None, "a new disk", "anna")
    shop.run("stop")


def interrupt(application: KeptApplication) -> None:
    """Bring an application to the operation of its name, and let that be killed half-way."""
    name = application.name
    application.declare("1")
    if name != "start":
        application.run("startup")
    if name in ("rollback", "restoring", SAVED):
        docker_command("exec", f"{application.project}-base-1", "sh", "-c", "echo first >/srv/files/word")
        application.run("snapshot")
        application.declare("2")
        application.run("update")
    if name in ("update", "undoing", "undone"):
        application.declare("2", FAILS if name != "update" else "touch /tmp/well; exec sleep 3600")
    if name != SAVED:
        flow, moment = KILLED[name]
        killed_flow(flow, {"environment": name} | ({"confirmed": True} if flow == "restore" else {}), *moment)


def main() -> None:
    """Make the folder and its archive, and take the applications off the engine."""
    folder, archive = map(Path, sys.argv[1:3])
    folder.mkdir()
    os.environ |= {"ROAS_DATA_DIR": f"{folder}/data", "ROAS_ENVIRONMENTS_DIR": str(folder)}
    applications = [KeptApplication(folder, name) for name in sys.argv[3:] or ("shop", *KILLED, SAVED)]
    try:
        with tempfile.TemporaryDirectory() as home, own_server(Path(home) / "home"):
            for application in applications:
                (live if application.name == "shop" else interrupt)(application)
        there = {application.name: application.containers() for application in applications}
        image = docker_command("image", "inspect", "-f", "{{.Id}}", IMAGE).strip()
        (folder / "containers.json").write_text(json.dumps({"image": image, "containers": there}, indent=1))
    finally:
        for application in applications:
            application.remove()
    for store in folder.glob("data/*.db"):
        # This process has the stores open, so their last pages are in files beside them.
        with closing(sqlite3.connect(store)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with tarfile.open(archive, "w:xz", preset=9) as made:
        made.add(folder, ".", filter=nobodys)
    print(f"{archive.stat().st_size} bytes")


def nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if member.name.endswith(("-wal", "-shm")):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
