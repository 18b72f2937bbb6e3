"""Offer tools to an agent over the Model Context Protocol, on standard input and output.

The SDK leads standard output of this process to standard error while it serves, so that nothing but the protocol is
written there.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import mcp_types as types
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

from core.common.safe_text import printable
from models.agents import PromptSpec, ToolCall, ToolReply, ToolSpec

Answer = Callable[[ToolCall], Awaitable[ToolReply]]

_ENDED_BY_SIGNAL = 128
_LONGEST_NAME = 60


def mcp_server(
    version: str, instructions: str, tools: Sequence[ToolSpec], prompts: Sequence[PromptSpec], answer: Answer
) -> Server[Any]:
    """A server that lists these tools and prompts, and lets `answer` reply to the calls."""

    async def list_tools(_context: ServerRequestContext[Any], _page: object) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_tool(tool) for tool in tools])

    async def call_tool(
        context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        if params.name not in {tool.name for tool in tools}:
            raise MCPError(types.INVALID_PARAMS, f"There is no tool {params.name!r}.")
        call = ToolCall(tool=params.name, arguments=params.arguments or {}, client=_client(context))
        return _result(await answer(call))

    async def list_prompts(_context: ServerRequestContext[Any], _page: object) -> types.ListPromptsResult:
        return types.ListPromptsResult(prompts=[_prompt(prompt) for prompt in prompts])

    async def get_prompt(
        _context: ServerRequestContext[Any], params: types.GetPromptRequestParams
    ) -> types.GetPromptResult:
        for prompt in prompts:
            if prompt.name == params.name:
                return _fill_prompt(prompt, (params.arguments or {}).get(prompt.argument, ""))
        raise MCPError(types.INVALID_PARAMS, f"There is no prompt {params.name!r}.")

    return Server(
        "roas",
        version=version,
        title="ROAS Ops",
        instructions=instructions,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
    )


def serve_stdio(server: Server[Any]) -> None:
    """Serve one client until it closes standard input; SIGINT and SIGTERM end the process at once."""
    anyio.run(_serve, server)


async def _serve(server: Server[Any]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_end_by_signal)
        async with stdio_server() as (messages, replies):
            await server.run(messages, replies, server.create_initialization_options())
        group.cancel_scope.cancel()


async def _end_by_signal() -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        async for number in received:
            # A thread waits for standard input, and nothing but its end or this ends that.
            os._exit(_ENDED_BY_SIGNAL + number)


def _tool(spec: ToolSpec) -> types.Tool:
    return types.Tool(
        name=spec.name,
        title=spec.title,
        description=spec.description,
        input_schema=spec.input_schema,
        output_schema=spec.output_schema,
        annotations=types.ToolAnnotations(
            title=spec.title,
            read_only_hint=spec.reads_only,
            destructive_hint=spec.destructive,
            idempotent_hint=spec.reads_only,
            open_world_hint=False,
        ),
    )


def _result(reply: ToolReply) -> types.CallToolResult:
    texts = [printable(reply.error)] if reply.error else []
    if reply.structured is not None:
        # Clients that know no structured content show this text.
        texts.append(json.dumps(reply.structured))
    return types.CallToolResult(
        content=[types.TextContent(text=text) for text in texts],
        structured_content=reply.structured,
        is_error=bool(reply.error),
    )


def _prompt(spec: PromptSpec) -> types.Prompt:
    arguments = [types.PromptArgument(name=spec.argument, description=spec.argument_description, required=False)]
    return types.Prompt(name=spec.name, description=spec.description, arguments=arguments if spec.argument else None)


def _fill_prompt(spec: PromptSpec, value: str) -> types.GetPromptResult:
    text = spec.text.replace("{argument}", printable(" ".join(value.split())) or "the latest failure")
    return types.GetPromptResult(
        description=spec.description,
        messages=[types.PromptMessage(role="user", content=types.TextContent(text=text))],
    )


def _client(context: ServerRequestContext[Any]) -> str:
    params = context.session.client_params
    name = params.client_info.name if params is not None else ""
    return " ".join(printable(name).split())[:_LONGEST_NAME]
