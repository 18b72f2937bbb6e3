"""Text output of alerts and scores, apart from what needs NumPy, which is slow to import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from cli.rendering.console import ago, colour_state, say

if TYPE_CHECKING:
    from models.health import RecordedScore
    from models.metrics import Alert


def show_alerts(alerts: Sequence[Alert]) -> None:
    """Print each root alert on one line, with the alerts it explains below."""
    from models.metrics import AlertState

    if not alerts:
        say("There is no alert.")
        return
    shown = {alert.alert_id for alert in alerts}
    for alert in alerts:
        if alert.explained_by in shown:
            continue
        state = "" if alert.state is AlertState.OPEN else f" [dim]{alert.state}[/dim]"
        say(
            f"{colour_state(alert.severity)} [bold]{alert.environment}/{alert.service}[/bold] {escape(alert.reason)} "
            f"[dim]{ago(alert.opened_at)}[/dim]{state}"
        )
        say(f"  [dim]{alert.alert_id}[/dim]" + (f"  {escape(alert.note)}" if alert.note else ""))
        for child in alerts:
            if child.explained_by == alert.alert_id:
                say(f"    {child.service}: {escape(child.reason)}")


def show_scores(scores: Sequence[RecordedScore]) -> None:
    """Print one line for each service, with bounds when few checks make the score uncertain."""
    for score in scores:
        low, high = score.parts.get("low"), score.parts.get("high")
        bounds = "" if low is None or high is None or high - low < 1 else f" ({low:.0f} to {high:.0f})"
        hint = f"  {escape(score.suggestions[0])}" if score.suggestions and score.score < 90 else ""
        say(f"  score  {score.service} {score.score:.0f} {score.grade}{bounds}{hint}")
