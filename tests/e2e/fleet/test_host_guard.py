"""Two hosts at one real Prefect server: each does its own work with its own credential, and nothing of the other's."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from adapters.server import membership
from adapters.server.host_keys import HostKeys
from models.enrolment import KeyState, Membership
from models.failures import BadInputError, RoasError
from models.settings import Settings
from tests.support.prefect_server import own_server

pytestmark = [pytest.mark.flow, pytest.mark.campaign(seconds=1)]

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Server:
    url: str
    home: Path
    auth_string: str

    @property
    def keys(self) -> HostKeys:
        return HostKeys(self.home)

    @property
    def root(self) -> str:
        return self.url.removesuffix("/api")


@dataclass(frozen=True)
class GuardClient:
    """Asks the API with one credential, as Prefect's own client does."""

    url: str
    auth_string: str

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        user, _, password = self.auth_string.partition(":")
        with httpx.Client(auth=(user, password), timeout=300) as client:
            name = str(uuid.uuid4())
            token = client.get(f"{self.url}/csrf-token", params={"client": name})
            headers = {"Prefect-Csrf-Client": name}
            if token.is_success:
                headers["Prefect-Csrf-Token"] = token.json()["token"]
            return client.request(method, self.url + path, json=body, headers=headers)

    def made(self, path: str, body: Any) -> Any:
        # A server whose SQLite database is busy answers 503, and Prefect's client asks again, too.
        while (answer := self.ask("POST", path, body)).status_code == httpx.codes.SERVICE_UNAVAILABLE:
            time.sleep(0.2)
        assert answer.is_success, answer.text
        return answer.json()


@dataclass(frozen=True)
class GuardedHost:
    member: Membership
    client: GuardClient
    flow: str
    deployment: str
    run: str
    task: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    from adapters.server.credentials import server_credentials

    home = tmp_path_factory.mktemp("prefect") / "home"
    with own_server(home) as url:
        yield Server(url, home, server_credentials(home).auth_string)


