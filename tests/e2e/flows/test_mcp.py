"""An agent operates a real application through `roas mcp`."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp_types import TextContent

from tests.golden.conftest import HERE
from tests.support.agents import agent, answer_of, error_of
from tests.support.prefect_server import server_variables
from tests.support.projects import remove_project
from tests.support.repositories import new_repository

pytestmark = [pytest.mark.engine, pytest.mark.flow]

WRITES_A_SECRET = """sh -c 'echo "token=hunter2-hunter2"; touch /tmp/ready; exec sleep 3600'"""
REFUSED = """sh -c 'echo "FATAL: password authentication failed for user app" >&2; exit 1'"""
SLOW = "sh -c 'sleep 300'"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[str]:
    """The application `shop` in the folder of the test, under a project name of its own."""
    name = f"shop{secrets.token_hex(3)}"
    shutil.copytree(HERE / "shop", tmp_path, dirs_exist_ok=True)
    (tmp_path / "password").write_text("hunter2-hunter2")
    file = tmp_path / "shop.yaml"
    secret = f"secrets:\n  - {{name: TOKEN, file: {tmp_path / 'password'}}}\n"
    file.write_text(file.read_text().replace("project: shop", f"project: {name}") + secret)
    change(tmp_path, WRITES_A_SECRET)
    yield name
    remove_project(name)


def change(folder: Path, command: str) -> None:
    """Give the database another command."""
    compose = folder / "shop" / "compose.yaml"
    lines = [line for line in compose.read_text().splitlines() if line != "name: shop"]
    at = next(number for number, line in enumerate(lines) if "database system is ready" in line or "# db" in line)
    lines[at] = f"    command: {json.dumps(command)}  # db"
    compose.write_text("\n".join(lines) + "\n")


@pytest.mark.campaign(seconds=20)
async def test_an_agent_starts_exactly_what_was_planned_and_reads_the_record(
    tmp_path: Path, project: str, prefect_server: None
) -> None:
    shop = {"environment": "shop"}
    async with agent(tmp_path, "--allow", "start,stop", variables=_server()) as client:
        planned = await answer_of(client, "plan", shop)
        refused = await error_of(client, "start", {**shop, "plan_id": "00000000"})
        started = await answer_of(client, "start", {**shop, "plan_id": planned["answer"]["plan_id"]})
        status = await answer_of(client, "status", shop)
        logs = await answer_of(client, "logs", {**shop, "service": "db"})
        drift = await answer_of(client, "drift", shop)
        stopped = await answer_of(client, "stop", shop)

    assert planned["answer"]["plan"]["project"] == project
    assert "\n" not in refused
    assert "plan" in refused
    operation = started["answer"]
    assert operation["status"] == "success"
    assert operation["user_agent"].endswith("(roas start, asked by MCP client tester)")
    assert operation["actor"]["claimed"] == "MCP client tester"
    row = {"store": "deployment_logs", "table": "deployment_operations", "id": operation["deployment_id"]}
    assert row in started["records"]
    assert row in status["records"]
    assert "hunter2" not in json.dumps(logs)
    assert "token=" in json.dumps(logs)
    assert drift["answer"]["services"] == []
    assert stopped["answer"]["operation_type"] == "stop"


@pytest.mark.campaign
async def test_an_operation_that_fails_is_an_error_with_its_record(
    tmp_path: Path, project: str, prefect_server: None
) -> None:
    change(tmp_path, REFUSED)
    async with agent(tmp_path, "--allow", "start", variables=_server()) as client:
        planned = await answer_of(client, "plan", {"environment": "shop"})
        asked = {"environment": "shop", "plan_id": planned["answer"]["plan_id"]}
        failed = await client.call_tool("start", asked)
        explained = await answer_of(client, "why")

    assert failed.is_error
    (said, document) = (one.text for one in failed.content if isinstance(one, TextContent))
    assert said.startswith("start failed: ")
    assert "\n" not in said
    assert json.loads(document) == failed.structured_content
    operation = failed.structured_content["answer"]
    assert operation["status"] == "failed"
    assert explained["answer"]["deployment_id"] == operation["deployment_id"]
    assert any("password authentication failed" in line["text"] for line in explained["answer"]["lines"])


@pytest.mark.campaign
async def test_a_cancelled_call_ends_its_operation_and_the_record_says_so(
    tmp_path: Path, project: str, prefect_server: None
) -> None:
    change(tmp_path, SLOW)
    async with agent(tmp_path, "--allow", "start", variables=_server()) as client:
        planned = await answer_of(client, "plan", {"environment": "shop"})
        asked = {"environment": "shop", "plan_id": planned["answer"]["plan_id"]}
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "start", asked)
            await until(client, lambda status: bool(status))
            group.cancel_scope.cancel()
        # The operation ends in its own time.
        await until(client, lambda status: not status[0]["running"])
        ended = await answer_of(client, "history")

    assert [one["status"] for one in ended["answer"]] == ["failed"]


async def until(client: Client, holds: Callable[[list[Any]], bool]) -> None:
    """Ask for the status again and again, until it is as described."""
    with anyio.fail_after(1200):
        for _ in range(1_000):
            if holds((await answer_of(client, "status"))["answer"]):
                return
            await anyio.sleep(0.5)


def _server() -> dict[str, str]:
    return {name: value for name, value in server_variables().items() if name.startswith("PREFECT_API")}


@pytest.mark.campaign
async def test_an_agent_rehearses_an_update_before_it_asks_for_it(
    tmp_path: Path, project: str, prefect_server: None
) -> None:
    shop = {"environment": "shop"}
    async with agent(tmp_path, "--allow", "start,rehearse_update", variables=_server()) as client:
        planned = await answer_of(client, "plan", shop)
        await answer_of(client, "start", {**shop, "plan_id": planned["answer"]["plan_id"]})
        change(tmp_path, REFUSED)
        failed = await client.call_tool("rehearse_update", {**shop, "services": ["db"]})
        status = await answer_of(client, "status", shop)

    assert failed.is_error
    assert failed.structured_content is not None
    operation = failed.structured_content["answer"]
    assert "password authentication failed" in operation["details"]["rehearsal"]["verdict"]
    assert operation["user_agent"].endswith("(roas update --rehearse, asked by MCP client tester)")
    assert {service["health"] for service in status["answer"][0]["health"]["services"]} == {"healthy"}


@pytest.mark.campaign
async def test_an_agent_syncs_exactly_the_revision_that_it_looked_at(
    tmp_path: Path, project: str, prefect_server: None
) -> None:
    repository, shop = new_repository(tmp_path / "served"), {"environment": "shop"}
    # A sync updates, so it would pull.
    image = "image: debian:trixie-slim\n"
    compose = (tmp_path / "shop" / "compose.yaml").read_text().replace(image, f"{image}    pull_policy: never\n")
    first = repository.commit("Open the shop", {"deploy/compose.yaml": compose})
    file = tmp_path / "shop.yaml"
    source = json.dumps({"repository": str(repository.bare), "path": "deploy"})
    lines = [line for line in file.read_text().splitlines() if not line.startswith("compose_files")]
    file.write_text("\n".join([*lines, "compose_files: [compose.yaml]", f"source: {source}", ""]))
    async with agent(tmp_path, "--allow", "sync", variables=_server()) as client:
        planned = await answer_of(client, "plan_sync", shop)
        second = repository.commit("Sell tea")
        refused = await error_of(client, "sync", {**shop, "revision": planned["answer"]["revision"]["revision"]})
        again = await answer_of(client, "plan_sync", shop)
        synced = await answer_of(client, "sync", {**shop, "revision": second})
        nothing = await error_of(client, "sync", {**shop, "revision": second})

    assert (planned["answer"]["action"], planned["answer"]["revision"]["revision"]) == ("take", first)
    assert planned["answer"]["running"] is None
    assert f"refers to {second[:12]}" in refused
    assert again["answer"]["revision"]["subject"] == "Sell tea"
    assert synced["answer"]["status"] == "success"
    assert synced["answer"]["actor"]["claimed"] == "MCP client tester"
    assert nothing.startswith(f"shop is unchanged: nothing new: {second[:12]}")
