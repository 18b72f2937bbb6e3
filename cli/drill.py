"""`roas drill`: make a declared fault on purpose, and measure what follows."""

from __future__ import annotations

import sys

import click

from cli import completers
from cli.exit_codes import FAILED
from cli.operations import Output, operate, with_output
from cli.options import duration
from flows.common.terminal import echo
from models.drills import Fault
from models.failures import BadInputError


@click.command()
@click.argument("environment", metavar="ENV", shell_complete=completers.environments)
@click.argument("service", required=False)
@click.option("--fault", type=click.Choice([str(fault) for fault in Fault]), help="What is broken.")
@click.option("--for", "length", default="60s", show_default=True, help="So long at most, as 30s or 5m, at most 1h.")
@click.option("--confirm", metavar="ENV", help="The environment's name again, in place of typing it when asked.")
@click.option("--end", "end_wanted", is_flag=True, help="Only undo the fault of a drill that is open.")
@with_output
def drill(
    environment: str,
    service: str | None,
    fault: str | None,
    length: str,
    confirm: str | None,
    end_wanted: bool,
    output: Output,
) -> None:
    """Break one thing in SERVICE on purpose, and measure detection, repair and message against their objectives.

    The environment's file says under `drills` what is allowed. Exit code 1 if an objective was missed.
    """
    if end_wanted:
        import asyncio

        from tasks.recovery.drills import end_left_drill
        from tasks.runtime.clients import find_environment

        ended = asyncio.run(end_left_drill(find_environment(environment).name, asked=True))
        echo(f"no drill of {environment} is open" if ended is None else f"{ended.fault} of {ended.service} is undone")
        return
    if service is None or fault is None:
        raise BadInputError(
            "SERVICE or --fault is missing;", advice=f"write roas drill {environment} web --fault kill."
        )
    if not 1 <= (seconds := duration(length).total_seconds()) <= 3600:
        raise BadInputError(f"--for {length} is not between 1s and 1h;", advice="give it a length such as 60s.")
    if confirm is None and sys.stdin and sys.stdin.isatty():
        confirm = click.prompt(f"{fault} of {service} is real. Type {environment} to go on", default="", err=True)
    if confirm != environment:
        raise BadInputError("The drill was not confirmed;", advice=f"give --confirm {environment} if it may begin.")
    asked = {"service": service, "fault": fault, "seconds": seconds, "confirm": confirm}
    if not operate("drill", environment, None, output, **asked).success:
        sys.exit(FAILED)
