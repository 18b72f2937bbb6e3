"""`roas schedule`: what is done by the clock, how it went, and one of it now."""

from __future__ import annotations

import sys

import click

from cli import completers
from cli.options import as_json, resolve_names
from cli.run_flow import ended_run, run_flow, show_answer
from models.failures import RoasError


@click.group()
def schedule() -> None:
    """What an environment does by the clock: its `schedules`."""


@schedule.command("list")
@click.argument("environment", required=False, metavar="[ENV]", shell_complete=completers.environments)
@as_json
def list_schedules(environment: str | None, json_wanted: bool) -> None:
    """List the schedules of ENV, or of all environments: when each is due next, and how its last runs went."""
    from datetime import UTC, datetime

    from adapters.config.environment_files import known_environments
    from cli.rendering.schedules import show_schedules
    from models.settings import current_settings
    from tasks.runtime.clients import find_environment
    from tasks.schedules.runs import read_schedules

    names = [environment] if environment else known_environments(current_settings())
    views = read_schedules([find_environment(name) for name in names], datetime.now(UTC))
    show_answer(views, json_wanted, show_schedules)


@schedule.command("run")
@click.argument("environment", metavar="[ENV]", required=False, shell_complete=completers.environments)
@click.argument("name", metavar="NAME", required=False, shell_complete=completers.schedules)
@as_json
def run_now(environment: str | None, name: str | None, json_wanted: bool) -> None:
    """Run the schedule NAME of ENV now. Exit code 1 if it fails; its retries, ticket and pings are as by the clock."""
    from cli.rendering.schedules import show_run

    if name is None:
        environment, name = None, environment
    if name is None:
        raise click.UsageError("Missing argument 'NAME'.")
    of, _ = resolve_names(environment, (), None)
    state, result = run_flow(ended_run("schedule", of, name, asked_by="roas schedule run"), quiet=json_wanted)
    if isinstance(result, RoasError):
        raise result
    from tasks.schedules.runs import run_of_flow

    run = run_of_flow(of, name, str(state.state_details.flow_run_id))
    show_answer(run, json_wanted, show_run)
    if run.state.is_bad:
        sys.exit(1)
