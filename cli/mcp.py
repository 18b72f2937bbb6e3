"""`roas mcp`: the records as tools for an agent, and operations where they are allowed."""

from __future__ import annotations

import click

from models.failures import BadInputError

OPERATIONS = (
    *("start", "update", "rehearse_update", "sync", "stop", "restart", "rollback", "rotate_secret"),
    *("recover", "resolve", "pause"),
)
"""Operations that `--allow` takes; `pause` also allows to end a pause."""


@click.command()
@click.option(
    "--allow",
    "allowed",
    multiple=True,
    metavar="OPERATION[,OPERATION]",
    help=f"Offer these operations as tools, too: {', '.join(OPERATIONS)}; may be repeated.",
)
@click.option("--allow-changes", "all_allowed", is_flag=True, help="Offer all of these operations.")
def mcp(allowed: tuple[str, ...], all_allowed: bool) -> None:
    """Serve the records to an agent over the Model Context Protocol, on standard input and output.

    An agent starts this command itself. Without --allow it can only read.
    """
    from importlib.metadata import version

    from adapters.mcp_server import mcp_server, serve_stdio
    from cli.mcp_answers import INSTRUCTIONS, PROMPTS, answers
    from cli.mcp_operations import operation_tools
    from cli.mcp_tools import READING_TOOLS

    tools = [*READING_TOOLS, *operation_tools(OPERATIONS if all_allowed else _operations(allowed))]
    specs = [tool.spec() for tool in tools]
    serve_stdio(mcp_server(version("roas-ops"), INSTRUCTIONS, specs, PROMPTS, answers(tools)))


def _operations(allowed: tuple[str, ...]) -> tuple[str, ...]:
    names = [name.strip() for part in allowed for name in part.split(",")]
    for name in names:
        if name not in OPERATIONS:
            raise BadInputError(
                f"--allow knows no operation {name!r};", advice=f"give some of {', '.join(OPERATIONS)}."
            )
    return tuple(name for name in OPERATIONS if name in names)