@pytest.fixture(scope="module")
def hosts(server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[GuardedHost, GuardedHost]:
    return _enrolled(server, "alpha", tmp_path_factory), _enrolled(server, "beta", tmp_path_factory)


def _enrolled(server: Server, name: str, folders: pytest.TempPathFactory) -> GuardedHost:
    token = server.keys.invite(name, datetime.now(UTC), DAY).token
    settings = Settings(data_dir=folders.mktemp(name))
    member = membership.enrol(server.root, token, f"identity-of-{name}", "9.9.9", settings)
    assert membership.read_membership(settings) == member
    client = GuardClient(server.url, member.auth_string)
    flow = client.made("/flows/", {"name": "startup"})["id"]
    deployment = client.made("/deployments/", _deployment(flow, f"shop-{name}", member.pool))["id"]
    run = client.made(f"/deployments/{deployment}/create_flow_run", {})["id"]
    task = client.made("/task_runs/", {"flow_run_id": run, "task_key": "t", "dynamic_key": name, "name": name})["id"]
    return GuardedHost(member, client, flow, deployment, run, task)


def _deployment(flow: str, name: str, pool: str) -> dict[str, Any]:
    return {"flow_id": flow, "name": name, "work_pool_name": pool, "entrypoint": "flows.deployment.startup.startup"}


@pytest.mark.campaign(seconds=15)
def test_a_host_does_all_that_its_worker_and_runs_do(hosts: tuple[GuardedHost, GuardedHost]) -> None:
    host, _ = hosts
    pool, client = host.member.pool, host.client
    now = datetime.now(UTC).isoformat()
    assert client.ask("GET", f"/work_pools/{pool}").json()["type"] == "process"
    waiting = client.made(f"/work_pools/{pool}/get_scheduled_flow_runs", {"scheduled_before": now})
    assert [one["flow_run"]["id"] for one in waiting] == [host.run]
    running = {"state": {"type": "RUNNING", "name": "Running"}, "force": True}
    assert client.made(f"/flow_runs/{host.run}/set_state", running)["status"] == "ACCEPT"
    line = {"name": "roas", "level": 20, "message": "begins", "timestamp": now, "flow_run_id": host.run}
    # The server records a task's run by its events, which may come after its lines.
    lines = [line | {"task_run_id": one} for one in (None, host.task, str(uuid.uuid4()))]
    assert client.ask("POST", "/logs/", lines).status_code == 201
    made = client.made("/artifacts/", {"key": "start-shop", "type": "markdown", "data": "x", "flow_run_id": host.run})
    assert client.ask("PATCH", f"/artifacts/{made['id']}", {"data": "y"}).status_code == 204
    task = {"flow_run_id": host.run, "task_key": "t", "dynamic_key": "0", "name": "t"}
    child = {"flow_id": host.flow, "parent_task_run_id": client.made("/task_runs/", task)["id"]}
    below = client.made("/flow_runs/", child)["id"]
    assert client.ask("GET", f"/flow_runs/{below}").status_code == 200
    typed = client.made("/flow_runs/", {"flow_id": host.flow})["id"]
    assert client.ask("PATCH", f"/flow_runs/{typed}", {"name": "start shop"}).status_code == 204
    trigger = {
        "name": "recover shop",
        "trigger": {
            "type": "event",
            "expect": ["roas.service.unhealthy"],
            "match": {"roas.environment": "shop-alpha"},
            "posture": "Reactive",
            "threshold": 1,
        },
        "actions": [{"type": "run-deployment", "source": "selected", "deployment_id": host.deployment}],
        "owner_resource": f"prefect.deployment.{host.deployment}",
    }
    client.made("/automations/", trigger)
    assert client.ask("DELETE", f"/automations/owned-by/prefect.deployment.{host.deployment}").status_code == 202
    again = client.made("/deployments/", _deployment(host.flow, "shop-alpha", pool))
    assert again["id"] == host.deployment


REQUESTS = (
    ("GET", "/work_pools/{pool}", None),
    ("POST", "/work_pools/{pool}/get_scheduled_flow_runs", {}),
    ("GET", "/deployments/{deployment}", None),
    ("GET", "/deployments/name/startup/shop-beta", None),
    ("PATCH", "/deployments/{deployment}", {"entrypoint": "evil"}),
    ("DELETE", "/deployments/{deployment}", None),
    ("POST", "/deployments/{deployment}/create_flow_run", {}),
    ("POST", "/deployments/", {"flow_id": "{flow}", "name": "shop-beta", "work_pool_name": "{mine}"}),
    ("POST", "/deployments/", {"flow_id": "urn:uuid:{flow}", "name": "shop-beta", "work_pool_name": "{mine}"}),
    ("POST", "/deployments/", {"flow_id": "{flow}", "name": "new", "work_pool_name": "{pool}"}),
    ("POST", "/deployments/", {"flow_id": "{flow}", "name": "new"}),
    ("GET", "/flow_runs/{run}", None),
    ("DELETE", "/flow_runs/{run}", None),
    ("POST", "/flow_runs/{run}/set_state", {"state": {"type": "CANCELLED"}, "force": True}),
    ("POST", "/flow_runs/", {"flow_id": "{flow}", "deployment_id": "{deployment}"}),
    ("POST", "/logs/", [{"name": "x", "level": 20, "message": "forged", "flow_run_id": "{run}"}]),
    ("POST", "/artifacts/", {"key": "x", "type": "markdown", "data": "forged", "flow_run_id": "{run}"}),
    ("POST", "/task_runs/", {"flow_run_id": "{run}", "task_key": "t", "dynamic_key": "0"}),
    ("POST", "/task_runs/", {"id": "{task}", "flow_run_id": "{my_run}", "task_key": "t", "dynamic_key": "9"}),
    (
        "POST",
        "/logs/",
        [
            {
                "name": "x",
                "level": 20,
                "message": "forged",
                "timestamp": "2026-01-02T03:04:05Z",
                "flow_run_id": "{my_run}",
                "task_run_id": "{task}",
            }
        ],
    ),
    (
        "POST",
        "/artifacts/",
        {"key": "x", "type": "markdown", "data": "forged", "flow_run_id": "{my_run}", "task_run_id": "{task}"},
    ),
    (
        "POST",
        "/automations/",
        {
            "name": "x",
            "owner_resource": "prefect.deployment.{my_deployment}",
            "trigger": {"type": "event", "match": {"roas.environment": "shop-beta"}, "posture": "Reactive"},
            "actions": [{"type": "run-deployment", "source": "selected", "deployment_id": "{my_deployment}"}],
        },
    ),
    (
        "POST",
        "/automations/",
        {
            "name": "x",
            "owner_resource": "prefect.deployment.{my_deployment}",
            "actions": [{"type": "run-deployment", "source": "selected", "deployment_id": "{deployment}"}],
        },
    ),
    (
        "POST",
        "/automations/",
        {
            "name": "x",
            "owner_resource": "prefect.deployment.{my_deployment}",
            "actions": [{"type": "run-deployment", "source": "inferred"}],
        },
    ),
    ("POST", "/events", [{"event": "x", "resource": {"prefect.resource.id": "prefect.flow-run.{run}"}}]),
    ("POST", "/flow_runs/bulk_delete", {}),
    ("POST", "/block_documents/filter", {}),
    ("GET", "/block_types/slug/slack-webhook/block_documents/name/beta--alerts", None),
    ("GET", "/block_types/slug/slack-webhook/block_documents/name/alpha-2--alerts", None),
    ("GET", "/variables/name/x", None),
    ("POST", "/admin/database/clear", {"confirm": True}),
    ("GET", "/admin/settings", None),
)


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS, ids=lambda one: one if isinstance(one, str) else "")
def test_a_host_can_do_nothing_to_what_is_anothers(
    hosts: tuple[GuardedHost, GuardedHost], server: Server, method: str, path: str, body: Any
) -> None:
    host, other = hosts
    words = {
        "pool": other.member.pool,
        "deployment": other.deployment,
        "flow": other.flow,
        "run": other.run,
        "task": other.task,
        "mine": host.member.pool,
        "my_run": host.run,
        "my_deployment": host.deployment,
    }

    def filled(text: str) -> str:
        for name, value in words.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    everything = GuardClient(server.url, server.auth_string)
    before = everything.ask("GET", f"/deployments/{other.deployment}").json()
    answer = host.client.ask(method, filled(path), json.loads(filled(json.dumps(body))))
    assert answer.status_code == 403, answer.text
    assert answer.json()["detail"].startswith("Refused to host alpha: ")
    assert everything.ask("GET", f"/deployments/{other.deployment}").json() == before
    assert everything.ask("GET", f"/flow_runs/{other.run}").status_code == 200


