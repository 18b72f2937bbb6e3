"""A host enrols at a control plane by one command, works and heals there, is shut out, and leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.enrolment import KeyState
from tests.e2e.fleet.conftest import LocalHost, made_host
from tests.e2e.fleet.control_plane import ControlPlane
from tests.support.prefect_server import own_server

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    home = tmp_path_factory.mktemp("plane") / "home"
    with own_server(home) as url:
        yield ControlPlane(url, home)


def test_one_command_makes_a_host_that_works_and_heals_and_leaves(host: LocalHost, plane: ControlPlane) -> None:
    name = host.declare()
    said = host.roas("join", plane.address, plane.invite("alpha"), "--no-service")
    assert f"enrolled at {plane.address} as alpha, work pool host-alpha" in said
    assert plane.deployments("host-alpha") == {name}
    assert json.loads((host.settings.data_dir / "host.json").read_text())["name"] == "alpha"
    host.begin(PREFECT_WORKER_QUERY_SECONDS="1")
    run = plane.begin(f"startup/{name}")
    host.until(lambda: plane.state(run) == "COMPLETED", seconds=300)
    host.watched(name)
    host.kill(name)
    host.until(lambda: host.runs(name))
    # One that becomes known later has its deployments, too.
    later = host.declare()
    host.until(lambda: plane.deployments("host-alpha") == {name, later})
    # What is typed here is seen there.
    typed = host.roas("health", name)
    assert "healthy" in typed
    runs = plane.ask("POST", "/flow_runs/filter", {"flow_runs": {"tags": {"all_": ["on host-alpha"]}}}).json()
    assert [one["name"] for one in runs] == [f"health of {name}"]
    assert "refused to host-alpha" not in (plane.home / "server.log").read_text()

    said = host.roas("leave")
    assert f"left {plane.address}, and forgot its credential" in said
    assert plane.deployments("host-alpha") == set()
    # It goes on healing by itself.
    host.kill(name)
    host.until(lambda: host.runs(name))
    assert "This host is not enrolled" in host.roas("leave")


def test_a_revoked_host_is_shut_out_and_heals_all_the_same(host: LocalHost, plane: ControlPlane) -> None:
    name = host.declare()
    host.up(name)
    host.roas("join", plane.address, plane.invite("beta"), "--no-service")
    host.begin(PREFECT_WORKER_QUERY_SECONDS="1")
    host.watched(name)
    plane.keys.revoke("beta", datetime.now(UTC))
    host.until(
        lambda: (
            f"the control plane at {plane.address} refuses this host; this host's own server"
            in host.roas("health", name)
        )
    )
    host.kill(name)
    host.until(lambda: host.runs(name))
    again = host.roas("join", plane.address, plane.invite("beta"), "--no-service")
    assert f"This host is enrolled at {plane.address} as beta; run `roas leave` first." in again
    said = host.roas("leave", "--forget")
    assert "left" in said
    host.roas("join", plane.address, plane.invite("beta"), "--no-service")
    assert {one.name: one.state(datetime.now(UTC)) for one in plane.keys.all()}["beta"] is KeyState.ENROLLED


def test_a_name_that_another_host_has_is_refused_in_the_words_of_the_server(
    host: LocalHost, plane: ControlPlane, tmp_path: Path
) -> None:
    name = host.declare()
    host.roas("join", plane.address, plane.invite("first"), "--no-service")
    with made_host(tmp_path / "second") as second:
        second.write(name, (host.folder / "environments" / f"{name}.yaml").read_text())
        said = second.roas("join", plane.address, plane.invite("second"), "--no-service")
    assert f"{name}: Refused to host second: this deployment name belongs to another host; `roas worker`" in said
    assert plane.deployments("host-first") == {name}


def test_a_run_that_was_taken_and_not_begun_when_the_agent_ended_is_taken_by_the_next(
    host: LocalHost, plane: ControlPlane
) -> None:
    name = host.declare()
    host.roas("join", plane.address, plane.invite("gamma"), "--no-service")
    run = plane.begin(f"startup/{name}")
    # This is what a worker leaves that ends before it has begun the run's process.
    submitted = plane.ask("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "PENDING", "name": "Submitting"}})
    assert submitted.json()["status"] == "ACCEPT"
    host.begin(PREFECT_WORKER_QUERY_SECONDS="1")
    host.until(lambda: plane.state(run) == "COMPLETED", seconds=600)
    assert "was not begun when its worker ended, and is taken again" in host.text()
    assert host.runs(name)


@pytest.mark.parametrize(
    ("server", "token", "said"),
    [
        ("http://ops.example", "x", "would send the token and all that follows unencrypted; give one like https"),
        ("https://user:pw@ops.example", "x", "The control plane's address holds a user or a password"),
        ("ops.example", "x", "ops.example is no address of a control plane"),
        ("http://127.0.0.1:1", "x", "does not answer"),
        ("{plane}", "gamma.guessed", "refuses: The token is not known, was used by another host, was revoked, or has"),
        ("{plane}", "../../x", "refuses: The token is not known"),
    ],
)
def test_what_cannot_be_enrolled_is_said_in_one_line(
    host: LocalHost, plane: ControlPlane, server: str, token: str, said: str
) -> None:
    lines = host.roas("join", server.format(plane=plane.address), token, "--no-service").splitlines()
    assert len([line for line in lines if line.startswith("roas: ")]) == 1, lines
    assert said in lines[-1]
    assert "pw" not in lines[-1]
    assert not (host.folder / "data" / "control-plane.json").exists()
