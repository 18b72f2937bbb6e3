"""The tutorial of a fleet, command by command; what it prints is what the page shows.

Each host is a network namespace with an engine of its own, and reaches the control plane by its name.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from adapters.server.credentials import server_credentials
from adapters.stores import Stores
from flows.server.embedded import client_environment
from models.settings import Settings
from tests.e2e.docs.reader import DocumentReader
from tests.e2e.docs.shown import assert_shown
from tests.e2e.fleet.control_plane import OwnControlPlane
from tests.integration.docs.documents import FLEET_TUTORIAL, ROOT, Block, blocks
from tests.support.certificates import self_signed
from tests.support.namespaces import Machine, machines
from tests.support.ports import free_port
from tests.support.postgresql_server import PostgresqlForTests, postgresql
from tests.support.tls_front import tls_front

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=120)]

_NAME, _PORT = "ops.example.com", 4443
_ON = re.compile(r"# on (\S+)\n")
_TOKEN = re.compile(r"\b(host-[ab])\.[\w-]{40,}")
_WITHIN_SECONDS = 300


@dataclass
class ReaderOfHost(DocumentReader):
    """Someone at one machine of the fleet."""

    running: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "service.log"

    def start(self, command: str) -> None:
        """Run what the service of systemd would run."""
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                [*self.inside, sys.executable, "-P", "-c", "from cli.entry import main; main()", command],
                cwd=self.here, env=self.variables, stdout=log, stderr=log,
            )  # fmt: skip

    def stop(self) -> None:
        if self.running is not None:
            self.running.send_signal(signal.SIGTERM)
            try:
                self.running.wait(30)
            except subprocess.TimeoutExpired:
                self.running.kill()
                self.running.wait()
            self.running = None

    def until(self, text: str) -> None:
        deadline = time.monotonic() + _WITHIN_SECONDS
        while text not in (self.log.read_text() if self.log.exists() else ""):
            assert time.monotonic() < deadline, f"{text!r}: {self.log.read_text()[-4000:]}"
            time.sleep(0.2)


@dataclass
class Plane:
    """What docker-compose.yml runs for a fleet, without containers: a Prefect server and PostgreSQL."""

    folder: Path
    database: PostgresqlForTests
    stores_url: str
    server: OwnControlPlane = field(init=False)

    def __post_init__(self) -> None:
        self.server = OwnControlPlane(self.folder / "prefect", free_port(), self.settings)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "ROAS_DATA_DIR": str(self.folder),
            "ROAS_UI_URL": f"https://{_NAME}:{_PORT}",
            "ROAS_SERVER_HOSTS": f"{_NAME}:{_PORT}",
            "ROAS_INSTALL_DIR": str(self.folder / "install"),
            "ROAS_STORES_URL": self.stores_url,
            "ROAS_HOSTS_STORES_URL": self.database.url_elsewhere(self.stores_url),
        }

    def make(self) -> None:
        (self.folder / "install").mkdir()
        for name in ("roas_ops-0.0.0-py3-none-any.whl", "requirements.txt"):
            (self.folder / "install" / name).touch()
        self.server.start()

    def stop(self) -> None:
        self.server.kill()
        self.database.control("stop", "-m", "immediate")

    def start(self) -> None:
        self.database.control("start")
        self.server.start()
        # Of the shop only what was done meanwhile is there: it was enrolled after the kill before.
        self.until_filled_in("shop", "cafe")

    def until_filled_in(self, *names: str) -> None:
        """Wait until the record has a successful recovery of each environment, and none without its end."""
        deadline = time.monotonic() + _WITHIN_SECONDS
        with Stores.open(Settings(data_dir=self.folder / "reading", stores_url=self.stores_url)) as stores:
            while True:
                found = [[one.success for one in stores.recoveries.find(environment=name)] for name in names]
                if all(True in ends and None not in ends for ends in found):
                    return
                assert time.monotonic() < deadline, f"the record was not filled in: {found}"
                time.sleep(0.5)

    def run(self, text: str) -> str:
        programs = {"PYTHONPATH": str(ROOT), "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"}
        client = client_environment(server_credentials(self.server.home), self.server.plane.url)
        done = subprocess.run(
            ["bash", "-euc", text], env=os.environ | programs | self.settings | client,
            text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.folder,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}: {done.stdout}"
        return done.stdout


@dataclass
class TutorialFleet:
    """The three machines of the page."""

    hosts: dict[str, ReaderOfHost]
    plane: Plane
    token: str = ""

    def follow(self, block: Block) -> str:
        """Do what a block says on its machine; what it printed, without the token."""
        place = _ON.match(block.text)
        assert place is not None, f"{block} names no machine"
        text = block.text[place.end() :].strip()
        if block.mode != "run":
            self._instead(place[1], text)
            return ""
        if place[1] not in self.hosts:
            printed = self.plane.run(re.sub(r"docker compose exec \w+ with-secrets ", "", text))
            if found := _TOKEN.search(printed):
                self.token = found[0]
            return _TOKEN.sub(r"\1.TOKEN", printed)
        host = self.hosts[place[1]]
        printed = host.run(replace(block, text=self._without_systemd_and_ssh(text)))
        if "roas join" in text:
            host.start("worker")
        return printed

    def _instead(self, machine: str, text: str) -> None:
        """What one machine cannot run, and what is done for it."""
        host = self.hosts.get(machine)
        done: dict[str, Callable[[], None]] = {
            "make prod": self.plane.make,
            "docker compose stop": self.plane.stop,
            "docker compose start": self.plane.start,
        }
        if host is not None:
            done = {"roas service install": lambda: _serve(host), "roas service remove": host.stop}
        assert text in done, f"{text!r} is not run, and nothing is done for it"
        done[text]()

    def _without_systemd_and_ssh(self, text: str) -> str:
        text = text.replace("TOKEN", f"{self.token} --no-service")
        for name, host in self.hosts.items():
            text = text.replace(f"scp -r {name}:", f"cp -r {host.folder}/")
        return text


def _serve(host: ReaderOfHost) -> None:
    host.start("serve")
    host.until("watching ")


def _as_its_own(machine: Machine, hosts: Path) -> tuple[str, ...]:
    """The words before a command that run it on a machine, where these names are known and its engine is the usual."""
    socket = machine.engine.address.removeprefix("unix://")
    mounted = f"mount --bind {hosts} /etc/hosts && mount --bind {socket} /var/run/docker.sock"
    return *machine.inside, "unshare", "--mount", "sh", "-c", f'{mounted} && exec "$0" "$@"'


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[TutorialFleet]:
    (tmp_path / "ops").mkdir()
    certificate, known = self_signed(tmp_path, name=_NAME, also_named=True), tmp_path / "hosts"
    with ExitStack() as held:
        address, found = held.enter_context(machines(2))
        known.write_text(f"127.0.0.1 localhost\n{address} {_NAME}\n")
        database = held.enter_context(postgresql(address))
        plane = Plane(tmp_path / "ops", database, held.enter_context(database.database()))
        held.callback(plane.server.kill)
        held.enter_context(tls_front(address, _PORT, plane.server.port, certificate))
        hosts = {}
        for name, machine in zip(("host-a", "host-b"), found, strict=True):
            (tmp_path / name).mkdir()
            more = {
                "ROAS_HOST_NAME": name,
                "PREFECT_API_SSL_CERT_FILE": str(certificate),
                "PREFECT_WORKER_QUERY_SECONDS": "1",
                # Its warm process lives and ends with the machine.
                "XDG_RUNTIME_DIR": str(machine.engine.folder),
            }
            inside = _as_its_own(machine, known)
            hosts[name] = ReaderOfHost(tmp_path / name, name="shop", port=8088, more=more, inside=inside)
            held.callback(hosts[name].stop)
        yield TutorialFleet(hosts, plane)


def test_each_step_of_the_tutorial_of_a_fleet_prints_what_the_page_shows(fleet: TutorialFleet) -> None:
    printed, last = "", "host-a"
    for block in (one for one in blocks() if one.file == FLEET_TUTORIAL):
        if block.title:
            fleet.hosts[last].write(block)
        elif block.kind == "bash":
            printed = fleet.follow(block)
            print(f"--- {block}\n{block.text}{printed}")
        elif block.kind == "text":
            assert_shown(block, printed)
