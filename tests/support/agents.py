"""An agent's client of `roas mcp`, over standard input and output."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp_types import Implementation, TextContent

ROOT = Path(__file__).parents[2]
SERVER = ("-P", "-c", "from cli.entry import main; main()", "mcp")
NAME = "tester"


def agent_variables(folder: Path) -> dict[str, str]:
    """Variables of a server whose environments are in a folder, and its stores in FOLDER/data."""
    folders = {"ROAS_DATA_DIR": str(folder / "data"), "ROAS_ENVIRONMENTS_DIR": str(folder)}
    return folders | {"PYTHONPATH": str(ROOT), "ROAS_WARM": "0"}


@asynccontextmanager
async def agent(folder: Path, *options: str, variables: Mapping[str, str] | None = None) -> AsyncIterator[Client]:
    """A client of a server of its own; it checks each answer against the tool's output schema."""
    server = StdioServerParameters(
        command=sys.executable,
        args=[*SERVER, *options],
        env={**(variables or {}), **agent_variables(folder)},
        cwd=str(folder),
    )
    async with Client(server, client_info=Implementation(name=NAME, version="1")) as client:
        yield client


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
    return content.text
