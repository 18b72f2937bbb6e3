"""A report as a page: success, durations, repairs, availability, alerts and predictions of an environment."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import date

from core.reporting.analysis import kinds_in_words, length_in_words
from core.reporting.plots import MOST_POINTS
from core.reporting.reports import (
    alerts_in_words,
    capital,
    causes_in_words,
    drill_lines,
    predictions_in_words,
    repair_row,
    rows_in_words,
    seconds_in_words,
    verdict_in_words,
)
from models.analysis import ActionOutcomes, Analysis, AnswersOfDay, DayOfOperations, Repair, Share
from models.drills import DrillRecord
from models.health import RecordedScore
from models.metrics import Alert, Prediction, PredictionOutcome
from models.pages import Block, Items, Page, Plot, PlotLine, Section, Table, Text

_MOST_ROWS = 50
_DAYS_ONE_BY_ONE = 35
_MOST_PLOTS = 6
_NUMBER_OF_OPERATIONS = frozenset({1, 2, 3, 4, 5})


def report_page(
    analysis: Analysis,
    scores: Sequence[RecordedScore],
    alerts: Sequence[Alert],
    predictions: Sequence[Prediction],
    *,
    answers: Sequence[AnswersOfDay] = (),
    actions: Sequence[ActionOutcomes] = (),
    objective_percent: float | None = None,
    drills: Sequence[DrillRecord] = (),
) -> Page:
    """What to mend first, then the figures it rests on.

    `objective_percent` is the share of good probe answers that the environment's file asks for; None where it has no
    file. Up to 35 days stand one by one, more are summed up by week, so that a plot has at most 200 points.
    """
    periods = _periods(analysis.days)
    return Page(
        title=f"Report on {analysis.environment}",
        subtitle=f"{analysis.since:%Y-%m-%d} to {analysis.until:%Y-%m-%d}; days are of UTC.",
        sections=(
            Section(heading="What to do", blocks=_advice(analysis, scores)),
            Section(heading="Operations", blocks=tuple(_operations(analysis, periods))),
            Section(heading="Failures and repairs", blocks=tuple(_repairs(analysis.repairs, actions))),
            Section(heading="Availability", blocks=tuple(_availability(answers, periods, objective_percent))),
            Section(heading="Scores", blocks=_scores(scores)),
            Section(heading="Alerts", blocks=tuple(_alerts(alerts))),
            Section(heading="Predictions", blocks=tuple(_predictions(predictions))),
            *([Section(heading="Drills", blocks=(Items(items=drill_lines(drills)),))] if drills else ()),
        ),
    )


def percent_in_words(share: Share) -> str:
    """A share to a hundredth of a percent; never 100 while one is bad. Empty without any."""
    if share.value is None:
        return ""
    hundredths = math.floor(share.value * 10_000) if share.good < share.total else 10_000
    return f"{hundredths / 100:.2f} %"


def _periods(days: Sequence[DayOfOperations]) -> list[Sequence[DayOfOperations]]:
    """Days one by one, or by as many weeks as a plot has room for; the last period is complete."""
    weeks = math.ceil(len(days) / (7 * MOST_POINTS))
    length = 1 if len(days) <= _DAYS_ONE_BY_ONE else 7 * weeks
    begins = range(len(days) % length, len(days), length)
    first = [days[: begins.start]] if begins.start else []
    return [*first, *(days[begin : begin + length] for begin in begins)]


def _period_in_words(periods: Sequence[Sequence[DayOfOperations]]) -> str:
    length = max((len(period) for period in periods), default=1)
    return "day" if length == 1 else "week" if length == 7 else f"{length // 7} weeks"


def _advice(analysis: Analysis, scores: Sequence[RecordedScore]) -> tuple[Block, ...]:
    if not analysis.recommendations:
        return (Text(text=verdict_in_words(scores)),)
    return (
        Items(
            items=tuple(
                f"{capital(recommendation.advice)} {capital(recommendation.because)}: "
                f"{rows_in_words(recommendation.rows)}."
                for recommendation in analysis.recommendations
            )
        ),
    )


def _operations(analysis: Analysis, periods: Sequence[Sequence[DayOfOperations]]) -> Iterable[Block]:
    if analysis.rate is None or analysis.low is None or analysis.high is None:
        yield Text(text="No operation has ended.")
        return
    yield Text(
        text=f"{analysis.successes} of {analysis.total} operations succeeded, {100 * analysis.rate:.0f} % "
        f"(95 % interval {100 * analysis.low:.0f} to {100 * analysis.high:.0f} %): {kinds_in_words(analysis.kinds)}."
    )
    trends = (
        f"Success of starts is {analysis.success_trend.direction}: {analysis.success_trend.words}.",
        f"Duration of starts is {analysis.performance_trend.direction}: {analysis.performance_trend.words}.",
        *((f"{capital(analysis.sudden_break)}.",) if analysis.sudden_break else ()),
    )
    yield Items(items=trends)
    every, labels = _period_in_words(periods), tuple(f"{period[0].day}" for period in periods)
    rates = tuple(_rate(period) for period in periods)
    yield Plot(
        title=f"Operations that succeeded, by {every}",
        unit="%",
        labels=labels,
        lines=(PlotLine(name="succeeded", values=rates),),
        highest=100.0,
    )
    yield Plot(
        title=f"Duration of successful operations, by {every}",
        unit="s",
        labels=labels,
        lines=(
            PlotLine(name="mean", values=tuple(_seconds(_mean_ms(period)) for period in periods)),
            PlotLine(name="highest p95 of a day", values=tuple(_seconds(_p95_ms(period)) for period in periods)),
        ),
    )
    rows = [
        (
            f"{period[0].day}",
            str(sum(day.total for day in period)),
            str(sum(day.successes for day in period)),
            "" if rate is None else f"{rate:.0f} %",
            seconds_in_words(_mean_ms(period)),
            seconds_in_words(_p95_ms(period)),
            causes_in_words(_causes(period)),
        )
        for period, rate in zip(periods, rates, strict=True)
        if any(day.total for day in period)
    ]
    yield Table(
        caption=f"Operations by {every}",
        head=("first day", "operations", "succeeded", "share", "mean", "highest p95", "failures"),
        rows=tuple(rows),
        numbers=_NUMBER_OF_OPERATIONS,
        folded=len(rows) > 7,
    )


def _repairs(repairs: Sequence[Repair], actions: Sequence[ActionOutcomes]) -> Iterable[Block]:
    if repairs:
        head = ("service", "cause", "times", "not repaired", "mean time to repair", "mean time between")
        caption = "Failures by service and cause, with the time to repair"
        yield _longest_part(caption, head, [repair_row(repair) for repair in repairs], {2, 3, 4, 5})
    else:
        yield Text(text="No failure is recorded.")
    if not actions:
        yield Text(text="No recovery was tried.")
        return
    rows = [
        (
            *(action.strategy.replace("_", " "), action.cause.replace("_", " ")),
            *(str(action.helped + action.failed + action.running), str(action.helped)),
            *(str(action.failed), str(action.running or "")),
        )
        for action in actions
    ]
    head = ("action", "against", "tried", "helped", "without success", "running")
    yield _longest_part("Recoveries that were tried", head, rows, {2, 3, 4, 5})


def _longest_part(
    caption: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]], numbers: Iterable[int] = ()
) -> Table:
    """A table of as many rows as are read, which says how many more there are."""
    shown, omitted = tuple(rows[:_MOST_ROWS]), max(0, len(rows) - _MOST_ROWS)
    return Table(caption=caption, head=head, rows=shown, numbers=frozenset(numbers), omitted=omitted)


def _availability(
    answers: Sequence[AnswersOfDay], periods: Sequence[Sequence[DayOfOperations]], objective_percent: float | None
) -> Iterable[Block]:
    if not answers:
        yield Text(text="No probe answer is recorded.")
        return
    by_service: dict[str, dict[date, Share]] = defaultdict(dict)
    for answers_of_day in answers:
        by_service[answers_of_day.service][answers_of_day.day] = answers_of_day.share
    whole = {service: _sum(days.values()) for service, days in by_service.items()}
    worst_first = sorted(whole, key=lambda service: (whole[service].value or 0.0, service))
    first = min(answers_of_day.day for answers_of_day in answers)
    objective = f" The objective is {objective_percent:g} %." if objective_percent is not None else ""
    yield Text(text=f"Share of probe answers that were good, of those that are kept since {first}.{objective}")
    judged = () if objective_percent is None else ("objective", "error budget spent", "result")
    yield Table(
        caption="Availability of each service",
        head=("service", "answers", "good", *judged),
        rows=tuple((service, *_availability_row(whole[service], objective_percent)) for service in worst_first),
        numbers=frozenset({1, 2, 3, 4}) if judged else frozenset({1, 2}),
    )
    every, labels = _period_in_words(periods), tuple(f"{period[0].day}" for period in periods)
    shown = [service for service in worst_first if whole[service].good < whole[service].total][:_MOST_PLOTS]
    for service in shown:
        shares = [_sum(by_service[service].get(day.day) for day in period) for period in periods]
        values = tuple(None if share.value is None else 100 * share.value for share in shares)
        yield Plot(
            title=f"Availability of {service}, by {every}",
            unit="%",
            labels=labels,
            lines=(PlotLine(name="good answers", values=values),),
            lowest=_floor(values, objective_percent),
            highest=100.0,
            limit=objective_percent,
        )
    if without := len(worst_first) - len(shown):
        yield Text(text=f"{without} service{'s' * (without != 1)} with the highest availability: not plotted.")


def _availability_row(share: Share, objective_percent: float | None) -> tuple[str, ...]:
    counted = (str(share.total), percent_in_words(share))
    if objective_percent is None:
        return counted
    if share.value is None:
        return (*counted, "", "", "")
    spent = (1 - share.value) / (1 - objective_percent / 100)
    met = share.value >= objective_percent / 100
    return (*counted, f"{objective_percent:g} %", f"{100 * spent:.0f} %", "met" if met else "missed")


def _floor(values: Iterable[float | None], objective_percent: float | None) -> float:
    """Where the axis begins: losses of availability are small, and not seen on an axis from 0."""
    percents = [value for value in (*values, objective_percent) if value is not None]
    lowest = min(percents, default=0.0)
    return next((floor for floor in (99.0, 90.0, 50.0) if lowest > floor), 0.0)


def _scores(scores: Sequence[RecordedScore]) -> tuple[Block, ...]:
    if not scores:
        return (Text(text="No score is recorded."),)
    return (
        Table(
            caption="Latest score of each service, 0 to 100",
            head=("service", "score", "grade", "what costs most"),
            rows=tuple(
                (score.service, f"{score.score:.0f}", score.grade, " ".join(score.suggestions[:1])) for score in scores
            ),
            numbers=frozenset({1}),
        ),
    )


def _alerts(alerts: Sequence[Alert]) -> Iterable[Block]:
    reported = [alert for alert in alerts if alert.explained_by is None]
    yield Text(text=alerts_in_words(len(reported), len(alerts) - len(reported)))
    rows = [
        (
            *(f"{alert.opened_at:%Y-%m-%d %H:%M}", str(alert.severity), alert.service, str(alert.state)),
            "" if alert.resolved_at is None else length_in_words(alert.resolved_at - alert.opened_at),
            *(alert.reason, alert.alert_id),
        )
        for alert in reported
    ]
    if rows:
        head = ("opened", "severity", "service", "state", "open for", "reason", "id")
        yield _longest_part("Alerts, the latest first", head, rows)


def _predictions(predictions: Sequence[Prediction]) -> Iterable[Block]:
    yield Text(text=predictions_in_words(predictions))
    standing = (prediction for prediction in predictions if prediction.outcome is PredictionOutcome.OPEN)
    rows = [
        (
            *(f"{prediction.expected:%Y-%m-%d %H:%M}", prediction.service, prediction.metric.replace("_", " ")),
            *(f"{prediction.earliest:%Y-%m-%d %H:%M}", f"{prediction.latest:%Y-%m-%d %H:%M}", prediction.words),
        )
        for prediction in sorted(standing, key=lambda prediction: prediction.expected)
    ]
    if rows:
        head = ("expected", "service", "metric", "from", "to", "why")
        yield _longest_part("Predictions that stand, the nearest first", head, rows)


def _sum(shares: Iterable[Share | None]) -> Share:
    present_shares = [share for share in shares if share is not None]
    return Share(good=sum(share.good for share in present_shares), total=sum(share.total for share in present_shares))


def _rate(period: Sequence[DayOfOperations]) -> float | None:
    total = sum(day.total for day in period)
    return 100 * sum(day.successes for day in period) / total if total else None


def _mean_ms(period: Sequence[DayOfOperations]) -> float | None:
    """The mean over all successful operations of a period: days with more of them count for more."""
    timed = [(day.mean_ms, day.successes) for day in period if day.mean_ms is not None and day.successes]
    return sum(mean * count for mean, count in timed) / sum(count for _, count in timed) if timed else None


def _p95_ms(period: Sequence[DayOfOperations]) -> float | None:
    return max((day.p95_ms for day in period if day.p95_ms is not None), default=None)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _causes(period: Sequence[DayOfOperations]) -> dict[str, int]:
    causes: Counter[str] = Counter()
    for day in period:
        causes.update(day.failures_by_cause)
    return causes
