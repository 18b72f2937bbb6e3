"""Tools that an agent calls over the Model Context Protocol: how one is described, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RowReference:
    """One row of the record: its store, its table and its id there."""

    store: str
    table: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """One tool as a client lists it. `input_schema` and `output_schema` are JSON Schemas of objects.

    `reads_only` is False for a tool that changes an environment or its record; `destructive` is True for one that can
    interrupt services.
    """

    name: str
    title: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    reads_only: bool = True
    destructive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One call of a tool. `client` is the name that the client gave itself; nothing proves it."""

    tool: str
    arguments: dict[str, Any] = field(default_factory=dict)
    client: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolReply:
    """Reply to a call: `structured` as the tool's output schema has it, or `error` in one line, or both.

    Both stand where an operation was recorded and failed.
    """

    structured: dict[str, Any] | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSpec:
    """A prompt that a client offers to its user. `text` may name its one argument as {argument}; it is optional."""

    name: str
    description: str
    text: str
    argument: str = ""
    argument_description: str = ""
