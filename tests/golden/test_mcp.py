"""`roas mcp` on the recorded stores, called by the SDK's own client over standard input and output."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import MCPError

from tests.golden.conftest import RoasCommand, golden
from tests.support.agents import SERVER, agent, agent_variables, answer_of, error_of
from tests.support.warm import warm_commands

FAILED = "shop-20261126-093728-394c"
TICKET = "T-261126-5de9"
READING = {
    "status": {},
    "why": {"environment": "shop"},
    "evidence": {"id": FAILED},
    "postmortem": {"id": FAILED},
    "history": {},
    "show": {"id": FAILED},
    "releases": {"environment": "shop"},
    "alerts": {"resolved_too": True},
    "predictions": {"environment": "shop", "days": 3650},
    "tickets": {"resolved_too": True},
    "ticket": {"id": TICKET},
}
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}},
}


def rows(data: Path, store: str, question: str) -> set[str]:
    with sqlite3.connect(data / f"{store}.db") as connection:
        return {str(row[0]) for row in connection.execute(question)}


async def test_tools_with_their_input(recorded: RoasCommand) -> None:
    async with agent(recorded.folder, "--allow-changes") as client:
        tools = (await client.list_tools()).tools
        prompts = (await client.list_prompts()).prompts

    lines = []
    for tool in tools:
        assert tool.annotations is not None
        kind = {(True, False): "reads", (False, True): "destructive", (False, False): "changes"}
        marked = kind[bool(tool.annotations.read_only_hint), bool(tool.annotations.destructive_hint)]
        lines += [f"{tool.name} ({marked})", f"    {tool.description}", f"    {json.dumps(tool.input_schema)}"]
    lines += [f"prompt {prompt.name}: {prompt.description}" for prompt in prompts]
    golden("mcp.txt", "\n".join(lines))


async def test_no_operation_is_offered_unless_it_is_allowed(recorded: RoasCommand) -> None:
    async with agent(recorded.folder) as client:
        reading = (await client.list_tools()).tools
        with pytest.raises(MCPError, match="There is no tool 'stop'"):
            await client.call_tool("stop", {"environment": "shop"})
    async with agent(recorded.folder, "--allow", "pause,resolve") as client:
        allowed = (await client.list_tools()).tools

    assert all(tool.annotations is not None and tool.annotations.read_only_hint for tool in reading)
    assert {tool.name for tool in allowed} - {tool.name for tool in reading} == {"pause", "unpause", "resolve"}


async def test_each_reading_tool_cites_rows_that_are_in_the_stores(recorded: RoasCommand) -> None:
    keys = {
        "deployment_operations": "deployment_id",
        "service_state_changes": "id",
        "releases": "release_id",
        "deployment_errors": "error_id",
        "auto_recovery_executions": "attempt_id",
        "manual_intervention_tickets": "ticket_id",
        "ticket_history": "ticket_id",
        "evidence_bundles": "bundle_id",
        "alerts": "alert_id",
        "predictions": "prediction_id",
    }
    cited: dict[str, set[tuple[str, str, str]]] = {}
    async with agent(recorded.folder) as client:
        for tool, arguments in READING.items():
            document = await answer_of(client, tool, arguments)
            assert document["quoted"], tool
            cited[tool] = {(one["store"], one["table"], one["id"]) for one in document["records"]}

    assert all(cited.values()), cited
    for store, table, row in set().union(*cited.values()):
        assert row in rows(recorded.folder / "data", store, f"SELECT {keys[table]} FROM {table}"), (table, row)


async def test_answers_say_what_the_command_says(recorded: RoasCommand) -> None:
    async with agent(recorded.folder) as client:
        explained = await answer_of(client, "why", {"id": FAILED})

    printed = json.loads(recorded("why", FAILED, "--json").out)
    assert explained["answer"]["headline"] == printed["headline"]
    assert [line["text"] for line in explained["answer"]["lines"]] == [line["text"] for line in printed["lines"]]
    assert "answer.lines[].text" in explained["quoted"]


async def test_status_of_all_is_small_and_names_what_is_wrong(recorded: RoasCommand) -> None:
    async with agent(recorded.folder) as client:
        [brief] = (await answer_of(client, "status", {}))["answer"]
        [whole] = (await answer_of(client, "status", {"environment": "shop"}))["answer"]

    assert len(json.dumps(brief)) * 3 < len(json.dumps(whole)) * 2
    assert brief["health"]["overall"] == whole["health"]["overall"]
    assert [one["error_id"] for one in brief["open_errors"]] == [one["error_id"] for one in whole["open_errors"]]


async def test_pages_follow_each_other_to_the_end(recorded: RoasCommand) -> None:
    found, offset = [], 0
    async with agent(recorded.folder) as client:
        while offset is not None:
            page = await answer_of(client, "history", {"limit": 2, "offset": offset})
            found += [one["deployment_id"] for one in page["answer"]]
            offset = page["next_offset"]

    assert len(found) == len(set(found)) > 2
    every = rows(recorded.folder / "data", "deployment_logs", "SELECT deployment_id FROM deployment_operations")
    assert set(found) == every


async def test_logs_are_searched_as_the_command_searches_them(recorded: RoasCommand) -> None:
    words = ("--grep", "EXITED|ready|fatal", "-i", "--since", "2026-01-01", "--tail", "20")
    arguments = {"environment": "shop", "pattern": "EXITED|ready|fatal", "ignore_case": True, "lines": 20}

    async with agent(recorded.folder) as client:
        found = await answer_of(client, "logs", arguments | {"since": "2026-01-01"})
        refused = await error_of(client, "logs", arguments | {"since": "yesterday"})
        unusable = await error_of(client, "logs", arguments | {"pattern": "(a"})

    printed = json.loads(recorded("logs", "shop", *words, "--json").out)
    chosen = ("service", "container", "lines")
    assert [[log[name] for name in chosen] for log in found["answer"]] == [
        [log[name] for name in chosen] for log in printed
    ]
    assert any("ready" in line for log in printed for line in log["lines"])
    assert "'yesterday' is no time" in refused
    assert "no usable pattern" in unusable


async def test_a_huge_answer_is_shortened_and_says_so(recorded: RoasCommand) -> None:
    with sqlite3.connect(recorded.folder / "data" / "errors.db") as store:
        store.execute("UPDATE deployment_errors SET text = ?", ("x" * 500_000,))

    async with agent(recorded.folder) as client:
        document = await answer_of(client, "show", {"id": FAILED})

    assert document["shortened"]
    assert len(json.dumps(document)) < 61_000
    assert "500,000 characters, shortened" in json.dumps(document)


async def test_bad_input_is_one_line(recorded: RoasCommand) -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("history", {"limit": 0}, r"limit: Input should be greater than or equal to 1\."),
        ("history", {"limits": 1}, r"limits: Extra inputs are not permitted\."),
        ("show", {}, r"id: Field required\."),
        ("show", {"id": "nosuch"}, "No deployment has the id 'nosuch'"),
        ("status", {"environment": "../etc"}, "There is no environment '../etc' .*known are: shop"),
        ("plan", {"environment": "--help"}, "--help"),
        ("ticket", {"id": "T-"}, "tickets begin with T-"),
    ]
    async with agent(recorded.folder) as client:
        said = [await error_of(client, tool, arguments) for tool, arguments, _ in cases]
        # The server goes on.
        assert (await answer_of(client, "status"))["answer"]

    for line, (_, _, expected) in zip(said, cases, strict=True):
        assert re.search(expected, line)
        assert "\n" not in line


async def test_an_update_by_an_agent_is_of_a_plan_or_of_named_services(recorded: RoasCommand) -> None:
    async with agent(recorded.folder, "--allow", "update") as client:
        refused = await error_of(client, "update", {"environment": "shop"})
    assert "An update of all services needs plan_id; ask `plan` with `update`." in refused


async def test_nothing_recorded_yet_is_an_answer(empty: RoasCommand) -> None:
    async with agent(empty.folder) as client:
        status = await answer_of(client, "status")
        said = await error_of(client, "why")

    assert status["answer"] == []
    assert said.startswith("No operation has failed;")


async def test_an_answer_to_a_ticket_names_the_client_in_the_record(recorded: RoasCommand) -> None:
    waiting = rows(
        recorded.folder / "data", "errors",
        "SELECT ticket_id FROM manual_intervention_tickets WHERE state != 'resolved' AND flow_run_id IS NULL",
    )  # fmt: skip
    ticket = min(waiting)
    async with agent(recorded.folder, "--allow=resolve", variables=warm_commands()) as client:
        done = await answer_of(client, "resolve", {"ticket_id": ticket, "note": "--note=put the password back"})
        again = await error_of(client, "resolve", {"ticket_id": ticket, "note": "once more"})

    assert ticket in done["answer"]
    assert again == f"Ticket {ticket} is already resolved."
    claimed = f"SELECT claimed_by FROM ticket_history WHERE ticket_id = '{ticket}'"
    assert "MCP client tester" in rows(recorded.folder / "data", "errors", claimed)


async def test_a_pause_by_an_agent_is_recorded_and_ended(recorded: RoasCommand) -> None:
    where = {"environment": "shop", "service": "db"}
    async with agent(recorded.folder, "--allow", "pause", variables=warm_commands()) as client:
        paused = await answer_of(client, "pause", {**where, "minutes": 30, "reason": "new disk"})
        ended = await answer_of(client, "unpause", where)
        said = await error_of(client, "unpause", where)

    assert paused["answer"].startswith("automatic recovery of db is off until")
    assert ended["answer"] == "automatic recovery of db is on again"
    assert said.startswith("There is no such pause;")


def test_standard_output_carries_the_protocol_alone(recorded: RoasCommand) -> None:
    asked = [HELLO, {"jsonrpc": "2.0", "method": "notifications/initialized"}]
    asked += [{"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "logs", "arguments": {}}}]
    said = "".join(f"{json.dumps(one)}\n" for one in asked)
    process = subprocess.Popen(
        [sys.executable, *SERVER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=recorded.folder,
        env=os.environ | agent_variables(recorded.folder),
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"not JSON\n{said}")
    process.stdin.flush()
    replies = {}
    while set(replies) != {1, 2}:
        reply = json.loads(process.stdout.readline())
        replies[reply.get("id")] = reply
    rest, errors = process.communicate()

    assert process.returncode == 0, errors
    assert rest == ""
    assert replies[2]["result"]["isError"]


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.campaign), signal.SIGTERM])
def test_a_signal_ends_it_though_standard_input_is_open(
    empty: RoasCommand, number: signal.Signals, request: pytest.FixtureRequest
) -> None:
    process = subprocess.Popen(
        [sys.executable, *SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        cwd=empty.folder, env=os.environ | agent_variables(empty.folder),
    )  # fmt: skip
    request.addfinalizer(process.kill)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{json.dumps(HELLO)}\n")
    process.stdin.flush()
    process.stdout.readline()

    process.send_signal(number)

    assert process.wait(30) == 128 + number


async def test_the_prompt_names_what_to_explain(empty: RoasCommand) -> None:
    async with agent(empty.folder) as client:
        filled = await client.get_prompt("explain_failure", {"environment": "shop\nand obey"})
        latest = await client.get_prompt("explain_failure")

    texts = [message.content.text for one in (filled, latest) for message in one.messages]  # type: ignore[union-attr]
    assert texts[0].startswith("Explain shop and obey of the deployments")
    assert texts[1].startswith("Explain the latest failure of the deployments")
