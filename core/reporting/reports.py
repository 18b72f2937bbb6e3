"""Reports: the last days of an environment in one page of Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from core.reporting.analysis import length_in_words
from models.analysis import Analysis, Direction, Repair
from models.health import RecordedScore
from models.metrics import Alert, Prediction, PredictionOutcome

ARROWS = {Direction.IMPROVING: "↗", Direction.STABLE: "→", Direction.DECLINING: "↘", Direction.UNKNOWN: "·"}
"""Which way it goes; a dot where there is too little to say."""

_MOST = 20
"""More alerts than this on a page are not read."""

_POOR = frozenset({"D", "F"})
_ROWS = 3


def report_text(
    analysis: Analysis, scores: Sequence[RecordedScore], alerts: Sequence[Alert], predictions: Sequence[Prediction]
) -> str:
    """What to mend first, then the figures it rests on; each piece of advice names its rows."""
    reported = [alert for alert in alerts if alert.explained_by is None]
    lines = [f"# {analysis.environment}, {analysis.since:%Y-%m-%d} to {analysis.until:%Y-%m-%d}", ""]
    lines += ["## What to do", ""]
    lines += [
        f"- **{_capital(_safe(recommendation.advice))}** {_capital(_safe(recommendation.because))}: "
        f"{rows_in_words(recommendation.rows, '`')}."
        for recommendation in analysis.recommendations
    ] or [verdict_in_words(scores)]
    lines += ["", "## Starts", "", *_operations(analysis)]
    if analysis.repairs:
        lines += ["", "## Failures", "", *_repairs(analysis.repairs)]
    if scores:
        lines += ["", "## Services", "", "| service | score | grade | what costs most |", "|---|---|---|---|"]
        lines += [
            f"| {score.service} | {score.score:.0f} | {score.grade} | {_safe(' '.join(score.suggestions[:1]))} |"
            for score in scores
        ]
    lines += ["", "## Alerts", ""]
    lines += [alerts_in_words(len(reported), len(alerts) - len(reported))]
    lines += [""] * bool(reported)
    lines += [
        f"- {alert.opened_at:%m-%d %H:%M} {alert.severity}: {alert.service}: {_safe(alert.reason)} (`{alert.alert_id}`)"
        for alert in reported[:_MOST]
    ]
    lines += ["", "## Predictions", "", predictions_in_words(predictions)]
    return "\n".join(lines) + "\n"


def verdict_in_words(scores: Sequence[RecordedScore]) -> str:
    """What to say where no advice rests on figures: which services score badly now, and why."""
    poor = [score for score in scores if score.grade in _POOR]
    if not poor:
        return "Nothing stands out."
    named = "; ".join(
        f"{score.service} scores {score.score:.0f} of 100"
        + (f": {_safe(score.suggestions[0])}" if score.suggestions else "")
        for score in sorted(poor, key=lambda score: (score.score, score.service))
    )
    return named.removesuffix(".") + "."


def predictions_in_words(predictions: Sequence[Prediction]) -> str:
    """How many came true: what a prediction is worth shows only afterwards."""
    if not predictions:
        return "None were made."
    counted = Counter(prediction.outcome for prediction in predictions)
    return (
        f"{len(predictions)} made: {counted[PredictionOutcome.HIT]} came true, {counted[PredictionOutcome.MISS]} did "
        f"not, {counted[PredictionOutcome.AVERTED]} averted because the trend turned, "
        f"{counted[PredictionOutcome.OPEN]} open."
    )


def rows_in_words(rows: Sequence[str], mark: str = "") -> str:
    """The first rows that say so, and how many more do."""
    more = f" and {len(rows) - _ROWS} more" if len(rows) > _ROWS else ""
    return ", ".join(f"{mark}{row}{mark}" for row in rows[:_ROWS]) + more


def seconds_in_words(milliseconds: float | None) -> str:
    """A duration in seconds; nothing where there is none."""
    return "" if milliseconds is None else f"{milliseconds / 1000:.1f} s"


def causes_in_words(failures_by_cause: Mapping[str, int]) -> str:
    """What failures came of, the most frequent first."""
    causes = sorted(failures_by_cause.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {cause.replace('_', ' ')}" for cause, count in causes)


def alerts_in_words(causes: int, effects: int) -> str:
    """How many alerts there were, and how many more came of them."""
    if not causes + effects:
        return "None."
    came = (
        f", and {effects} alert{'s' * (effects != 1)} that came of {'it' if causes == 1 else 'them'}" if effects else ""
    )
    return f"{causes} cause{'s' * (causes != 1)}{came}."


def _operations(analysis: Analysis) -> list[str]:
    if analysis.rate is None or analysis.low is None or analysis.high is None:
        return ["No start has ended."]
    rate = f"{100 * analysis.rate:.0f} % (95 % interval {100 * analysis.low:.0f} to {100 * analysis.high:.0f} %)"
    sudden = [f"- ⚠ {_safe(analysis.sudden_break)}"] if analysis.sudden_break else []
    return [
        f"{analysis.successes} of {analysis.total} starts succeeded, {rate}.",
        "",
        f"- {ARROWS[analysis.success_trend.direction]} success: {_safe(analysis.success_trend.words)}",
        f"- {ARROWS[analysis.performance_trend.direction]} duration: {_safe(analysis.performance_trend.words)}",
        *sudden,
        "",
        "| day | starts | succeeded | mean | median | p95 | failures |",
        "|---|--:|--:|--:|--:|--:|---|",
        *(
            f"| {day.day} | {day.total} | {day.successes} | {seconds_in_words(day.mean_ms)} "
            f"| {seconds_in_words(day.median_ms)} | {seconds_in_words(day.p95_ms)} "
            f"| {_safe(causes_in_words(day.failures_by_cause))} |"
            for day in analysis.days
            if day.total
        ),
    ]


def _repairs(repairs: Sequence[Repair]) -> list[str]:
    return [
        "| service | cause | times | not repaired | mean time to repair | mean time between |",
        "|---|---|--:|--:|--:|--:|",
        *(
            f"| {_safe(repair.service)} | {repair.cause.replace('_', ' ')} | {repair.failures} "
            f"| {repair.unresolved or ''} "
            f"| {length_in_words(repair.mttr) if repair.mttr is not None else ''} "
            f"| {length_in_words(repair.mtbf) if repair.mtbf is not None else ''} |"
            for repair in repairs[:_MOST]
        ),
    ]


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _safe(words: str) -> str:
    """Words of an application, so that none of them is taken for Markdown."""
    return " ".join(words.split()).replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
