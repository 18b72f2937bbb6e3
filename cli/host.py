"""`roas host`: maintenance of the machine that this runs on."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from adapters.host.processes import this_process
from cli.exit_codes import FAILED
from cli.options import as_json, duration
from cli.run_flow import run_flow, show_answer
from flows.common.terminal import echo
from models.failures import BadInputError

if TYPE_CHECKING:
    from models.maintenance import Maintenance

_RESTART_ENGINE = "systemctl restart docker || service docker restart"


@click.group()
def host() -> None:
    """Maintain the machine that this runs on."""


@host.command()
@click.option("--reboot", is_flag=True, help="Reboot the machine once all is stopped; the agent goes on afterwards.")
@click.option("--restart-engine", is_flag=True, help="Restart the Docker engine once all is stopped.")
@click.option("--command", metavar="COMMAND", help="Run this by /bin/sh once all is stopped, such as an upgrade.")
@click.option("--reason", default="", help="Why; shown wherever the maintenance is.")
@click.option("--for", "length", type=duration, default="1h", show_default=True, help="An agent then brings all up.")
@click.option("--confirm", "names", multiple=True, metavar="NAME", help="The name of this host; of locked ENVs too.")
@click.option("--end", "end_wanted", is_flag=True, help="Bring up what the open maintenance stopped, or show the last.")
@as_json
def maintain(
    reboot: bool,
    restart_engine: bool,
    command: str | None,
    end_wanted: bool,
    length: timedelta,
    json_wanted: bool,
    **asked: Any,
) -> None:
    """Stop all environments in order, work on the machine, and bring up and prove what ran, with one report.

    Without --reboot, --restart-engine or --command it waits for you: `roas host maintain --end`. Alerts are quiet and
    recovery is paused meanwhile. Exit code 1 if the work failed, or something is not up again.
    """
    if reboot + restart_engine + (command is not None) + end_wanted > 1 or (
        command is not None and not command.strip()
    ):
        what = "--reboot, --restart-engine, --command and --end exclude each other, and a command is not empty;"
        raise BadInputError(what, advice='give one of them, such as --command "apt-get -y upgrade".')
    if not timedelta(minutes=1) <= length <= timedelta(days=1):
        raise BadInputError("--for is not between 1m and 1d;", advice="give a length such as 2h.")
    from tasks.deployment.maintenance import maintenance_lock, plan_maintenance, read_maintenance

    with ExitStack() as stack:
        lock = maintenance_lock()
        if (other := lock.take(str(this_process()))) is not None:
            raise BadInputError(f"A maintenance is open, and {other} carries it;", advice="wait for its end.")
        stack.callback(lock.release)
        opened, words = read_maintenance(), None
        if not end_wanted:
            command = _RESTART_ENGINE if restart_engine else command or ""
            words = ["systemctl", "reboot"] if reboot else ["/bin/sh", "-c", command] if command else []
            plan = plan_maintenance(asked["reason"], length, command=command, reboot=reboot)
            opened = _agreed(plan, opened, asked["names"])
        try:
            ended = read_maintenance("last.json") if opened is None else _run(opened, words)
        finally:
            if read_maintenance() is not None:
                echo("the maintenance is open: `roas host maintain --end` brings up what it stopped", err=True)
    show_answer(ended, json_wanted, _show)
    if ended is not None and not ended.success:
        sys.exit(FAILED)


def _show(ended: Maintenance | None) -> None:
    for line in (ended.title, *ended.output, *ended.lines) if ended else ("there was no maintenance",):
        echo(line)


def _agreed(plan: Maintenance, opened: Maintenance | None, names: tuple[str, ...]) -> Maintenance:
    """The maintenance that a person agrees to: this plan, or the same one that was cut off while it stopped."""
    from cli.confirmation import ask
    from models.maintenance import Stage
    from tasks.deployment.maintenance import find_running
    from tasks.monitoring.events import is_watched
    from tasks.reporting.consent import find_lock

    if opened is not None:
        goes_on = opened.stage is Stage.STOPPING and (opened.command, opened.reboot) == (plan.command, plan.reboot)
        if not goes_on or plan.begun_at >= opened.until:
            what = f"{opened.title} is open ({opened.stage}) until {opened.until:%Y-%m-%d %H:%M} UTC;"
            raise BadInputError(what, advice="`roas host maintain --end` brings up what it stopped.")
        plan = opened
    else:
        found, left = asyncio.run(find_running())
        plan = plan.model_copy(update={"environments": found})
        for name, why in left.items():
            echo(f"{name} is left alone: {why}", err=True)
    work = "the machine reboots" if plan.reboot else plan.command or "you work on the machine"
    stopped = ", ".join(one.name for one in plan.environments) or "nothing"
    if any(asyncio.run(is_watched(one.name, datetime.now(UTC))) for one in plan.environments):
        end = f"the agent brings all up at {plan.until:%H:%M} UTC at the latest"
    else:
        end = "no agent is running, so if this is cut off, `roas host maintain --end` brings all up"
    echo(f"stops {stopped}; then {work}; {end}", err=True)
    locks = {one.name: lock.words for one in plan.environments if (lock := find_lock(one.name)) is not None}
    for name, why in ({plan.host: "this host"} | locks).items():
        if name not in names:
            advice = f"give --confirm {name}."
            ask(f"{name} is {why}. Type its name to go on", refused="Nothing was stopped", advice=advice, name=name)
    return plan


def _run(maintenance: Maintenance, words: list[str] | None) -> Maintenance:
    """Run a maintenance with the words of its work; None only brings up."""

    async def run() -> Maintenance:
        from flows.deployment.maintain import bring_up, maintain

        return await (bring_up(maintenance) if words is None else maintain(maintenance, words))

    ended: Maintenance = run_flow(run)
    return ended