def test_events_of_another_host_are_left_out(hosts: tuple[GuardedHost, GuardedHost], server: Server) -> None:
    host, other = hosts
    mine, foreign = f"mine.{uuid.uuid4()}", f"foreign.{uuid.uuid4()}"
    with _socket(server, "/events/in", host.member.auth_string) as socket:
        for name, run in ((foreign, other.run), (mine, host.run)):
            socket.send(json.dumps(_event(name, {"prefect.resource.id": f"prefect.flow-run.{run}"})))
        about = {"prefect.resource.id": "roas.shop-beta.web", "roas.environment": "shop-beta"}
        socket.send(json.dumps(_event(foreign, about)))
        everything = GuardClient(server.url, server.auth_string)
        _until(lambda: _count(everything, mine) == 1)
    assert _count(everything, foreign) == 0


def test_a_task_run_is_not_taken_over_by_an_event(hosts: tuple[GuardedHost, GuardedHost], server: Server) -> None:
    host, other = hosts
    everything = GuardClient(server.url, server.auth_string)
    mine = str(uuid.uuid4())
    with _socket(server, "/events/in", host.member.auth_string) as socket:
        for task in (other.task, mine):
            socket.send(json.dumps(_task_event(task, task, host.run)))
        # What is inside replaces what the resource says.
        socket.send(json.dumps(_task_event(str(uuid.uuid4()), other.task, host.run)))
        socket.send(json.dumps(_task_event(last := str(uuid.uuid4()), last, host.run)))
        _until(lambda: everything.ask("GET", f"/task_runs/{last}").status_code == 200)
    assert everything.ask("GET", f"/task_runs/{mine}").json()["flow_run_id"] == host.run
    found = everything.ask("GET", f"/task_runs/{other.task}").json()
    assert (found["flow_run_id"], found["name"]) == (other.run, "beta")


