"""Reports: the last days of an environment in one page of Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from models.analysis import Analysis
from models.metrics import Alert, Prediction, PredictionOutcome
from models.records import RecordedScore

_MOST = 20
"""More alerts than this on a page are not read."""


def report_text(
    analysis: Analysis,
    scores: Sequence[RecordedScore],
    alerts: Sequence[Alert],
    predictions: Sequence[Prediction],
) -> str:
    """What to mend first, then the figures it rests on; each piece of advice names its rows."""
    told = [alert for alert in alerts if alert.explained_by is None]
    lines = [f"# {analysis.environment}, {analysis.since:%Y-%m-%d} to {analysis.until:%Y-%m-%d}", ""]
    lines += ["## What to do", ""]
    lines += [
        f"- {_safe(one.advice)} Because {_safe(one.because)} ({', '.join(f'`{row}`' for row in one.rows[:5])})."
        for one in analysis.recommendations
    ] or ["Nothing stands out."]
    lines += ["", "## Operations", "", *_operations(analysis)]
    if scores:
        lines += ["", "## Services", "", "| service | score | grade | what costs most |", "|---|---|---|---|"]
        lines += [
            f"| {one.service} | {one.score:.0f} | {one.grade} | {_safe(' '.join(one.suggestions[:1]))} |"
            for one in scores
        ]
    lines += ["", "## Alerts", ""]
    lines += [f"{len(told)} alerts, which {len(alerts) - len(told)} others came of."]
    lines += [""] * bool(told)
    lines += [
        f"- {alert.opened_at:%m-%d %H:%M} {alert.severity}: {alert.service}: {_safe(alert.reason)} (`{alert.alert_id}`)"
        for alert in told[:_MOST]
    ]
    lines += ["", "## Predictions", "", predictions_in_words(predictions)]
    return "\n".join(lines) + "\n"


def predictions_in_words(predictions: Sequence[Prediction]) -> str:
    """How many came true: what a prediction is worth shows only afterwards."""
    counted = Counter(one.outcome for one in predictions)
    return (
        f"{len(predictions)} made: {counted[PredictionOutcome.HIT]} came true, {counted[PredictionOutcome.MISS]} did "
        f"not, {counted[PredictionOutcome.AVERTED]} turned back before, {counted[PredictionOutcome.OPEN]} stand."
    )


def _operations(analysis: Analysis) -> list[str]:
    if analysis.rate is None or analysis.low is None or analysis.high is None:
        return ["No start has ended."]
    rate = f"{analysis.rate:.0%} (95 %: {analysis.low:.0%} to {analysis.high:.0%})"
    return [
        f"{analysis.successes} of {analysis.total} starts succeeded, {rate}.",
        "",
        f"- success: {_safe(analysis.success_trend.words)}",
        f"- duration: {_safe(analysis.performance_trend.words)}",
    ]


def _safe(words: str) -> str:
    """Words of an application, so that none of them is taken for Markdown."""
    return " ".join(words.split()).replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
