"""What a stranger is refused by the Prefect server that `roas` runs: each test makes an attack."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
import pytest
from prefect import Flow, get_client
from prefect.blocks.system import Secret
from prefect.exceptions import PrefectHTTPStatusError
from prefect.serializers import JSONSerializer
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from adapters.server.credentials import encryption_key, server_credentials
from flows.deployment.startup import startup
from flows.recovery.error_recovery import error_recovery
from flows.server.embedded import RUN_SETTINGS, listener_is_ours, prefect_api
from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.failures import BadInputError
from models.settings import Settings
from tasks.recovery.actions import STEPS
from tasks.recovery.records import record_error_of_the_run
from tasks.runtime.clients import find_environment
from tasks.runtime.stores import open_stores
from tests.e2e.flows.conftest import Place
from tests.support import patient_http
from tests.support.ports import free_port
from tests.support.prefect_server import ask, copy_database, own_server, server_variables

pytestmark = pytest.mark.flow

ROOT = Path(__file__).parents[3]
PROGRAMS = Path(sys.executable).parent
NOBODY = 65534
ATTACK = """
services:
  root:
    image: debian:trixie-slim
    privileged: true
    volumes: ["/:/host"]
    command: [touch, /host/tmp/roas-was-here]
"""


@dataclass(frozen=True)
class ServerTarget:
    """A server with its UI, and the password that its owner has."""

    url: str
    auth_string: str

    @property
    def port(self) -> int:
        port = httpx.URL(self.url).port
        assert port is not None
        return port

    def post(self, **headers: str) -> httpx.Response:
        """What a program without Prefect's client sends to change something."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return patient_http.post(f"{self.url}/flow_runs/filter", json={}, headers=named)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerTarget]:
    with own_server(tmp_path_factory.mktemp("prefect") / "home", with_ui=True) as url:
        yield ServerTarget(url, server_variables()["PREFECT_API_AUTH_STRING"])


def basic(auth_string: str) -> str:
    user, _, password = auth_string.partition(":")
    header = httpx.BasicAuth(user, password)
    request = next(header.auth_flow(httpx.Request("GET", "http://x")))
    return request.headers["Authorization"]


@pytest.mark.parametrize("given", [{}, {"Authorization": basic("roas:guess")}, {"Authorization": "Bearer guess"}])
def test_without_the_password_nothing_is_answered(target: ServerTarget, given: dict[str, str]) -> None:
    for path in ("admin/version", "deployments/paginate", "csrf-token?client=x", "docs", "openapi.json"):
        assert patient_http.get(f"{target.url}/{path}", headers=given).status_code == 401, path
    assert target.post(**given).status_code in (401, 403)


def test_whoever_has_the_password_still_needs_the_token_of_a_page_of_ours(target: ServerTarget) -> None:
    login = basic(target.auth_string)

    bare = target.post(Authorization=login)
    guessed = target.post(Authorization=login, Prefect_Csrf_Token="guess", Prefect_Csrf_Client="guess")

    assert (bare.status_code, bare.json()) == (403, {"detail": "Missing CSRF token."})
    assert guessed.status_code == 403


