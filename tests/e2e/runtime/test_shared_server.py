"""The Prefect server that a command leaves for later ones: found, shared, as closed as any, and never left for good."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from adapters.stores import Stores
from models.settings import Settings
from tests.e2e.runtime.conftest import ROOT, WarmUser, eventually, is_gone
from tests.support import patient_http
from tests.support.ports import free_port
from tests.support.prefect_server import copy_database

_COMMAND = [sys.executable, "-P", "-m", "tests.e2e.runtime.programs", "uses_server"]


class Commands:
    """Commands that use the server of one data folder."""

    def __init__(self, user: WarmUser, data: Path) -> None:
        self.user, self.home = user, data / "prefect"
        data.mkdir(mode=0o700)
        copy_database(self.home)
        user.variables = {"ROAS_DATA_DIR": str(data), "ROAS_SERVER_PORT": str(free_port())}

    @contextmanager
    def using(self, idle: float = 600, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """A command that uses the server during the block, and the address of the API."""
        running = self.start(idle, **variables)
        try:
            yield running, self.address(running)
        finally:
            running.communicate()

    def start(self, idle: float = 600, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*_COMMAND, str(idle)],
            env=self.user.environment(**variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def address(self, running: subprocess.Popen[str]) -> str:
        assert running.stdout is not None
        return running.stdout.readline().strip()

    def server(self) -> int:
        """The process id of the server that was left."""
        return int(json.loads((self.home / "server.json").read_text())["process"])

    def servers(self) -> list[int]:
        found = subprocess.run(["pgrep", "-f", str(self.home)], capture_output=True, text=True, check=False)
        return [int(one) for one in found.stdout.split()]


@pytest.fixture
def commands(user: WarmUser, tmp_path: Path) -> Iterator[Commands]:
    made = Commands(user, tmp_path / "data")
    yield made
    # A server without its record ends.
    (made.home / "server.json").unlink(missing_ok=True)
    eventually(lambda: not made.servers(), "all servers have ended")


def test_second_command_finds_the_server_of_the_first(commands: Commands) -> None:
    with commands.using() as (_, first):
        left = commands.server()
    assert not is_gone(left)
    with commands.using() as (_, second):
        assert second == first
        assert commands.server() == left


@pytest.mark.campaign
def test_commands_at_once_share_one_server(commands: Commands) -> None:
    running = [commands.start() for _ in range(4)]
    addresses = {commands.address(one) for one in running}
    for one in running:
        one.communicate()
    assert len(addresses) == 1
    assert commands.servers() == [commands.server()]


@pytest.mark.campaign
def test_server_ends_when_no_command_uses_it(commands: Commands) -> None:
    with commands.using(1):
        left = commands.server()
    eventually(lambda: is_gone(left), "it ends")
    assert not (commands.home / "server.json").exists()
    with commands.using() as (_, address):
        assert address
        assert commands.server() != left


@pytest.mark.campaign
def test_server_stays_while_a_command_uses_it_and_ends_when_that_is_killed(commands: Commands) -> None:
    with commands.using(3) as (running, address):
        left = commands.server()
        with pytest.raises(AssertionError):
            eventually(lambda: is_gone(left), "it ends", within=8)
        assert patient_http.get(f"{address}/admin/version").status_code == httpx.codes.UNAUTHORIZED
        running.kill()
        eventually(lambda: is_gone(left), "it ends")


def test_a_server_that_is_killed_while_a_command_uses_it_is_started_anew_at_its_place(commands: Commands) -> None:
    with commands.using() as (_, address):
        left = commands.server()
        # A connection that it had keeps no other from its port.
        with httpx.Client() as client:
            client.get(f"{address}/admin/version")
            os.kill(left, signal.SIGKILL)
            eventually(lambda: commands.server() != left, "another one is started")
        answer = eventually(lambda: _answer(address), "it answers")
        assert answer == httpx.codes.UNAUTHORIZED
    assert not is_gone(commands.server())


def _answer(address: str) -> int | None:
    try:
        return httpx.get(f"{address}/admin/version").status_code
    except httpx.TransportError:
        return None


def test_server_is_as_closed_as_that_of_roas_serve(commands: Commands) -> None:
    with commands.using() as (_, address):
        user, _, password = (commands.home / "auth_string").read_text().strip().partition(":")
        with httpx.Client(base_url=address, auth=(user, password)) as client:
            assert client.get("/admin/version").status_code == httpx.codes.OK
            for foreign in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
                assert client.get("/admin/version", headers=foreign).status_code == httpx.codes.FORBIDDEN
            assert client.post("/flows/filter", json={}).status_code == httpx.codes.FORBIDDEN
        for name in ("server.json", "server.used", "server.starting", "server.log"):
            assert (commands.home / name).stat().st_mode & 0o077 == 0


@pytest.mark.campaign
def test_changed_settings_get_a_new_server_once_the_old_one_is_free(commands: Commands) -> None:
    changed = {"PREFECT_SERVER_EVENTS_MAXIMUM_LABELS_PER_RESOURCE": "400"}
    with commands.using() as (_, old):
        left = commands.server()
        with commands.using(**changed) as (_, temporary):
            assert temporary != old
        assert commands.server() == left
    with commands.using(**changed) as (_, new):
        assert new != old
        assert is_gone(left)


@pytest.mark.campaign
def test_server_ends_when_the_data_folder_is_removed(commands: Commands) -> None:
    with commands.using():
        left = commands.server()
    shutil.rmtree(commands.home)
    eventually(lambda: is_gone(left), "it ends")


@pytest.mark.campaign
def test_nothing_is_left_where_it_is_switched_off(commands: Commands) -> None:
    with commands.using(ROAS_WARM="0") as (running, _):
        pass
    assert not (commands.home / "server.json").exists()
    with commands.using(ROAS_WARM="0") as (running, _):
        listed = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True, check=True)
        running.kill()
        eventually(lambda: all(map(is_gone, map(int, listed.stdout.split()))), "the killed command's server ends")


@pytest.mark.campaign
def test_the_page_of_a_left_server_acts_by_commands_of_the_folder_it_was_left_in(
    commands: Commands, tmp_path: Path
) -> None:
    environments = tmp_path / "environments"
    environments.mkdir()
    (environments / "shop.yaml").write_text("name: shop\nproject: shop\ncompose_files: [compose.yaml]\n")
    commands.user.variables["ROAS_ENVIRONMENTS_DIR"] = str(environments)
    asked = commands.user.run("open", "shop", "--json", command=[Path(sys.executable).with_name("roas")])
    assert asked.returncode == 0, asked.stderr
    address = httpx.URL(json.loads(asked.stdout)["url"])
    origin = f"http://{address.host}:{address.port}"

    with httpx.Client(base_url=origin, timeout=300, follow_redirects=True) as browser:
        assert "and was never started." in browser.get(address).text
        page = browser.get("/roas/do/pause/shop").text
        form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page)) | {"reason": "maintenance"}
        sent = browser.post("/roas/do/pause/shop", data=form, headers={"origin": origin})
        ended = eventually(lambda: "refresh" not in (last := browser.get(sent.url)).headers and last, "it ends")

    assert "automatic recovery of every service is off" in ended.text
    assert not is_gone(commands.server())
    with Stores.open(Settings(data_dir=commands.home.parent)) as stores:
        (pause,) = stores.pauses.active(datetime.now(UTC))
    assert (pause.environment, pause.reason) == ("shop", "maintenance")


@pytest.mark.campaign
def test_events_for_a_server_that_is_gone_do_not_keep_a_command_from_its_end(tmp_path: Path) -> None:
    program = (
        "from prefect.events import emit_event\n"
        "from flows.common.terminal import send_log, speak_plainly\n"
        "with speak_plainly():\n"
        "    for number in range(40):\n"
        "        emit_event('tried', {'prefect.resource.id': f'roas.{number}'})\n"
        "    send_log()\n"
    )
    api = {"PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api", "PREFECT_HOME": str(tmp_path)}

    # Prefect tries each for seven seconds.
    ended = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=os.environ | api | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=140,
    )

    assert ended.stderr == ""
