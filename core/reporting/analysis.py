"""Analyse deployment operations over some days: success, trends and the most useful repairs.

With fewer than 30 operations there is an interval and no trend; a trend is reported only if it is significant and
large enough to matter.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np

from core.common.significance import Floats, mann_kendall, more_often, p_two_sided, theil_sen, wilson
from models.analysis import (
    Analysis,
    DayOfOperations,
    Direction,
    Failure,
    KindOfOperations,
    Recommendation,
    Repair,
    Trend,
)
from models.operations import Operation, OperationStatus, OperationType

ENOUGH_OPERATIONS = 30
SIGNIFICANT = 0.03
"""Stricter than the usual 0.05: short histories that remember themselves reach that by chance too often."""

_SHARE_THAT_MATTERS = 0.05
_FACTOR_THAT_MATTERS = 1.2
_LAST = 10
_ENDED = {OperationStatus.SUCCESS, OperationStatus.FAILED}
_OFTEN = 3
_UNKNOWN = "unknown"


def analyse_operations(
    operations: Sequence[Operation],
    *,
    environment: str,
    since: datetime,
    until: datetime,
    failures: Sequence[Failure] = (),
    causes: Mapping[str, str] | None = None,
) -> Analysis:
    """The ended operations of one environment, day by day, with trends, repairs and advice.

    `causes` names the cause of a failed operation by its deployment id. Days are of UTC; a day without
    operations is in the list, with nothing counted.
    """
    candidates = [
        operation for operation in operations if operation.environment == environment and operation.status in _ENDED
    ]
    ended = sorted(
        (operation for operation in candidates if since <= operation.started_at < until),
        key=lambda operation: operation.started_at,
    )
    starts = _select_kind(ended, OperationType.START)
    outcomes = [operation.status is OperationStatus.SUCCESS for operation in starts]
    repairs = repair_times(failures)
    sudden, known_causes = sudden_break(outcomes), dict(causes or {})
    success_trend, performance_trend = trend_of_success(outcomes), trend_of_durations(_durations(starts))
    return Analysis(
        environment=environment,
        since=since,
        until=until,
        **_figures(ended),
        kinds=tuple(
            KindOfOperations(kind=kind.replace("_", " "), **_figures(alike))
            for kind in OperationType
            if (alike := _select_kind(ended, kind))
        ),
        days=_days(ended, known_causes, since, until),
        success_trend=success_trend,
        performance_trend=performance_trend,
        sudden_break=sudden,
        repairs=repairs,
        recommendations=_recommendations(
            ended, starts, known_causes, success_trend, performance_trend, sudden, repairs
        ),
    )


def trend_of_success(outcomes: Sequence[bool]) -> Trend:
    """Whether successes, oldest first, become more or fewer: the Cochran-Armitage test over their order.

    The change is the fitted difference between the first and the last, in points of 100.
    """
    total, good = len(outcomes), sum(outcomes)
    low, high = wilson(good, total)
    summary = f"{good} of {total} succeeded" + (f" (95 % interval {100 * low:.0f}-{100 * high:.0f} %)" if total else "")
    if total < ENOUGH_OPERATIONS:
        words = f"{summary}; not enough data for a trend: it takes {ENOUGH_OPERATIONS} operations"
        return Trend(direction=Direction.UNKNOWN, samples=total, words=words)
    share = good / total
    if share in {0.0, 1.0}:
        return Trend(direction=Direction.STABLE, samples=total, change=0.0, words=f"{summary}; no change")
    place = np.arange(total) - (total - 1) / 2
    weighed, spread = float(place @ np.asarray(outcomes, float)), float(place @ place)
    p_value = p_two_sided(weighed / math.sqrt(share * (1 - share) * spread))
    change = weighed / spread * (total - 1)
    if p_value >= SIGNIFICANT or abs(change) < _SHARE_THAT_MATTERS:
        direction, reported = Direction.STABLE, "no significant change"
    else:
        direction = Direction.IMPROVING if change > 0 else Direction.DECLINING
        reported = f"{'rose' if change > 0 else 'fell'} by about {100 * abs(change):.0f} points over them"
    words = f"{summary}; {reported} (p = {p_value:.2g})"
    return Trend(direction=direction, samples=total, p_value=p_value, change=100 * change, words=words)


def trend_of_durations(milliseconds: Sequence[float]) -> Trend:
    """Whether operations, oldest first, take longer: Mann-Kendall and Theil-Sen on the logarithm.

    The variance is corrected for series that remember themselves. The change is the factor from the first
    to the last.
    """
    total = len(milliseconds)
    if total < ENOUGH_OPERATIONS:
        median = f"median {_duration(float(np.median(milliseconds)))}; " if total else ""
        words = f"{median}not enough data for a trend: {total} of {ENOUGH_OPERATIONS} timed operations"
        return Trend(direction=Direction.UNKNOWN, samples=total, words=words)
    logarithms = np.log(np.maximum(milliseconds, 1.0))
    middle = _duration(float(np.median(milliseconds)))
    if float(np.ptp(logarithms)) == 0.0:
        return Trend(direction=Direction.STABLE, samples=total, change=1.0, words=f"median {middle}; no change")
    slope = theil_sen(logarithms, np.arange(total, dtype=float))
    factor, p_value = math.exp(slope * (total - 1)), _p_value(logarithms, slope)
    size = max(factor, 1 / factor)
    if p_value >= SIGNIFICANT or size < _FACTOR_THAT_MATTERS:
        direction, reported = Direction.STABLE, "no significant change"
    else:
        direction = Direction.DECLINING if factor > 1 else Direction.IMPROVING
        reported = f"{'slower' if factor > 1 else 'faster'} by a factor of {size:.1f} over them"
    words = f"{total} timed operations, median {middle}; {reported} (p = {p_value:.2g})"
    return Trend(direction=direction, samples=total, p_value=p_value, change=factor, words=words)


def sudden_break(outcomes: Sequence[bool]) -> str:
    """A sentence if the last ten fail far more often than those before, which a slow trend would not show."""
    last, before = outcomes[-_LAST:], outcomes[:-_LAST][-9 * _LAST :]
    if len(before) < 2 * _LAST:
        return ""
    failed, failed_before = last.count(False), list(before).count(False)
    if not failed:
        return ""
    p_value = more_often((failed, len(last) - failed), (failed_before, len(before) - failed_before))
    # Evaluated after every operation, so it must be stricter than a trend to be as seldom wrong.
    if p_value >= 0.01:
        return ""
    usual = 100 * failed_before / len(before)
    return f"{failed} of the last {len(last)} operations failed; before, {usual:.0f} % did (p = {p_value:.2g})"


def failure_end(last_seen: datetime, resolved_at: datetime | None, undone_at: datetime | None) -> datetime | None:
    """When a failure was over: where its operation was undone and it was not seen again, at that operation's end.

    Its error is resolved later, once the service has stayed up, or by a person; until then it is not mended.
    """
    if resolved_at is not None and undone_at is not None and last_seen <= undone_at:
        return min(undone_at, resolved_at)
    return resolved_at


def repair_times(failures: Sequence[Failure]) -> tuple[Repair, ...]:
    """Mean time to repair and between failures for each service and cause, the most frequent first."""
    groups: dict[tuple[str, str], list[Failure]] = defaultdict(list)
    for failure in sorted(failures, key=lambda failure: failure.began_at):
        groups[failure.service, failure.cause].append(failure)
    repairs = [_repair(service, cause, group) for (service, cause), group in groups.items()]
    return tuple(sorted(repairs, key=lambda repair: (-repair.failures, repair.service, repair.cause)))


def kinds_in_words(kinds: Sequence[KindOfOperations]) -> str:
    """How many operations of each kind succeeded."""
    return ", ".join(f"{kind.kind} {kind.successes} of {kind.total}" for kind in kinds)


def length_in_words(time: timedelta) -> str:
    """A length of time as a person says it, in its largest unit that fits."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if time.total_seconds() >= 2 * size:
            return f"{time.total_seconds() / size:.0f} {unit}"
    return f"{time.total_seconds():.0f} s"