@pytest.mark.parametrize("origin", ["http://attacker.example", "http://127.0.0.1:1", "null", "https://127.0.0.1"])
def test_a_page_of_another_origin_is_refused_and_can_read_nothing(target: ServerTarget, origin: str) -> None:
    login = {"Authorization": basic(target.auth_string)}
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }

    preflight = httpx.options(f"{target.url}/flow_runs/", headers=asked)
    read = patient_http.get(f"{target.url}/admin/version", headers=login | {"Origin": origin})

    for answer in (preflight, read):
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def test_the_ui_s_own_page_is_answered_by_either_name_of_the_loopback(target: ServerTarget) -> None:
    for name in ("127.0.0.1", "localhost"):
        origin = f"http://{name}:{target.port}"
        headers = {"Authorization": basic(target.auth_string), "Origin": origin}
        answer = patient_http.get(f"{origin}/api/admin/version", headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == origin
    page = patient_http.get(f"http://127.0.0.1:{target.port}/")
    assert page.status_code == 200
    assert page.headers["x-frame-options"] == "DENY"
    assert patient_http.get(f"{target.url}/health").json() is True


@pytest.mark.parametrize("host", ["attacker.example", "attacker.example:{port}", "127.0.0.1", "127.0.0.1:1", ""])
def test_a_name_that_was_rebound_to_this_machine_is_refused(target: ServerTarget, host: str) -> None:
    headers = {"Host": host.format(port=target.port), "Authorization": basic(target.auth_string)}
    assert patient_http.get(f"{target.url}/admin/version", headers=headers).status_code == 403


def test_events_and_logs_are_closed_to_whoever_lacks_the_password(target: ServerTarget) -> None:
    address = target.url.replace("http", "ws", 1)
    for path in ("events/in", "events/out", "logs/out"):
        with connect(f"{address}/{path}", subprotocols=["prefect"]) as opened:
            opened.send(json.dumps({"type": "auth", "token": "guess"}))
            with pytest.raises(ConnectionClosed):
                opened.recv()
        with pytest.raises(InvalidStatus), connect(f"{address}/{path}", origin="http://attacker.example"):
            pass


async def test_our_own_clients_are_let_in(target: ServerTarget) -> None:
    async with get_client() as client:
        assert await client.api_healthcheck() is None
        await client.read_flow_runs(limit=1)
    auth = json.dumps({"type": "auth", "token": target.auth_string})
    address = target.url.replace("http", "ws", 1)
    with connect(f"{address}/events/out", subprotocols=["prefect"]) as opened:
        opened.send(auth)
        assert json.loads(opened.recv())["type"] == "auth_success"


async def deployed(flow: Flow[..., Any]) -> UUID:
    return await (await flow.ato_deployment(name="test", enforce_parameter_schema=True)).aapply()


async def end_of(run: UUID) -> str:
    """Let a process run it, as a runner does; the state that it ends in, in one line."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect.engine"], cwd=ROOT, capture_output=True, text=True, check=False,
        env=server_variables() | RUN_SETTINGS | {"PREFECT__FLOW_RUN_ID": str(run)},
    )  # fmt: skip
    async with get_client() as client:
        state = (await client.read_flow_run(run)).state
    assert state is not None
    return f"{state.name}: {state.message} {done.returncode}"


@pytest.mark.parametrize(
    "flow",
    [startup, pytest.param(error_recovery, marks=pytest.mark.campaign)],
    ids=lambda flow: str(flow.name),
)
async def test_a_run_of_a_deployment_that_names_a_compose_file_fails_and_touches_nothing(
    target: ServerTarget, place: Place, flow: Flow[..., Any]
) -> None:
    deployment = await deployed(flow)
    (place.folder / "attack.yaml").write_text(ATTACK)
    more = {"text": "ERROR: x", "service": "root"} if flow is error_recovery else {}
    parameters = {"environment": place.project, "compose_files": [str(place.folder / "attack.yaml")], **more}
    async with get_client() as client:
        offered = (await client.read_deployment(deployment)).parameter_openapi_schema
        run = await client.create_flow_run_from_deployment(deployment, parameters=parameters)

    ended = await end_of(run.id)

    assert "compose_files" not in offered["properties"]
    assert "A run of a deployment may not name the Compose file" in ended
    assert ended.startswith("Failed")
    assert place.containers() == []
    assert open_stores().operations.history(limit=5) == []


@pytest.mark.parametrize("name", ["../../etc/x", "/etc/passwd", "dev/../dev", "dev\x00", "", "DEV"])
async def test_an_environment_is_a_plain_name(target: ServerTarget, place: Place, name: str) -> None:
    deployment = await deployed(startup)

    async with get_client() as client:
        with pytest.raises(PrefectHTTPStatusError) as refused:
            await client.create_flow_run_from_deployment(deployment, parameters={"environment": name})

    assert refused.value.response.status_code in (409, 422)


@pytest.mark.campaign(seconds=12)
async def test_a_run_that_is_made_beside_its_deployment_takes_no_path_either(
    target: ServerTarget, place: Place
) -> None:
    """The endpoint of runs without a deployment checks no schema."""
    deployment = await deployed(startup)
    async with get_client() as client:
        run = await client.create_flow_run(startup, parameters={"environment": "../../etc/x"})
        body = {"deployment_id": str(deployment), "flow_id": str(run.flow_id), "name": "beside"}
        made = await client.request("POST", "/flow_runs/", json=body | {"parameters": {"environment": "../../etc/x"}})

    ended = await end_of(UUID(made.json()["id"]))

    assert ended.startswith("Failed")
    assert "should match pattern" in ended
    assert open_stores().operations.history(limit=5) == []


def test_only_files_below_a_declared_root_may_be_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed, outside = place.folder / "allowed", place.folder / "outside"
    for folder in (allowed, outside):
        folder.mkdir()
        (folder / "compose.yaml").write_text(ATTACK)
    (allowed / "link.yaml").symlink_to(outside / "compose.yaml")
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "a run of a worker")
    monkeypatch.setenv("ROAS_COMPOSE_ROOTS", f"{allowed}:{place.folder}/nowhere")

    assert find_environment("x", (str(allowed / "compose.yaml"),)).compose_files == (allowed / "compose.yaml",)
    for path in (outside / "compose.yaml", allowed / ".." / "outside" / "compose.yaml", allowed / "link.yaml"):
        with pytest.raises(BadInputError, match="may not name the Compose file"):
            find_environment("x", (str(path),))


LISTENER = """
import os, socket, sys
os.setgroups([])
os.setuid(int(sys.argv[2]))
listening = socket.socket()
listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listening.bind(("127.0.0.1", int(sys.argv[1])))
listening.listen()
print("listens", flush=True)
while True:
    peer, _ = listening.accept()
    print(peer.recv(4096), flush=True)
    peer.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 7\\r\\nConnection: close\\r\\n\\r\\n\\"3.9.1\\"")
    peer.close()
"""


@contextmanager
def listener_of(user: int, port: int) -> Iterator[subprocess.Popen[str]]:
    """A program of another user that answers on a port as a Prefect server does, and writes down what it hears."""
    command = [sys.executable, "-c", LISTENER, str(port), str(user)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listens\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_program_of_another_user_on_our_port_gets_no_password(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    monkeypatch.setenv("ROAS_SERVER_PORT", str(port))
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME"):
        monkeypatch.setenv(name, "")

    with listener_of(NOBODY, port) as stranger, prefect_api(Settings()):
        used = os.environ["PREFECT_API_URL"]
        stranger.kill()
        received = stranger.stdout.read() if stranger.stdout else ""

    assert received == ""
    assert used != f"http://127.0.0.1:{port}/api"
    said = capsys.readouterr().err
    assert f"Port {port} is held by user nobody (uid {NOBODY})" in said
    assert said.count("\n") == 1


def test_a_listener_of_our_own_is_taken_and_none_is_not() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        assert not listener_is_ours(port)
        listening.listen()
        assert listener_is_ours(port)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_credentials_are_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "data" / "prefect"
    first = server_credentials(home)

    assert server_credentials(home) == first
    assert len(first.auth_string) == len("roas:") + 48
    assert first.auth_string not in repr(first)
    assert (mode(home), mode(first.auth_file)) == (0o700, 0o600)
    home.chmod(0o755)
    first.auth_file.chmod(0o644)
    server_credentials(home)
    assert (mode(home), mode(first.auth_file)) == (0o700, 0o600)


def test_no_password_is_on_a_command_line_or_in_the_server_s_log(target: ServerTarget, tmp_path: Path) -> None:
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "flows.server.server_process" in shown
    assert target.auth_string.removeprefix("roas:") not in shown


@contextmanager
def earlier_server(home: Path) -> Iterator[dict[str, str]]:
    """The server of an earlier version: no password, its key of encrypted blocks in its database."""
    port = free_port()
    environment = {
        **os.environ, "PREFECT_HOME": str(home), "PREFECT_API_URL": "", "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
    }  # fmt: skip
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    with subprocess.Popen([*command, "--port", str(port), "--log-level", "error"], env=environment) as process:
        url = f"http://127.0.0.1:{port}/api"
        try:
            while not _is_up(url):
                assert process.poll() is None
                time.sleep(0.1)
            yield os.environ | {"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": ""}
        finally:
            process.terminate()


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


SAVE = "from prefect.blocks.system import Secret; Secret(value='hook-planted-91').save('hook')"


@pytest.mark.campaign
def test_the_key_of_encrypted_blocks_leaves_the_database_and_what_it_encrypted_stays_readable(tmp_path: Path) -> None:
    home = tmp_path / "prefect"
    copy_database(home)
    with earlier_server(home) as environment:
        subprocess.run([sys.executable, "-c", SAVE], env=environment, check=True, capture_output=True)
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        (row,) = database.execute("select value from configuration where key = 'ENCRYPTION_KEY'").fetchone()
    key = json.loads(row)["fernet_key"]

    with own_server(home):
        block = Secret.load("hook", _sync=True)
        assert isinstance(block, Secret)
        assert block.get() == "hook-planted-91"

    anew, moved = encryption_key(home)
    assert (anew != key, moved) == (True, False)
    assert mode(home / "encryption_key") == 0o600
    for file in home.glob("prefect.db*"):
        assert key.encode() not in file.read_bytes(), file


@pytest.mark.campaign
def test_a_fresh_server_never_has_its_key_in_the_database(target: ServerTarget, tmp_path: Path) -> None:
    home = tmp_path / "prefect"
    with own_server(home, new_database=True):
        Secret(value="hook-planted-92").save("hook", _sync=True)
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        assert database.execute("select count(*) from configuration where key = 'ENCRYPTION_KEY'").fetchone() == (0,)


def test_kept_results_are_json_and_come_back_as_they_were() -> None:
    verdict = Verdict(
        category=Category.UNKNOWN, severity=Severity.CRITICAL, confidence=0.5, strategy=Strategy.NONE, reason="x",
        span=(0, 1),
    )  # fmt: skip
    now = datetime.now(UTC)
    error = RecordedError(
        error_id="e", environment="dev", text="x", source="person", verdict=verdict, first_seen=now, last_seen=now,
        evidence={"dependencies_down": ["db"]},
    )  # fmt: skip

    assert JSONSerializer().loads(JSONSerializer().dumps(error)) == error
    assert {one.result_serializer for one in (*STEPS.values(), record_error_of_the_run)} == {"json"}
    assert RUN_SETTINGS["PREFECT_RESULTS_DEFAULT_SERIALIZER"] == "json"


@contextmanager
def serving(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`roas serve` in a folder that has the checkout's settings of the engine."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "ROAS_"))}
    places = {
        "ROAS_DATA_DIR": str(folder / "data"),
        "ROAS_SERVER_PORT": str(port),
        "ROAS_ENVIRONMENTS_DIR": str(folder),
    }
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAMS / "roas", "serve"], cwd=folder, env=variables | places, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def started_by(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes that it started and that run."""
    return [child.pid for child in psutil.Process(process.pid).children()]


def runs(pid: int) -> bool:
    try:
        # An orphan that has ended may wait for a parent that never asks.
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.campaign
def test_the_prefect_command_line_is_let_in_while_roas_serve_runs_which_ends_soon_with_all_its_runs(
    place: Place,
) -> None:
    place.declare("web:\n  image: roas-test/never-built:1\n")
    port = free_port()
    folder = place.folder
    with serving(folder, port) as process:
        profile = folder / "data" / "prefect" / "profiles.toml"
        deadline = time.monotonic() + 300
        while "watching test\n" not in (folder / "serve.log").read_text():
            assert process.poll() is None, (folder / "serve.log").read_text()
            assert time.monotonic() < deadline, (folder / "serve.log").read_text()
            time.sleep(0.2)
        modes = (mode(profile), mode(folder / "data" / "prefect"))
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "ROAS_"))}
        begun = subprocess.run(
            [PROGRAMS / "prefect", "deployment", "run", "drift/test"], cwd=folder, env=variables,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        children = started_by(process)

        process.send_signal(signal.SIGTERM)
        # Ten seconds, and what a busy machine takes.
        process.wait(timeout=300)

        assert modes == (0o600, 0o700)
        assert begun.returncode == 0, begun.stdout + begun.stderr
        assert process.returncode == 0
        assert not any(map(runs, children))
        assert not profile.exists()
        password = (folder / "data" / "prefect" / "auth_string").read_text().removeprefix("roas:")
        assert password not in (folder / "serve.log").read_text()
        assert str(folder / "data" / "prefect" / "auth_string") in (folder / "serve.log").read_text()


@pytest.mark.campaign
def test_a_server_ends_when_the_process_that_started_it_is_killed(place: Place) -> None:
    place.declare("web:\n  image: roas-test/never-built:1\n")
    with serving(place.folder, free_port()) as process:
        while not (children := started_by(process)):
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 300
        while runs(children[0]):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_the_api_tells_the_owner_what_runs(target: ServerTarget) -> None:
    assert isinstance(ask(target.url, target.auth_string, "flow_runs/filter", {}), list)