def _task_event(resource: str, task: str, run: str) -> dict[str, Any]:
    role = {"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"}
    about = {"prefect.resource.id": f"prefect.task-run.{resource}", "prefect.orchestration": "client"}
    state = {"type": "COMPLETED", "name": "Completed"}
    given = {"id": task, "name": "taken", "task_key": task, "dynamic_key": "0"}
    return {
        **_event("prefect.task-run.Completed", about),
        "related": [role],
        "payload": {"validated_state": state, "task_run": given},
    }


def test_what_the_server_cannot_tell_now_is_to_be_asked_again_and_is_not_refused(
    hosts: tuple[GuardedHost, GuardedHost], server: Server
) -> None:
    host, other = hosts
    deployment = host.client.made("/deployments/", _deployment(host.flow, "not-looked-up", host.member.pool))["id"]
    with closing(sqlite3.connect(server.home / "prefect.db", timeout=60, isolation_level=None)) as database:
        database.execute("ALTER TABLE deployment RENAME TO deployment_away")
        try:
            found = host.client.ask("GET", f"/deployments/{deployment}")
            assert found.status_code == 503, found.text
            assert "the server could not find out to whom it belongs (status 500)" in found.text
        finally:
            database.execute("ALTER TABLE deployment_away RENAME TO deployment")
    assert host.client.ask("GET", f"/deployments/{deployment}").json()["name"] == "not-looked-up"
    assert other.client.ask("GET", f"/deployments/{deployment}").status_code == 403


def test_a_search_finds_what_belongs_to_the_host(hosts: tuple[GuardedHost, GuardedHost]) -> None:
    host, other = hosts
    anothers = {"work_pools": {"name": {"any_": [other.member.pool]}}}
    for given in ({}, anothers, {"flow_runs": {"id": {"any_": [host.run, other.run]}}}):
        found = host.client.made("/flow_runs/filter", given)
        assert {one["work_pool_name"] for one in found} == {host.member.pool}
        assert host.run in {one["id"] for one in found}


def test_a_host_hears_of_its_own_runs_alone(hosts: tuple[GuardedHost, GuardedHost], server: Server) -> None:
    host, other = hosts
    everything = GuardClient(server.url, server.auth_string)
    name = f"seen.{uuid.uuid4()}"
    for run in (other.run, host.run):
        event = _event(name, {"prefect.resource.id": f"prefect.flow-run.{run}"})
        assert everything.ask("POST", "/events", [event]).is_success
    _until(lambda: _count(everything, name) == 2)
    with _socket(server, "/events/out", host.member.auth_string) as socket:
        socket.send(json.dumps({"type": "filter", "filter": {"event": {"name": [name]}}}))
        received = json.loads(socket.recv(timeout=300))["event"]["resource"]["prefect.resource.id"]
        assert received == f"prefect.flow-run.{host.run}"


@pytest.mark.parametrize("path", ["/logs/out", "/work_pools/host-beta/workers/connect"])
@pytest.mark.parametrize("with_header", [True, False])
def test_a_host_opens_no_socket_but_its_own(
    hosts: tuple[GuardedHost, GuardedHost], server: Server, path: str, with_header: bool
) -> None:
    with pytest.raises((WebSocketException, OSError)), _socket(server, path, hosts[0].member.auth_string, with_header):
        pass


