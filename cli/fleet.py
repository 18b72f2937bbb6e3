"""`roas fleet`: all hosts and environments, and moving an environment from one host to another."""

from __future__ import annotations

import click

from adapters.host.processes import this_user
from cli import completers
from cli.enrol import OF_FLEET, remove_deployments
from cli.options import as_json
from cli.run_flow import show_answer
from flows.common.terminal import echo


@click.group(invoke_without_command=True)
@as_json
@click.pass_context
def fleet(context: click.Context, json_wanted: bool) -> None:
    """Show all hosts and environments: contact, version, clock, backlog, health."""
    if context.invoked_subcommand is not None:
        return
    from cli.rendering.fleet import show_fleet
    from tasks.reporting.fleet import read_fleet

    show_answer(read_fleet(), json_wanted, show_fleet)


@fleet.command()
@click.argument("environment", shell_complete=completers.environments)
@click.option("--yes", is_flag=True, help="Do not ask.")
def take(environment: str, yes: bool) -> None:
    """Move ENV to this host, where its host is silent or has released it.

    Containers and data stay where they are: stop the old ones, or make sure that their host is off.
    """
    from cli.confirmation import ask
    from tasks.runtime.moves import refuse_move, take_environment

    there = refuse_move(environment)
    if there is not None and not yes:
        echo(
            f"{environment} belongs to host {there.label}. Its containers and data are not moved: containers that "
            "still run there serve beside those of this host.",
            err=True,
        )
        question = f"Move {environment} to this host?"
        ask(question, refused=f"{environment} was not moved", advice="give --yes.")
    if there is not None and there.dismissed_at is None:
        echo(f"watching for a minute that host {there.label} stays silent", err=True)
    echo(take_environment(environment, there, this_user()))


@fleet.command()
@click.argument("environment", shell_complete=completers.environments)
def leave(environment: str) -> None:
    """Release ENV from this host; the next host that operates it takes it over. Stop it first."""
    from tasks.runtime.moves import leave_environment

    echo(leave_environment(environment, this_user()))
    remove_deployments(environment)


@fleet.command()
@click.argument("host", shell_complete=completers.hosts)
def dismiss(host: str) -> None:
    """Raise no alert while HOST (a name or an id) is silent, until it is in contact again."""
    from tasks.recovery.hosts import dismiss_host

    actor = this_user()
    host_record = dismiss_host(host, actor.user, actor)
    echo(f"no contact of host {host_record.label} is expected until it is in contact again")


for _command in OF_FLEET:
    fleet.add_command(_command)
