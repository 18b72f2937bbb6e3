"""Reports: the last days of an environment in one page of Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from core.common.markdown import plain, table
from core.reporting.analysis import kinds_in_words, length_in_words
from models.analysis import Analysis, DayOfOperations, Direction, Repair
from models.drills import DrillRecord
from models.health import RecordedScore
from models.metrics import Alert, Prediction, PredictionOutcome

ARROWS = {Direction.IMPROVING: "↗", Direction.STABLE: "→", Direction.DECLINING: "↘", Direction.UNKNOWN: "·"}
"""Which way it goes; a dot where there is too little to say."""

DAY_COLUMNS = ("day", "operations", "succeeded", "mean", "median", "p95", "failures")
_MOST = 20
"""More alerts than this on a page are not read."""

_POOR = frozenset({"D", "F"})
_ROWS = 3


def report_text(
    analysis: Analysis,
    scores: Sequence[RecordedScore],
    alerts: Sequence[Alert],
    predictions: Sequence[Prediction],
    drills: Sequence[DrillRecord] = (),
) -> str:
    """What to mend first, then the figures it rests on; each piece of advice names its rows."""
    reported = [alert for alert in alerts if alert.explained_by is None]
    advice = [
        f"- **{capital(plain(recommendation.advice))}** {capital(plain(recommendation.because))}: "
        f"{rows_in_words(recommendation.rows, '`')}."
        for recommendation in analysis.recommendations
    ]
    shown_alerts = [
        f"- {alert.opened_at:%m-%d %H:%M} {alert.severity}: {alert.service}: {plain(alert.reason)} (`{alert.alert_id}`)"
        for alert in reported[:_MOST]
    ]
    services = [(score.service, f"{score.score:.0f}", score.grade, " ".join(score.suggestions[:1])) for score in scores]
    parts = [
        f"# {analysis.environment}, {analysis.since:%Y-%m-%d} to {analysis.until:%Y-%m-%d}",
        "## What to do",
        "\n".join(advice) or plain(verdict_in_words(scores)),
        "## Operations",
        *_operations(analysis),
        *(("## Failures", _repairs(analysis.repairs)) if analysis.repairs else ()),
        *(("## Services", table(("service", "score", "grade", "what costs most"), services)) if scores else ()),
        "## Alerts",
        alerts_in_words(len(reported), len(alerts) - len(reported)),
        "\n".join(shown_alerts),
        "## Predictions",
        predictions_in_words(predictions),
        *(("## Drills", "\n".join(f"- {plain(line)}" for line in drill_lines(drills))) if drills else ()),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def drill_lines(drills: Sequence[DrillRecord]) -> tuple[str, ...]:
    """What came of drills, and that the figures contain them."""
    return (*map(str, drills[:_MOST]), "Failures and probe answers of drills count in the figures above.")


def verdict_in_words(scores: Sequence[RecordedScore]) -> str:
    """What to say where no advice rests on figures: which services score badly now, and why."""
    poor = [score for score in scores if score.grade in _POOR]
    if not poor:
        return "Nothing stands out."
    named = "; ".join(
        f"{score.service} scores {score.score:.0f} of 100" + (f": {score.suggestions[0]}" if score.suggestions else "")
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


def _operations(analysis: Analysis) -> Iterator[str]:
    if analysis.rate is None or analysis.low is None or analysis.high is None:
        yield "No operation has ended."
        return
    rate = f"{100 * analysis.rate:.0f} % (95 % interval {100 * analysis.low:.0f} to {100 * analysis.high:.0f} %)"
    yield f"{analysis.successes} of {analysis.total} operations succeeded, {rate}: {kinds_in_words(analysis.kinds)}."
    trends = [("success of starts", analysis.success_trend), ("their duration", analysis.performance_trend)]
    lines = [f"- {ARROWS[trend.direction]} {name}: {plain(trend.words)}" for name, trend in trends]
    yield "\n".join([*lines, *([f"- ⚠ {plain(analysis.sudden_break)}"] if analysis.sudden_break else [])])
    yield table(DAY_COLUMNS, [day_row(day) for day in analysis.days if day.total], range(1, 6))


def day_row(day: DayOfOperations) -> tuple[str, ...]:
    """The operations of a day: how many there were, how many succeeded in what time, and what the others failed of."""
    times = (seconds_in_words(time) for time in (day.mean_ms, day.median_ms, day.p95_ms))
    return (f"{day.day}", str(day.total), str(day.successes), *times, causes_in_words(day.failures_by_cause))


def _repairs(repairs: Sequence[Repair]) -> str:
    head = ("service", "cause", "times", "not repaired", "mean time to repair", "mean time between")
    return table(head, [repair_row(repair) for repair in repairs[:_MOST]], range(2, 6))


def repair_row(repair: Repair) -> tuple[str, ...]:
    """How often a service failed of a cause, how often it was not repaired, and the mean times."""
    times = ("" if time is None else length_in_words(time) for time in (repair.mttr, repair.mtbf))
    counts = (str(repair.failures), str(repair.unresolved or ""))
    return (repair.service, repair.cause.replace("_", " "), *counts, *times)


def capital(words: str) -> str:
    """Words as the beginning of a sentence."""
    return words[:1].upper() + words[1:]
