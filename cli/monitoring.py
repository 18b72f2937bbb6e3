"""`roas` commands about monitoring: alerts, predictions and the report."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from cli.options import as_json, of_its_records, of_records
from flows.runtime.terminal import echo
from models.failures import BadInputError


def register(group: click.Group) -> None:
    """Add the commands of this module to `roas`."""
    for command in (alerts, acknowledge, predictions, report):
        group.add_command(command)


@click.command()
@of_records
@click.option("--all", "resolved_too", is_flag=True, help="Also those that are over.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many.")
@as_json
def alerts(environment: str | None, resolved_too: bool, limit: int, json_wanted: bool) -> None:
    """What should be known now, each cause with what comes of it. Exit code 1 where something is critical."""
    from cli.rendering.monitoring import show_alerts
    from cli.rendering.results import print_json
    from models.metrics import AlertSeverity, AlertState
    from tasks.runtime.stores import open_stores

    found = open_stores().alerts.latest(environment=environment, limit=limit)
    if not resolved_too:
        found = [alert for alert in found if alert.state is not AlertState.RESOLVED]
    if json_wanted:
        print_json(found)
    else:
        show_alerts(found)
    if any(one.state is AlertState.OPEN and one.severity is AlertSeverity.CRITICAL for one in found):
        sys.exit(1)


@click.command()
@click.argument("alert_id")
@click.option("--note", default="", help="What you do about it; kept with the alert.")
def acknowledge(alert_id: str, note: str) -> None:
    """Take an alert: it stays open until it is over, and is not told again unless it gets worse."""
    from tasks.monitoring.collect import acknowledge as take

    if not take(alert_id, datetime.now(UTC), note):
        raise BadInputError(f"No alert {alert_id} waits to be taken;", advice="`roas alerts` shows those that do.")
    echo(f"{alert_id} is yours")


@click.command()
@of_records
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 3650), help="How far to look back.")
@as_json
def predictions(environment: str | None, days: int, json_wanted: bool) -> None:
    """What will pass its limit, when and how surely; and what became of what was said before."""
    from cli.rendering.monitoring import show_predictions
    from cli.run_flow import show_answer
    from tasks.reporting.read import read_predictions

    show_answer(read_predictions(environment, datetime.now(UTC) - timedelta(days=days)), json_wanted, show_predictions)


@click.command()
@of_its_records
@click.option("--days", default=7, show_default=True, type=click.IntRange(1, 3650), help="How far to look back.")
@as_json
def report(environment: str, days: int, json_wanted: bool) -> None:
    """How the last days went: operations, scores, alerts, predictions and what to mend first, in Markdown.

    With --json it is not kept.
    """
    if json_wanted:
        from cli.rendering.results import print_json
        from tasks.reporting.reports import days_of

        print_json(days_of(environment, days, datetime.now(UTC)))
        return
    from cli.run_flow import run_flow

    async def run() -> Any:
        from flows.reporting.report import report as flow

        return await flow(environment, days=days)

    echo(run_flow(run))
