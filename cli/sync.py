"""`roas sync`: take the newest revision of an environment's source."""

from __future__ import annotations

import sys
from typing import Any

import click

from cli import completers
from cli.operations import Output, confirmed, confirming, with_live_output
from cli.options import resolve_names, waiting
from cli.run_flow import ask_the_record, ended_run, run_flow, show_answer, show_operation
from models.failures import NotFoundError, RoasError
from models.results import OperationResult
from models.settings import current_settings


@click.command()
@click.argument("environment", required=False, metavar="[ENV]", shell_complete=completers.environments)
@click.option("--allow-rewritten", is_flag=True, help="Take history that was rewritten, such as by a forced push.")
@click.option("--discard-changes", is_flag=True, help="Go on without changes to files in the checkout.")
@click.option("--unpin", is_flag=True, help="Go forward again over a rollback.")
@click.option("--lift", metavar="REVISION", help="Take a revision again that failed before.")
@click.option("--revision", metavar="REVISION", help="Take exactly this revision, or nothing.")
@click.option("--now", is_flag=True, help="Sync also outside of the environment's update windows.")
@click.option("--override-gate", metavar="REASON", help="Go on although the gate refuses the images; it is recorded.")
@confirming
@waiting
@with_live_output
def sync(
    environment: str | None,
    allow_rewritten: bool,
    discard_changes: bool,
    unpin: bool,
    lift: str | None,
    revision: str | None,
    now: bool,
    override_gate: str | None,
    confirm: str,
    wait_seconds: float,
    output: Output,
) -> None:
    """Fetch the environment's source (git, OCI), update to its newest revision; roll back if it fails.

    A revision that fails is held back: no sync takes it again until --lift. After `roas rollback` syncs
    stay at that release until --unpin.
    """
    name, _ = resolve_names(environment, (), None)
    program, clock = current_settings().asked_by, output.start_clock()
    run = ended_run(
        "sync",
        name,
        allow_rewritten=allow_rewritten,
        discard_changes=discard_changes,
        unpin=unpin,
        lift=lift,
        revision=revision,
        now=now,
        override_gate=override_gate,
        wait_seconds=wait_seconds,
        asked_by=f"roas sync{f', asked by {program}' if program else ''}",
        **confirmed(name, "sync", confirm),
    )
    with ask_the_record(name, output.json, only_outcome=output.only_outcome):
        state, result = run_flow(run, quiet=output.json, only_errors=output.only_outcome, live=output.live)
    operation = _recorded_operation(name, str(state.state_details.flow_run_id), result)
    if operation is None:
        show_answer(result, output.json, show_unchanged)
        return
    show_operation(operation, output.json, only_outcome=output.only_outcome, clock=clock)
    if not state.is_completed():
        sys.exit(1)


def _recorded_operation(name: str, run: str, result: Any) -> str | None:
    """The id of the operation that a sync recorded, None where it had nothing to do.

    Raises:
        RoasError: It failed before it recorded one.
    """
    from tasks.reporting.read import operation_of_run

    try:
        return operation_of_run(name, run)
    except NotFoundError as error:
        if isinstance(result, OperationResult):
            return None
        if isinstance(result, RoasError):
            raise result from error
        raise


def show_unchanged(result: OperationResult) -> None:
    """Print why a sync changed nothing."""
    from rich.markup import escape

    from cli.rendering.console import say

    say(f"{escape(result.environment)} is unchanged: {escape(result.reason)}")
