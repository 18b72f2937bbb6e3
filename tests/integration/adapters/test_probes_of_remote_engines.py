"""Of an engine on another machine no address of a container is asked: there it would be a stranger's."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.docker.engine import DockerEngine
from adapters.preflight import gather_facts
from core.deployment.checks.services import check_probes
from flows.common.judge_health import judge_now
from models.environments import CommandProbe, Environment, TcpProbe
from models.failures import ProbeOutOfReachError
from models.health import ProbeResult, ServiceHealth
from tasks.deployment.services import read_plan
from tasks.monitoring.collect import sample_system
from tasks.runtime.project import Project
from tests.integration.adapters.conftest import ComposeProject
from tests.support.ports import free_port
from tests.support.probed import ask
from tests.support.remote_engines import own_address, remote_engine

pytestmark = pytest.mark.engine

PROGRAM = "$$s = IO::Socket::INET->new(LocalPort => 7000, Listen => 9); while ($$c = $$s->accept) { push @c, $$c }"
LISTENS = f"[perl, -MIO::Socket::INET, -e, '{PROGRAM}']"
SERVICES = """
services:
  it: {image: IMAGE, command: LISTENS, init: true, ports: PORTS, healthcheck: CHECK}
"""
CHECK = "{test: [CMD, 'true'], interval: 1s, start_interval: 100ms, start_period: 20s}"
PROBE = TcpProbe(kind="tcp", port=7000)
DECLARED = {"services": {"it": {"probe": {"kind": "tcp", "port": 7000}}}}


@pytest.fixture
def remote() -> Iterator[DockerEngine]:
    with remote_engine() as address:
        client = DockerEngine(address)
        yield client
        client.close()


def make(
    make_project: Callable[..., ComposeProject], ports: str = "[]", check: str = "{disable: true}"
) -> ComposeProject:
    text = SERVICES.replace("LISTENS", LISTENS).replace("PORTS", ports).replace("CHECK", check)
    return make_project(text, **DECLARED)


def seen_from_elsewhere(project: ComposeProject, engine: DockerEngine) -> ComposeProject:
    environment = project.environment.model_copy(update={"engine": engine.address})
    return dataclasses.replace(project, engine=engine, environment=environment)


async def test_a_port_that_is_not_published_is_not_asked(
    make_project: Callable[..., ComposeProject], remote: DockerEngine
) -> None:
    project = make(make_project)
    project.started()
    assert (await until_asked(project)).ok, "from its own machine it answers"

    with pytest.raises(ProbeOutOfReachError, match="on another machine, and port 7000 is not published there"):
        await ask(seen_from_elsewhere(project, remote), PROBE)


async def test_a_port_that_is_published_on_the_loopback_there_is_not_asked_here(
    make_project: Callable[..., ComposeProject], remote: DockerEngine
) -> None:
    project = make(make_project, f"['127.0.0.1:{free_port()}:7000']")
    project.started()

    with pytest.raises(ProbeOutOfReachError, match=r"published there on 127\.0\.0\.1 alone"):
        await ask(seen_from_elsewhere(project, remote), PROBE)


async def test_a_published_port_is_asked_at_the_name_of_the_engines_host(
    make_project: Callable[..., ComposeProject], remote: DockerEngine
) -> None:
    port = free_port()
    project = make(make_project, f"['{port}:7000']")
    project.started()

    answer = await until_asked(seen_from_elsewhere(project, remote))

    assert answer.ok
    assert answer.target.endswith(f" at {own_address()}:{port}")


async def test_a_command_inside_the_container_is_asked_everywhere(
    make_project: Callable[..., ComposeProject], remote: DockerEngine
) -> None:
    project = make(make_project)
    project.started()
    answer = await ask(seen_from_elsewhere(project, remote), CommandProbe(kind="command", command=("true",)))
    assert answer.ok


async def test_a_tunnel_on_the_loopback_to_an_engine_of_another_name_is_another_machine(
    make_project: Callable[..., ComposeProject], monkeypatch: pytest.MonkeyPatch
) -> None:
    with remote_engine("127.0.0.1") as address:
        assert DockerEngine(address).is_here
        monkeypatch.setattr("socket.gethostname", lambda: "another")
        assert not DockerEngine(address).is_here


async def test_the_engines_health_check_decides_and_the_verdict_and_the_plan_say_so(
    make_project: Callable[..., ComposeProject], remote: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    project = seen_from_elsewhere(make(make_project, check=CHECK), remote)
    project.started()
    environment = project.environment

    await until(lambda: remote.containers.inspect_project(project.name, "it")[0].health == "healthy")
    report = await judge_now(Project(environment), project.compose().render())

    [verdict] = report.services
    assert verdict.health is ServiceHealth.HEALTHY
    assert "its probe is not asked: its engine is on another machine" in verdict.reason
    assert report.system_load is None
    assert await sample_system(environment) is None, "this machine's figures say nothing about the other"
    [warning] = [one for one in check_probes(await gather_facts(environment)) if not one.passed]
    assert warning.finding.startswith("The probe of it is not asked: its engine is on another machine")
    [line] = (await asyncio.to_thread(read_plan, Project(environment))).services
    assert "its probe is not asked" in line.note


async def test_without_a_health_check_it_is_unproven_and_not_unhealthy(
    make_project: Callable[..., ComposeProject], remote: DockerEngine, caplog: pytest.LogCaptureFixture
) -> None:
    project = seen_from_elsewhere(make(make_project), remote)
    project.started()
    with caplog.at_level(logging.WARNING):
        report = await judge_now(Project(project.environment), project.compose().render())
    [verdict] = report.services
    assert verdict.health is ServiceHealth.UNPROVEN
    assert "port 7000 is not published there" in verdict.reason


def test_an_environment_is_remote_by_its_engines_address() -> None:
    def is_remote(engine: str) -> bool:
        fields = {"name": "a", "project": "a", "compose_files": [Path("compose.yaml")], "engine": engine}
        return Environment.model_validate(fields).is_remote

    assert [is_remote(one) for one in ("unix:///run/docker.sock", "tcp://127.0.0.1:2375", "tcp://[::1]:2375")] == [
        False,
        False,
        False,
    ]
    assert is_remote("ssh://deploy@db.example")
    assert is_remote("tcp://127.example:2376")


async def until_asked(project: ComposeProject) -> ProbeResult:
    """The answer of the probe once the service listens."""
    for _ in range(600):
        answer = await ask(project, PROBE)
        if answer.ok:
            return answer
        await asyncio.sleep(0.1)
    raise AssertionError(answer.detail)


async def until(is_so: Callable[[], bool]) -> None:
    for _ in range(600):
        if await asyncio.to_thread(is_so):
            return
        await asyncio.sleep(0.1)
    raise AssertionError
