"""The tutorial of a fleet, command by command, with an engine for each host; what it prints is what the page shows."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adapters.server.credentials import server_credentials
from adapters.stores import Stores
from flows.runtime.embedded import api_server, client_environment, listening_socket, wait_for_api
from models.failures import RoasError
from models.settings import Settings
from tests.e2e.docs.reader import Reader
from tests.e2e.docs.shown import assert_shown
from tests.integration.docs.documents import FLEET_TUTORIAL, ROOT, Block, blocks
from tests.support.engines import OwnEngine
from tests.support.ports import free_port
from tests.support.postgresql_server import PostgresqlForTests, postgresql
from tests.support.prefect_server import copy_database

pytestmark = [pytest.mark.engine, pytest.mark.flow]

_ADDRESS = "https://ops.example.com:4443"
_ON = re.compile(r"# on (\S+)\n")
_TOKEN = re.compile(r"\b(host-[ab])\.[\w-]{40,}")
_WITHIN_SECONDS = 240.0


@dataclass
class ReaderOfHost(Reader):
    """Someone at one machine of the fleet, with the names that all of them have."""

    names: dict[str, str] = field(default_factory=dict)
    running: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "service.log"

    def start(self, command: str) -> None:
        """Run what the service of systemd would run."""
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                [sys.executable, "-P", "-c", "from cli.entry import main; main()", command],
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

    def own(self, text: str) -> str:
        for word, mine in self.names.items():
            text = re.sub(rf"\b{word}\b", mine, text)
        return text

    def clean_up(self) -> None:
        self.stop()
        for word in ("shop", "cafe"):
            project = ("--project-name", self.names[word])
            subprocess.run(["docker", "compose", *project, "down", "--timeout", "1"], env=self.variables, check=False)

    _own = own


@dataclass
class Plane:
    """What docker-compose.yml runs for a fleet, without containers: a Prefect server and PostgreSQL."""

    folder: Path
    database: PostgresqlForTests
    stores_url: str
    port: int = field(default_factory=free_port)
    _running: ExitStack = field(default_factory=ExitStack)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def variables(self) -> dict[str, str]:
        return {
            "ROAS_DATA_DIR": str(self.folder),
            "ROAS_UI_URL": self.address,
            "ROAS_INSTALL_DIR": str(self.folder / "install"),
            "ROAS_STORES_URL": self.stores_url,
            "ROAS_HOSTS_STORES_URL": self.stores_url.replace("roas@", ""),
            **client_environment(server_credentials(self.folder / "prefect"), f"{self.address}/api"),
        }

    def make(self) -> None:
        copy_database(self.folder / "prefect")
        (self.folder / "install").mkdir()
        for name in ("roas_ops-0.0.0-py3-none-any.whl", "requirements.txt"):
            (self.folder / "install" / name).touch()
        self._serve()

    def _serve(self) -> None:
        credentials = server_credentials(self.folder / "prefect")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.variables.items():
                patch.setenv(name, value)
            listening = self._running.enter_context(listening_socket(self.port))
            server = self._running.enter_context(api_server(credentials, listening, with_ui=False))
            patch.setenv("PREFECT_API_URL", f"{self.address}/api")
            try:
                wait_for_api(server=server.process)
            except RoasError as error:
                raise AssertionError((self.folder / "prefect" / "server.log").read_text()[-6000:]) from error

    def stop(self) -> None:
        self._running.close()
        self.database.control("stop", "-m", "immediate")

    def start(self) -> None:
        self.database.control("start")
        self._serve()

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

    def end(self) -> None:
        self._running.close()

    def run(self, text: str) -> str:
        programs = {"PYTHONPATH": str(ROOT), "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-euc", text], env=os.environ | programs | self.variables,
            text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.folder,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}: {done.stdout}"
        return done.stdout


@dataclass
class Fleet:
    """The three machines of the page."""

    hosts: dict[str, ReaderOfHost]
    plane: Plane
    token: str = ""

    def follow(self, block: Block) -> str:
        """Do what a block says on its machine; what it printed, in the page's words."""
        place = _ON.match(block.text)
        assert place is not None, f"{block} names no machine"
        text = block.text[place.end() :].strip()
        if block.mode != "run":
            self._instead(place[1], text)
            return ""
        if place[1] not in self.hosts:
            printed = self.plane.run(self._without_containers(text))
            if found := _TOKEN.search(printed):
                self.token = found[0]
            return self._as_on_the_page(printed)
        host = self.hosts[place[1]]
        printed = host.run(Block(**{**_fields(block), "text": self._without_network(text)}))
        if "roas enrol" in text:
            host.start("worker")
        return self._as_on_the_page(printed)

    def _instead(self, machine: str, text: str) -> None:
        """What one machine cannot run, and what is done for it."""
        host = self.hosts.get(machine)
        done: dict[str, Callable[[], None]] = {
            "make prod": self.plane.make,
            "docker compose stop": self.plane.stop,
            "docker compose start": self._start_again,
        }
        if host is not None:
            done = {"roas service install": lambda: _serve(host), "roas service remove": host.stop}
        assert text in done, f"{text!r} is not run, and nothing is done for it"
        done[text]()

    def _start_again(self) -> None:
        self.plane.start()
        # Of the shop only what was done meanwhile is there: it was enrolled after the kill before.
        names = next(iter(self.hosts.values())).names
        self.plane.until_filled_in(names["shop"], names["cafe"])

    def _without_containers(self, text: str) -> str:
        text = re.sub(r"docker compose exec \w+ with-secrets ", "", text)
        return next(iter(self.hosts.values())).own(text)

    def _without_network(self, text: str) -> str:
        text = text.replace(_ADDRESS, self.plane.address).replace("TOKEN", f"{self.token} --no-service")
        for name, host in self.hosts.items():
            text = text.replace(f"scp -r {name}:", f"cp -r {host.folder}/")
        return text

    def _as_on_the_page(self, printed: str) -> str:
        for word, mine in next(iter(self.hosts.values())).names.items():
            printed = printed.replace(mine, word)
        return _TOKEN.sub(r"\1.TOKEN", printed).replace(self.plane.address, _ADDRESS)


