"""What concerns recognised programs asks the engine nothing where there is none."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.compose.parsing import parse_application
from adapters.compose.traits import recognise_programs
from models.compose import Application, Plan, PlannedAction, PlannedService
from models.environments import Environment
from models.failures import RoasError
from tasks.deployment.configuration import refuse_broken_configurations, refuse_broken_proxies, refuse_to_restart
from tasks.deployment.proxies import ProxyFollower, answers_through
from tasks.runtime.plain_tasks import without_task_runs
from tasks.runtime.project import Project

NOW = datetime(2026, 11, 29, tzinfo=UTC)


def application(front: str, **more: object) -> Application:
    services = {
        "web": {"image": "acme/web", "networks": {"default": None}},
        "front": {"image": front, "networks": {"default": None}, **more},
    }
    document = {"name": "shop", "services": services, "networks": {"default": {"name": "shop_default"}}}
    return recognise_programs(parse_application(document, {}, ()), document)


@pytest.fixture
def without_engine(tmp_path: Path) -> Environment:
    """An environment whose engine answers nothing, so that each question to it fails."""
    return Environment(
        name="shop", project="shop", compose_files=(Path("compose.yaml"),), engine=f"unix://{tmp_path}/none.sock"
    )


def test_the_program_of_a_service_is_part_of_its_declaration() -> None:
    assert {name: one.program for name, one in application("nginx:1.29").services.items()} == {
        "web": "",
        "front": "nginx",
    }
    by_command = application("acme/front", command=["nginx", "-g", "daemon off;"])
    assert by_command.services["front"].program == "nginx"


async def test_an_application_without_recognised_programs_asks_the_engine_nothing(without_engine: Environment) -> None:
    plain = application("acme/front")
    lines = tuple(
        PlannedService(service=name, action=PlannedAction.RESTART, because="", wave=0) for name in plain.services
    )
    follower = ProxyFollower(project=Project(without_engine), application=plain, since=NOW)

    await refuse_broken_configurations(
        Project(without_engine), plain, Plan(project="shop", services=lines, waves=()), (), "d"
    )
    await refuse_broken_proxies(Project(without_engine), plain, "d")
    await refuse_to_restart(Project(without_engine), plain, "front")
    await follower.follow("web")
    await follower.settle()

    assert await answers_through(Project(without_engine), plain, ["web", "front"]) == {}


async def test_a_proxy_that_could_not_be_asked_to_follow_is_reported(without_engine: Environment) -> None:
    follower = ProxyFollower(project=Project(without_engine), application=application("nginx"), since=NOW)

    await follower.follow("front")
    await follower.settle()
    with without_task_runs():
        await follower.follow("web")

        with pytest.raises(RoasError, match="engine"):
            await follower.settle()
