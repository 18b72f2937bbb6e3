"""An agent's client of `roas mcp`, over standard input and output."""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.client.stdio import get_default_environment
from mcp_types import Implementation, TextContent

from tests.support.commands import ForkedRoas, quiet_environment

ROOT = Path(__file__).parents[2]
SERVER = ("-P", "-c", "from cli.entry import main; main()", "mcp")
NAME = "tester"


def agent_variables(folder: Path) -> dict[str, str]:
    """Variables of a server whose environments are in a folder, and its stores in FOLDER/data."""
    folders = {"ROAS_DATA_DIR": str(folder / "data"), "ROAS_ENVIRONMENTS_DIR": str(folder)}
    return folders | {"PYTHONPATH": str(ROOT), "ROAS_WARM": "0"}


@cache
def _forks() -> ForkedRoas:
    """The process whose forks are servers, one at a time."""
    made = ForkedRoas(quiet_environment())
    atexit.register(made.close)
    return made


# The client starts a program and talks to its streams; this one hands them to a fork.
_RELAY = ("-c", 'cat "$0/out" & cat >"$0/in"; wait')


@asynccontextmanager
async def agent(folder: Path, *options: str, variables: Mapping[str, str] | None = None) -> AsyncIterator[Client]:
    """A client of a server of its own; it checks each answer against the tool's output schema."""
    streams = Path(tempfile.mkdtemp(prefix="roas-agent-"))
    for name in ("in", "out"):
        os.mkfifo(streams / name)
    request = {
        "words": ["mcp", *options],
        "variables": get_default_environment() | agent_variables(folder) | dict(variables or {}),
        "folder": str(folder),
    }
    serving = asyncio.create_task(asyncio.to_thread(_forks().serve, request, streams))
    relay = StdioServerParameters(command="sh", args=[*_RELAY, str(streams)])
    async with Client(relay, client_info=Implementation(name=NAME, version="1")) as client:
        yield client
    await serving
    shutil.rmtree(streams)


async def answer_of(client: Client, tool: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
    found = await client.call_tool(tool, arguments)
    assert not found.is_error, found.content
    document: dict[str, Any] = found.structured_content
    return document


async def error_of(client: Client, tool: str, arguments: dict[str, Any] | None = None) -> str:
    found = await client.call_tool(tool, arguments)
    assert found.is_error
    content = found.content[0]
    assert isinstance(content, TextContent)
    assert "unexpected error" not in content.text
    return content.text
