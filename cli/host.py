"""`roas host`: maintenance of the machine that this runs on."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from cli.exit_codes import FAILED
from cli.options import as_json, duration
from cli.run_flow import run_flow, show_answer
from flows.common.terminal import echo
from models.failures import BadInputError, RoasError

if TYPE_CHECKING:
    from models.maintenance import Maintenance

_RESTART_ENGINE = "systemctl restart docker || service docker restart"


@click.group(invoke_without_command=True)
@as_json
@click.pass_context
def host(context: click.Context, json_wanted: bool) -> None:
    """Show the maintenance of this machine that is open, or the last one."""
    if context.invoked_subcommand is not None:
        return
    from tasks.runtime.maintenance import last_maintenance

    if (maintenance := last_maintenance()) is None and not json_wanted:
        echo("this host had no maintenance")
        return
    show_answer(maintenance, json_wanted, _show)


@host.command()
@click.option("--reboot", is_flag=True, help="Reboot the machine once all is stopped; the agent goes on afterwards.")
@click.option("--restart-engine", is_flag=True, help="Restart the Docker engine once all is stopped.")
@click.option("--command", metavar="COMMAND", help="Run this by /bin/sh once all is stopped, such as an upgrade.")
@click.option("--reason", default="", help="Why; shown wherever the maintenance is.")
@click.option(
    "--for",
    "length",
    type=duration,
    default="1h",
    show_default=True,
    help="So long at most: then the command is killed, and the agent brings all up.",
)
@click.option(
    "--confirm", "names", multiple=True, metavar="NAME", help="This host's name, and those of locked environments."
)
@click.option("--end", "end_wanted", is_flag=True, help="Bring up what an open maintenance has stopped.")
def maintain(
    reboot: bool,
    restart_engine: bool,
    command: str | None,
    reason: str,
    length: timedelta,
    names: tuple[str, ...],
    end_wanted: bool,
) -> None:
    """Stop all environments in order, work on the machine, and bring up and prove what ran, with one report.

    Without --reboot, --restart-engine or --command it waits for you: `roas host maintain --end`. Alerts are quiet and
    recovery is paused meanwhile. Exit code 1 if the work failed, or not all is up again.
    """
    if sum((reboot, restart_engine, bool(command), end_wanted)) > 1 or command == "":
        what = "--reboot, --restart-engine, --command and --end cannot be combined, and a command is not empty;"
        raise BadInputError(what, advice='give one of them, such as --command "apt-get -y upgrade".')
    from tasks.runtime.maintenance import maintaining_alone, open_maintenance

    with maintaining_alone() as other:
        if other is not None:
            raise BadInputError(f"A maintenance is open: {other} carries it;", advice="`roas host` shows it.")
        maintenance = open_maintenance()
        if end_wanted:
            if maintenance is None:
                echo("no maintenance is open")
                return
            words = None
        else:
            command = _RESTART_ENGINE if restart_engine else command or ""
            words = ["systemctl", "reboot"] if reboot else ["/bin/sh", "-c", command] if command else []
            maintenance = _begin(maintenance, reason, length, names, command, reboot=reboot)
        maintenance = _run(maintenance, words)
    _show(maintenance)
    if not maintenance.success:
        sys.exit(FAILED)


def _begin(
    opened: Maintenance | None, reason: str, length: timedelta, names: tuple[str, ...], command: str, *, reboot: bool
) -> Maintenance:
    """The maintenance that a person agreed to, or that was cut off while it stopped, and is asked for again."""
    import asyncio

    from cli.confirmation import ask
    from models.maintenance import Stage
    from tasks.deployment.maintenance import find_running, plan_maintenance
    from tasks.reporting.consent import find_lock

    if not timedelta(minutes=1) <= length <= timedelta(days=1):
        raise BadInputError("--for is not between 1m and 1d;", advice="give a length such as 2h.")
    plan = plan_maintenance(reason, datetime.now(UTC) + length, command=command, reboot=reboot)
    if opened is not None:
        same = (opened.command, opened.reboot) == (plan.command, plan.reboot)
        if opened.stage is not Stage.STOPPING or not same or datetime.now(UTC) >= opened.until:
            what = f"The {opened.title} is open: {opened.stage} until {opened.until:%Y-%m-%d %H:%M} UTC;"
            raise BadInputError(what, advice="`roas host maintain --end` brings up what it stopped.")
        plan = opened
    else:
        found, left = asyncio.run(find_running())
        plan = plan.model_copy(update={"environments": found})
        for name, why in left.items():
            echo(f"{name} is left alone: {why}", err=True)
    work = "the machine reboots" if reboot else command or "it waits for roas host maintain --end"
    stopped = ", ".join(one.name for one in plan.environments) or "nothing"
    echo(f"stops {stopped}; then {work}; all is up again by {plan.until:%Y-%m-%d %H:%M} UTC at the latest", err=True)
    locks = {one.name: lock for one in plan.environments if (lock := find_lock(one.name))}
    for name, why in {
        plan.host: "its maintenance",
        **{name: f"it is {lock.words}" for name, lock in locks.items()},
    }.items():
        if name not in names:
            refused, advice = "Nothing was stopped", f"give --confirm {name}."
            ask(f"{name}: {why}. Type its name to go on", refused=refused, advice=advice, name=name)
    return plan


def _run(maintenance: Maintenance, words: list[str] | None) -> Maintenance:
    """Run a maintenance with the words of its work; None only brings up."""

    async def run() -> Maintenance:
        from flows.deployment.maintain import bring_up, maintain

        return await (bring_up(maintenance) if words is None else maintain(maintenance, words))

    from tasks.runtime.maintenance import open_maintenance

    try:
        done: Maintenance = run_flow(run)
    except BaseException:
        with suppress(OSError, RoasError):
            if open_maintenance() is not None:
                echo("the maintenance is open: `roas host maintain --end` brings up what it stopped", err=True)
        raise
    return done


def _show(maintenance: Maintenance) -> None:
    from tasks.runtime.maintenance import open_maintenance

    echo(maintenance.title)
    for line in (*maintenance.output, *maintenance.lines):
        echo(f"  {line}")
    if open_maintenance() is not None:
        end = f"until {maintenance.until:%Y-%m-%d %H:%M} UTC, when the agent brings all up"
        echo(f"{maintenance.stage}, {end}; sooner: roas host maintain --end")