def _serve(host: ReaderOfHost) -> None:
    host.start("serve")
    host.until("watching ")


def _fields(block: Block) -> dict[str, object]:
    return {name: getattr(block, name) for name in block.__slots__}


@pytest.fixture
def fleet(tmp_path: Path, own_engine: OwnEngine) -> Iterator[Fleet]:
    names = {one: f"{one[0]}{os.urandom(2).hex()[:3]}" for one in ("shop", "cafe")}
    names |= {"8088": str(free_port()), "8089": str(free_port())}
    hosts = {}
    for name, more in (("host-a", {}), ("host-b", {"DOCKER_HOST": own_engine.address})):
        folder = tmp_path / name
        folder.mkdir()
        more |= {"ROAS_HOST_NAME": name, "ROAS_SERVER_PORT": str(free_port()), "PREFECT_WORKER_QUERY_SECONDS": "1"}
        hosts[name] = ReaderOfHost(folder, name=names["shop"], names=names, more=more)
    with postgresql() as server, server.database() as url, ExitStack() as ends:
        (tmp_path / "ops").mkdir()
        plane = Plane(tmp_path / "ops", server, url)
        ends.callback(plane.end)
        for host in hosts.values():
            ends.callback(host.clean_up)
        yield Fleet(hosts, plane)


@pytest.mark.timeout(900)
def test_each_step_of_the_tutorial_of_a_fleet_prints_what_the_page_shows(fleet: Fleet) -> None:
    printed, last = "", "host-a"
    for block in (one for one in blocks() if one.file == FLEET_TUTORIAL):
        if block.title:
            fleet.hosts[last].write(block)
        elif block.kind == "bash":
            printed = fleet.follow(block)
            print(f"--- {block}\n{block.text}{printed}")
        elif block.kind == "text":
            assert_shown(block, printed)
