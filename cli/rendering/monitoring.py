"""Text output of predictions and analyses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from rich.markup import escape

from cli.rendering.console import ago, say, show_table
from core.monitoring.baselines import describe_value
from core.reporting.analysis import kinds_in_words, length_in_words
from core.reporting.reports import ARROWS, DAY_COLUMNS, day_row, predictions_in_words, repair_row, rows_in_words
from models.analysis import Analysis, DayOfOperations, Direction, Repair, Trend
from models.metrics import Prediction, PredictionOutcome

_DAYS = 14
"""Days printed one by one; earlier ones are summed up, and complete with --json."""

_BECAME = {
    PredictionOutcome.HIT: "[red]came true[/red]",
    PredictionOutcome.MISS: "did not come true",
    PredictionOutcome.AVERTED: "[green]averted[/green]",
}
_COLOURS = {Direction.IMPROVING: "green", Direction.DECLINING: "red"}


def show_analysis(analysis: Analysis) -> None:
    """Print success rates with their intervals, days, repairs and advice."""
    if analysis.rate is None or analysis.low is None or analysis.high is None:
        say(
            f"No operation of {analysis.environment} has ended since {analysis.since:%Y-%m-%d}; look further back with "
            f"--days, or start it: roas start {analysis.environment}"
        )
        _show_repairs(analysis.repairs)
        return
    say(
        f"\n[bold]{analysis.environment}[/bold] since {analysis.since:%Y-%m-%d}: {analysis.successes} of "
        f"{analysis.total} operations succeeded, [bold]{100 * analysis.rate:.0f} %[/bold] "
        f"[dim](95 % interval {100 * analysis.low:.0f} to {100 * analysis.high:.0f} %): "
        f"{kinds_in_words(analysis.kinds)}[/dim]"
    )
    _show_trend("success of starts", analysis.success_trend)
    _show_trend("their duration", analysis.performance_trend)
    if analysis.sudden_break:
        say(f"  [yellow]![/yellow] [yellow]{escape(analysis.sudden_break)}[/yellow]")
    _show_days([day for day in analysis.days if day.total])
    _show_repairs(analysis.repairs)
    if analysis.recommendations:
        say("\n[bold]what to do[/bold]")
    for advice in analysis.recommendations:
        say(f"  - {escape(advice.advice)} [dim]{escape(advice.because)}: {rows_in_words(advice.rows)}[/dim]")


def _show_trend(name: str, trend: Trend) -> None:
    colour = _COLOURS.get(trend.direction)
    arrow = ARROWS[trend.direction]
    say(f"  {f'[{colour}]{arrow}[/{colour}]' if colour else arrow} {name:17} {escape(trend.words)}")


def _show_days(days: Sequence[DayOfOperations]) -> None:
    say("")
    show_table(DAY_COLUMNS, [tuple(map(escape, day_row(day))) for day in days[-_DAYS:]])
    if before := days[:-_DAYS]:
        total, good = sum(day.total for day in before), sum(day.successes for day in before)
        say(f"[dim]before, on {len(before)} other days: {good} of {total} succeeded; --json has each[/dim]")


def _show_repairs(repairs: Sequence[Repair]) -> None:
    if not repairs:
        return
    say("")
    rows = []
    for repair in repairs:
        service, cause, failures, unresolved, *times = map(escape, repair_row(repair))
        rows.append((service, cause, failures, f"[red]{unresolved}[/red]" if unresolved else "", *times))
    show_table(("service", "failed of", "times", "unresolved", "time to repair", "time between"), rows)


def show_predictions(predictions: Sequence[Prediction]) -> None:
    """Print open predictions with the time left and its 80 % interval, then the outcome of others."""
    if not predictions:
        say("There is no prediction: it needs history and a significant trend.")
        return
    now = datetime.now(UTC)
    standing = [prediction for prediction in predictions if prediction.outcome is PredictionOutcome.OPEN]
    for prediction in standing:
        time_left = (
            f"in {_time_left(prediction.expected - now)} "
            f"(80 %: {_time_left(prediction.earliest - now)} to {_time_left(prediction.latest - now)})"
        )
        say(
            f"[yellow]{prediction.metric}[/yellow] of [bold]{prediction.environment}/{prediction.service}[/bold] "
            f"{'falls below' if prediction.falling else 'passes'} "
            f"{describe_value(prediction.metric, prediction.threshold)} {time_left}"
        )
        say(f"  [dim]{escape(prediction.words)}; predicted {ago(prediction.made_at)}[/dim]")
    scored = [prediction for prediction in predictions if prediction.outcome is not PredictionOutcome.OPEN]
    if not scored:
        return
    say(f"\n{escape(predictions_in_words(scored))}")
    rows = [
        (
            f"{prediction.made_at:%Y-%m-%d %H:%M}",
            escape(f"{prediction.environment}/{prediction.service}"),
            prediction.metric,
            describe_value(prediction.metric, prediction.threshold),
            f"{prediction.expected:%Y-%m-%d %H:%M}",
            _BECAME[prediction.outcome],
            f"{prediction.scored_at:%Y-%m-%d %H:%M}" if prediction.scored_at else "",
        )
        for prediction in scored
    ]
    show_table(("made", "of", "metric", "limit", "expected", "outcome", "known"), rows)


def _time_left(time: timedelta) -> str:
    return length_in_words(time) if time > timedelta() else "no time"