def _repair(service: str, cause: str, group: Sequence[Failure]) -> Repair:
    mended = [failure.ended_at - failure.began_at for failure in group if failure.ended_at is not None]
    between = [later.began_at - earlier.began_at for earlier, later in pairwise(group)]
    return Repair(
        service=service,
        cause=cause,
        failures=len(group),
        unresolved=len(group) - len(mended),
        mttr=sum(mended, timedelta()) / len(mended) if mended else None,
        mtbf=sum(between, timedelta()) / len(between) if between else None,
        rows=tuple(failure.row for failure in group),
    )


def _p_value(values: Floats, slope: float) -> float:
    """Neighbours that resemble each other make the series count for fewer."""
    residuals = values - slope * np.arange(len(values))
    residuals = residuals - residuals.mean()
    correlation = float((residuals[1:] * residuals[:-1]).sum() / max(float((residuals**2).sum()), 1e-300))
    remembers = min(0.95, correlation + (1 + 4 * correlation) / len(values))
    # Below this, a white series would pass for one that remembers, and real trends would be missed.
    grown = (1 + remembers) / (1 - remembers) if correlation > 1.64 / math.sqrt(len(values)) else 1.0
    return mann_kendall(values, grown)


def _days(
    ended: Sequence[Operation], causes: Mapping[str, str], since: datetime, until: datetime
) -> tuple[DayOfOperations, ...]:
    groups: dict[date, list[Operation]] = defaultdict(list)
    for operation in ended:
        groups[operation.started_at.astimezone(UTC).date()].append(operation)
    first = since.astimezone(UTC).date()
    last = (until - timedelta(microseconds=1)).astimezone(UTC).date()
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return tuple(_day(day, groups[day], causes) for day in days)


