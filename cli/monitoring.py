"""`roas` commands about monitoring: alerts, predictions and the report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from cli import completers
from cli.options import as_html, as_json, of_its_records, of_records
from cli.run_flow import flow_run, opened_stores, run_flow, show_answer
from flows.common.terminal import echo
from models.failures import BadInputError


@click.command()
@of_records
@click.option("--all", "resolved_too", is_flag=True, help="Include resolved alerts.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many.")
@as_json
def alerts(environment: str | None, resolved_too: bool, limit: int, json_wanted: bool) -> None:
    """List alerts, each root alert with those it explains."""
    from cli.rendering.alerts import show_alerts
    from models.metrics import AlertState

    latest_alerts = opened_stores().alerts.latest(environment=environment, limit=limit)
    if not resolved_too:
        latest_alerts = [alert for alert in latest_alerts if alert.state is not AlertState.RESOLVED]
    show_answer(latest_alerts, json_wanted, show_alerts)


@click.command()
@click.argument("alert_id", shell_complete=completers.alerts)
@click.option("--note", default="", help="What you do about it; stored with the alert.")
def acknowledge(alert_id: str, note: str) -> None:
    """Acknowledge an alert: it stays open until it is resolved, but notifies again only if it gets worse."""
    from tasks.monitoring.collect import acknowledge as take

    if not take(alert_id, datetime.now(UTC), note):
        raise BadInputError(f"There is no open alert {alert_id};", advice="`roas alerts` lists open ones.")
    echo(f"{alert_id} is acknowledged")


@click.command()
@of_records
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 3650), help="How far to look back.")
@as_json
def predictions(environment: str | None, days: int, json_wanted: bool) -> None:
    """List predictions of metrics that will pass their limits, and the outcome of earlier ones."""
    from cli.rendering.monitoring import show_predictions
    from tasks.reporting.read import read_predictions

    show_answer(read_predictions(environment, datetime.now(UTC) - timedelta(days=days)), json_wanted, show_predictions)


@click.command()
@of_its_records
@click.option("--days", default=7, show_default=True, type=click.IntRange(1, 3650), help="How far to look back.")
@as_html
@click.option("--send", is_flag=True, help="Send it now to those that `report` in the environment's file names.")
@as_json
def report(environment: str, days: int, html_file: str | None, send: bool, json_wanted: bool) -> None:
    """Report on the last days in Markdown: operations, scores, alerts, predictions and advice.

    With --html one page with plots, recoveries and availability. With --html or --json the report is not stored.
    """
    if json_wanted and html_file is not None:
        raise BadInputError("Give --html or --json, not both.")
    if send and (json_wanted or html_file is not None):
        raise BadInputError("--send goes without --html and --json.")
    if json_wanted:
        from cli.rendering.results import print_json
        from tasks.reporting.days import days_of

        print_json(days_of(environment, days, datetime.now(UTC)))
        return
    if html_file is not None:
        from cli.rendering.pages import write_html
        from tasks.reporting.days import page_of_days

        write_html(page_of_days(environment, days, datetime.now(UTC)), html_file)
        return
    echo(run_flow(flow_run("report", environment, days=days, send="now" if send else "no")))