def test_a_revoked_credential_no_longer_works(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    host = _enrolled(server, "gamma", tmp_path_factory)
    server.keys.revoke("gamma", datetime.now(UTC))
    _until(lambda: host.client.ask("GET", f"/work_pools/{host.member.pool}").status_code == 401)
    with pytest.raises((WebSocketException, OSError)), _socket(server, "/events/in", host.member.auth_string):
        pass


def test_names_of_a_revoked_host_are_free_for_another(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    gone, other = (_enrolled(server, name, tmp_path_factory) for name in ("gone", "other"))
    wanted = _deployment(gone.flow, "shop-gone", other.member.pool)
    refused = other.client.ask("POST", "/deployments/", wanted)
    assert (refused.status_code, "belongs to another host" in refused.text) == (403, True)

    server.keys.revoke("gone", datetime.now(UTC))
    made = other.client.made("/deployments/", wanted)

    assert made["work_pool_name"] == other.member.pool
    owner = GuardClient(server.url, server.auth_string)
    assert owner.ask("GET", f"/work_pools/{gone.member.pool}").status_code == 404
    # What a host has that is not revoked stays its own.
    assert other.client.ask("GET", f"/deployments/{other.deployment}").status_code == 200
    third = _enrolled(server, "third", tmp_path_factory)
    assert third.client.ask("POST", "/deployments/", wanted | {"work_pool_name": third.member.pool}).status_code == 403


@pytest.mark.campaign(seconds=30)
def test_of_a_revoked_host_with_many_environments_nothing_is_left(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    gone, other = (_enrolled(server, name, tmp_path_factory) for name in ("many", "few"))
    owner = GuardClient(server.url, server.auth_string)
    for number in range(201):
        owner.made("/deployments/", _deployment(gone.flow, f"many-{number}", gone.member.pool))
    server.keys.revoke("many", datetime.now(UTC))

    other.client.made("/deployments/", _deployment(gone.flow, "many-200", other.member.pool))

    left = {"deployments": {"name": {"like_": "many-"}}, "flows": {"id": {"any_": [gone.flow]}}}
    found = owner.made("/deployments/filter", left)
    assert [(one["name"], one["work_pool_name"]) for one in found] == [("many-200", other.member.pool)]


def test_a_token_works_once_for_one_host_and_is_never_kept(server: Server, tmp_path: Path) -> None:
    token = server.keys.invite("delta", datetime.now(UTC), DAY).token
    settings = Settings(data_dir=tmp_path / "one")
    member = membership.enrol(server.root, token, "identity", "9.9.9", settings)
    kept = (server.home / "hosts" / "delta.json").read_text()
    assert token.partition(".")[2] not in kept
    assert member.key not in kept
    assert (tmp_path / "one" / "control-plane.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(RoasError, match=r"refuses: The token is not known, was used"):
        membership.enrol(server.root, token, "another host", "9.9.9", Settings(data_dir=tmp_path / "two"))
    with pytest.raises(BadInputError, match="is enrolled at"):
        membership.enrol(server.root, token, "identity", "9.9.9", settings)
    # Where the answer was lost, the same host asks again, and its first key works no more.
    again = membership.enrol(server.root, token, "identity", "9.9.9", Settings(data_dir=tmp_path / "three"))
    assert GuardClient(server.url, again.auth_string).ask("GET", f"/work_pools/{again.pool}").status_code == 200
    assert GuardClient(server.url, member.auth_string).ask("GET", f"/work_pools/{again.pool}").status_code == 401


def test_a_host_that_leaves_takes_its_deployments_along(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    host = _enrolled(server, "omega", tmp_path_factory)
    settings = Settings(data_dir=tmp_path_factory.mktemp("omega-data"))
    membership.leave(host.member, settings, tell=True)
    everything = GuardClient(server.url, server.auth_string)
    assert everything.ask("GET", f"/deployments/{host.deployment}").status_code == 404
    assert everything.ask("GET", f"/work_pools/{host.member.pool}").status_code == 404
    assert {one.name: one.state(datetime.now(UTC)) for one in server.keys.all()}["omega"] is KeyState.REVOKED


def _socket(server: Server, path: str, auth_string: str, with_header: bool = True) -> Any:
    import base64

    header = {"Authorization": "Basic " + base64.b64encode(auth_string.encode()).decode()} if with_header else {}
    socket = connect(
        server.url.replace("http", "ws") + path,
        additional_headers=header,
        subprotocols=["prefect"],  # type: ignore[list-item]
        proxy=None,
    )
    socket.send(json.dumps({"type": "auth", "token": auth_string}))
    assert json.loads(socket.recv(timeout=300))["type"] == "auth_success"
    return socket


def _event(name: str, resource: dict[str, str]) -> dict[str, Any]:
    return {
        "event": name,
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "resource": resource,
        "related": [],
        "payload": {},
    }


def _count(client: GuardClient, event: str) -> int:
    found = client.ask("POST", "/events/filter", {"filter": {"event": {"name": [event]}}})
    assert found.is_success, found.text
    total: int = found.json()["total"]
    return total


def _until(holds: Any) -> None:
    from tenacity import Retrying, stop_after_delay, wait_fixed

    for attempt in Retrying(stop=stop_after_delay(60), wait=wait_fixed(0.5), reraise=True):
        with attempt:
            assert holds()
