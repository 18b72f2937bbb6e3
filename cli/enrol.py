"""`roas join` and `roas leave`: become a host of a control plane, and leave it; `roas fleet invite` and `revoke`."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from cli import completers
from cli.options import as_json, read_input
from cli.run_flow import show_answer
from flows.common.terminal import echo
from models.failures import BadInputError, RoasError
from models.settings import current_settings

if TYPE_CHECKING:
    from models.enrolment import Membership


@click.command()
@click.argument("server")
@click.argument("token")
@click.option("--no-service", is_flag=True, help="Install no service of systemd; you run `roas worker` yourself.")
def join(server: str, token: str, no_service: bool) -> None:
    """Make this host one of the control plane at SERVER, by the TOKEN that it was invited with.

    It gets a credential of its own and a work pool, its environments get their deployments there, and `roas
    worker` runs as a service from then on. TOKEN is - to read it from standard input. `roas leave` undoes it.
    """
    from adapters.config.environment_files import known_environments
    from adapters.host.identity import rename_host
    from adapters.server import membership
    from tasks.runtime.hosts import own_version, this_host

    settings = current_settings()
    token_text = read_input() if token == "-" else token  # noqa: S105 - the word for standard input
    here = this_host()
    member = membership.enrol(server, token_text, here.host_id, own_version(), settings)
    rename_host(settings.data_dir, member.name)
    echo(f"enrolled at {member.server} as {member.name}, work pool {member.pool}")
    names = known_environments(settings)
    if names:
        _deploy(names, member)
    else:
        echo("no environment is known here yet: `roas init` writes one, and `roas worker` deploys it")
    if no_service:
        echo("next: roas worker")
        return
    _install_service()


@click.command()
@click.option("--forget", is_flag=True, help="Only forget the credential here: the control plane is gone for good.")
def leave(forget: bool) -> None:
    """Undo `roas join`: remove this host's deployments and work pool, its credential and its service.

    Containers go on running, and records stay. Its environments stay bound to it until `roas fleet leave ENV`.
    """
    from adapters.host import systemd
    from adapters.server import membership
    from adapters.stores.outbox import Outbox
    from tasks.runtime.stores import open_stores

    settings = current_settings()
    member = membership.read_membership(settings)
    if member is None:
        raise BadInputError("This host is not enrolled at a control plane.", advice="")
    membership.leave(member, settings, tell=not forget)
    if settings.stores_url is None:
        # Nobody takes what is noted for the control plane any more: it would grow for ever.
        Outbox(open_stores()).end()
    echo(f"left {member.server}, and forgot its credential")
    if forget:
        echo(f"revoke it there, if it is ever back: roas fleet revoke {member.name}")
    is_system = os.geteuid() == 0
    if systemd.unit_file(is_system=is_system, unit=systemd.WORKER_UNIT).exists():
        echo(f"removed {systemd.remove(is_system=is_system, unit=systemd.WORKER_UNIT)}")


@click.command()
@click.argument("name")
@click.option("--hours", default=24, show_default=True, type=click.IntRange(1, 720), help="How long the token works.")
@as_json
def invite(name: str, hours: int, json_wanted: bool) -> None:
    """Make a token with which one host enrols under NAME. It is shown once, and works once.

    Run it where the Prefect server of the control plane runs.
    """
    import re

    from adapters.server.host_keys import HostKeys
    from adapters.server.program import program_to_hand_out
    from core.runtime.host_access import SHARED_CHANNELS
    from models.enrolment import HOST_NAME, Invitation

    if name == SHARED_CHANNELS:
        raise BadInputError(
            f"A host cannot be called {name}: channels of that name are for all.", advice="choose another name."
        )
    if not re.fullmatch(HOST_NAME, name):
        raise BadInputError(
            f"{name} is no name for a host;",
            advice="use lower-case letters, digits and hyphens, at most 40, such as host-a.",
        )
    settings = current_settings()
    made = HostKeys(settings.prefect_home).invite(name, datetime.now(UTC), timedelta(hours=hours))

    def show(invitation: Invitation) -> None:
        server = settings.public_ui_url
        echo(f"{invitation.name} may enrol once, until {invitation.expires_at:%Y-%m-%d %H:%M} UTC. On that host:")
        echo(f"  roas join {server} {invitation.token}")
        if program_to_hand_out(settings) is not None:
            echo("Without the program there, this installs it first, for root in /opt/roas:")
            echo(f"  curl -fsS {server}/roas/install | sh -s -- {server} {invitation.token}")
        if settings.ui_url is None:
            echo("with the address by which that host reaches this server; ROAS_UI_URL makes it known here")

    show_answer(made, json_wanted, show)


@click.command()
@click.argument("name", shell_complete=completers.invited_hosts)
def revoke(name: str) -> None:
    """Revoke the credential of host NAME, within 5 seconds. Its applications keep running, and it keeps healing them.

    Run it where the Prefect server of the control plane runs.
    """
    from adapters.server.host_keys import HostKeys
    from flows.fleet.stores_of_hosts import StoresOfHosts

    settings = current_settings()
    host = HostKeys(settings.prefect_home).revoke(name, datetime.now(UTC))
    StoresOfHosts().end(host.pool)
    echo(f"the credential of {name} no longer works; to let it back: roas fleet invite {name}")


def _deploy(names: tuple[str, ...], member: Membership) -> None:
    """Make the deployments now, or leave it to the worker where the server cannot be asked."""
    import asyncio

    from adapters.server.membership import reach_control_plane
    from flows.agent.enrolled import try_to_deploy
    from flows.server.engine_settings import take_settings_over

    reach_control_plane(member)
    take_settings_over()
    reason = asyncio.run(try_to_deploy(names, member.pool, echo))
    if reason is not None:
        echo(f"roas: deployments are not complete yet: {reason}; `roas worker` makes them", err=True)


def remove_deployments(environment: str) -> None:
    """Remove what this host has deployed of an environment on its control plane, where it is enrolled at one."""
    import asyncio

    from adapters.server.membership import reach_control_plane, read_membership

    member = read_membership(current_settings())
    if member is None:
        return
    from flows.agent.enrolled import try_to_remove
    from flows.server.engine_settings import take_settings_over

    reach_control_plane(member)
    take_settings_over()
    reason = asyncio.run(try_to_remove(environment, echo))
    if reason is not None:
        echo(f"roas: its deployments are still at {member.server}, so no other host can deploy it: {reason}", err=True)


def _install_service() -> None:
    from adapters.host import systemd
    from cli.service import install_worker

    try:
        install_worker()
    except RoasError as error:
        echo(f"roas: {error} {error.advice or ''}".rstrip(), err=True)
        echo(f"{systemd.WORKER_UNIT} is not installed; run `roas worker` under a supervisor of your own", err=True)
        sys.exit(1)


OF_FLEET: tuple[click.Command, ...] = (invite, revoke)
"""Subcommands of `roas fleet`."""
