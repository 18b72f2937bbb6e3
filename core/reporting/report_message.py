"""A report as a message: what to mend first, and the figures beside it; and when it is due."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from core.reporting.reports import alerts_in_words, capital, predictions_in_words, verdict_in_words
from models.analysis import Analysis
from models.health import RecordedScore
from models.metrics import Alert, Prediction
from models.notifications import Fact, Message, Tone

_INTERVALS = {"daily": timedelta(days=1), "weekly": timedelta(days=7)}
_EARLY = timedelta(hours=6)
"""A run that begins a little earlier than the last one is not a day late."""

_MOST_ADVICE = 5


def is_due(every: Literal["daily", "weekly"], last: datetime | None, now: datetime) -> bool:
    """Whether a report that was last sent at a moment, if ever, is to be sent again."""
    return last is None or now - last >= _INTERVALS[every] - _EARLY


def report_message(
    analysis: Analysis, scores: Sequence[RecordedScore], alerts: Sequence[Alert], predictions: Sequence[Prediction]
) -> Message:
    """What to mend first as items, and operations, repairs, alerts and predictions as facts."""
    advice, verdict = analysis.recommendations, verdict_in_words(scores)
    causes = sum(alert.explained_by is None for alert in alerts)
    return Message(
        tone=Tone.WARNING if advice or verdict_in_words(()) != verdict else Tone.SUCCESS,
        title=f"Report on {analysis.environment}, {analysis.since:%Y-%m-%d} to {analysis.until:%Y-%m-%d}",
        summary="What to do:" if advice else verdict,
        items=tuple(
            f"{_sentence(recommendation.advice)} {_sentence(recommendation.because)}"
            for recommendation in advice[:_MOST_ADVICE]
        ),
        facts=(
            Fact(name="Operations", value=_operations(analysis)),
            Fact(name="Failures", value=_failures(analysis)),
            Fact(name="Alerts", value=alerts_in_words(causes, len(alerts) - causes)),
            Fact(name="Predictions", value=predictions_in_words(predictions)),
        ),
    )


def _operations(analysis: Analysis) -> str:
    if analysis.rate is None:
        return "No operation has ended."
    return (
        f"{analysis.successes} of {analysis.total} succeeded; success of starts is {analysis.success_trend.direction}."
    )


def _failures(analysis: Analysis) -> str:
    failures = sum(repair.failures for repair in analysis.repairs)
    unresolved = sum(repair.unresolved for repair in analysis.repairs)
    return f"{failures}, of which {unresolved} are not repaired." if failures else "None."


def _sentence(words: str) -> str:
    return capital(words).removesuffix(".") + "."