def _day(day: date, operations: Sequence[Operation], causes: Mapping[str, str]) -> DayOfOperations:
    timed = _durations(operations)
    failed = (operation for operation in operations if operation.status is OperationStatus.FAILED)
    return DayOfOperations(
        day=day,
        **_figures(operations),
        median_ms=float(np.median(timed)) if timed else None,
        p95_ms=float(np.quantile(timed, 0.95)) if timed else None,
        failures_by_cause=dict(Counter(causes.get(operation.deployment_id, _UNKNOWN) for operation in failed)),
    )


def _figures(operations: Sequence[Operation]) -> dict[str, Any]:
    """What a day and the whole analysis tell of their operations."""
    total, good = len(operations), sum(operation.status is OperationStatus.SUCCESS for operation in operations)
    low, high = wilson(good, total) if operations else (None, None)
    timed = _durations(operations)
    mean_ms = float(np.mean(timed)) if timed else None
    rate = good / total if total else None
    return {"total": total, "successes": good, "rate": rate, "low": low, "high": high, "mean_ms": mean_ms}


def _recommendations(
    ended: Sequence[Operation],
    starts: Sequence[Operation],
    causes: Mapping[str, str],
    success: Trend,
    performance: Trend,
    sudden: str,
    repairs: Sequence[Repair],
) -> tuple[Recommendation, ...]:
    recommendations: list[Recommendation] = []

    def advise(advice: str, because: str, operations: Iterable[Operation]) -> None:
        rows = tuple(operation.deployment_id for operation in operations)
        recommendations.append(Recommendation(advice=advice, because=because, rows=rows))

    failed = [operation for operation in ended if operation.status is OperationStatus.FAILED]
    if sudden:
        lately = [operation for operation in starts[-_LAST:] if operation.status is OperationStatus.FAILED]
        advise("find what changed just before the first of these failed.", sudden, lately)
    elif success.direction is Direction.DECLINING:
        advise(
            "mend the causes of the latest failures.", success.words, _select_kind(failed, OperationType.START)[-_LAST:]
        )
    by_cause: dict[str, list[Operation]] = defaultdict(list)
    for operation in failed:
        by_cause[causes.get(operation.deployment_id, _UNKNOWN)].append(operation)
    for cause, alike in sorted(by_cause.items(), key=lambda item: (-len(item[1]), item[0])):
        if len(alike) >= _OFTEN and cause == _UNKNOWN:
            why = f"{len(alike)} of {len(failed)} failures have no known cause"
            advise("name the cause of these failures with a pattern, so that they can be distinguished.", why, alike)
        elif len(alike) >= _OFTEN:
            advise(_mend(cause) + ".", f"{len(alike)} of {len(failed)} failures have this cause", alike)
    if performance.direction is Direction.DECLINING:
        succeeded = [operation for operation in starts if operation.status is OperationStatus.SUCCESS]
        slowest = sorted(succeeded, key=lambda operation: _milliseconds(operation) or 0.0, reverse=True)[:3]
        advise("check which services the slowest operations waited for.", performance.words, slowest)
    for repair in (repair for repair in repairs if repair.failures >= _OFTEN):
        mend = f"{_mend(repair.cause)} of {repair.service} for good."
        advice = f"find out what {repair.service} fails of." if repair.cause == _UNKNOWN else mend
        often = f", every {length_in_words(repair.mtbf)} on average" if repair.mtbf else ""
        remainder = f", {repair.unresolved} not repaired" if repair.unresolved else ""
        because = f"it failed {repair.failures} times{often}{remainder}"
        recommendations.append(Recommendation(advice=advice, because=because, rows=repair.rows))
    return tuple(recommendations)


def _mend(cause: str) -> str:
    return f"mend {cause.replace('_', ' ')}"


def _select_kind(operations: Iterable[Operation], kind: OperationType) -> list[Operation]:
    return [operation for operation in operations if operation.operation_type is kind]


def _durations(operations: Iterable[Operation]) -> list[float]:
    good = [_milliseconds(operation) for operation in operations if operation.status is OperationStatus.SUCCESS]
    return [duration for duration in good if duration is not None]


def _milliseconds(operation: Operation) -> float | None:
    return None if operation.duration is None else operation.duration / timedelta(milliseconds=1)


def _duration(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.1f} s" if milliseconds >= 1000 else f"{milliseconds:.0f} ms"
