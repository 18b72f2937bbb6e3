"""How alerts and scores look to a person on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from flows.console import ago, coloured, say
from models.metrics import Alert, AlertState
from models.records import RecordedScore


def show_alerts(alerts: Sequence[Alert]) -> None:
    """Each cause in one line, with what comes of it below."""
    if not alerts:
        say("Nothing to tell.")
        return
    shown = {alert.alert_id for alert in alerts}
    for alert in alerts:
        if alert.explained_by in shown:
            continue
        state = "" if alert.state is AlertState.OPEN else f" [dim]{alert.state}[/dim]"
        say(
            f"{coloured(alert.severity)} [bold]{alert.environment}/{alert.service}[/bold] {escape(alert.reason)} "
            f"[dim]{ago(alert.opened_at)}[/dim]{state}"
        )
        say(f"  [dim]{alert.alert_id}[/dim]" + (f"  {escape(alert.note)}" if alert.note else ""))
        for child in alerts:
            if child.explained_by == alert.alert_id:
                say(f"    {child.service}: {escape(child.reason)}")


def show_scores(scores: Sequence[RecordedScore]) -> None:
    """One line for each service; few checks prove little, so the bounds stand beside the score."""
    for score in scores:
        low, high = score.parts.get("low"), score.parts.get("high")
        bounds = "" if low is None or high is None or high - low < 1 else f" ({low:.0f} to {high:.0f})"
        hint = f"  {escape(score.suggestions[0])}" if score.suggestions and score.score < 90 else ""
        say(f"  score  {score.service} {score.score:.0f} {score.grade}{bounds}{hint}")
