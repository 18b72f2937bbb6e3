from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from core.reporting.analysis import (
    analyse_operations,
    kinds_in_words,
    repair_times,
    sudden_break,
    trend_of_durations,
    trend_of_success,
)
from models.analysis import Direction, Failure
from models.operations import Operation, OperationStatus, OperationType

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


def operation(
    number: int, *, good: bool = True, seconds: float | None = 10.0, kind: OperationType = OperationType.START
) -> Operation:
    began = MONDAY + number * HOUR
    return Operation(
        deployment_id=f"d{number}",
        operation_type=kind,
        environment="dev",
        status=OperationStatus.SUCCESS if good else OperationStatus.FAILED,
        started_at=began,
        ended_at=None if seconds is None else began + timedelta(seconds=seconds),
    )


def white(noise: np.random.Generator, rows: int) -> np.ndarray:
    return noise.normal(0, 0.3, rows)


def remembering(noise: np.random.Generator, rows: int) -> np.ndarray:
    out, level = np.empty(rows), 0.0
    for row in range(rows):
        level = 0.5 * level + noise.normal(0, 0.3)
        out[row] = level
    return out


@pytest.mark.parametrize("rows", [40, 100])
@pytest.mark.parametrize(("series", "most"), [(white, 6), (remembering, 10)])
def test_few_of_100_histories_without_a_trend_are_given_one(
    series: Callable[[np.random.Generator, int], np.ndarray], most: int, rows: int
) -> None:
    noise = np.random.default_rng(7)
    reported = [trend_of_durations(list(10_000 * np.exp(series(noise, rows)))) for _ in range(100)]
    assert sum(one.direction is not Direction.STABLE for one in reported) <= most


def test_few_of_100_histories_of_equal_success_are_given_a_trend() -> None:
    noise = np.random.default_rng(3)
    reported = [trend_of_success(list(noise.random(100) < 0.9)) for _ in range(100)]
    assert sum(one.direction is not Direction.STABLE for one in reported) <= 6


def test_real_trends_are_found() -> None:
    noise = np.random.default_rng(1)
    falling = [trend_of_success(list(noise.random(200) < np.linspace(0.98, 0.6, 200))) for _ in range(20)]
    assert sum(one.direction is Direction.DECLINING for one in falling) >= 18
    slower = [
        trend_of_durations(list(10_000 * np.exp(white(noise, 60) + np.linspace(0, np.log(2), 60)))) for _ in range(20)
    ]
    assert sum(one.direction is Direction.DECLINING for one in slower) >= 18


def test_the_change_of_success_is_from_the_first_to_the_last_operation_of_the_fitted_line() -> None:
    outcomes = [number % 5 != 0 for number in range(20)] + [number % 2 == 0 for number in range(20)]
    slope, begins = np.polyfit(range(40), np.asarray(outcomes, float), 1)
    first, last = begins, begins + 39 * slope

    assert trend_of_success(outcomes).change == pytest.approx(100 * (last - first))
    assert trend_of_success(outcomes[::-1]).change == pytest.approx(100 * (first - last))


def test_one_absurd_duration_hides_no_trend() -> None:
    durations = 10_000 * np.exp(white(np.random.default_rng(1), 60) + np.linspace(0, np.log(2), 60))
    durations[5] *= 100
    assert trend_of_durations(list(durations)).direction is Direction.DECLINING


def test_under_30_operations_there_is_an_interval_and_no_trend() -> None:
    reported = trend_of_success([True] * 10)
    assert reported.direction is Direction.UNKNOWN
    assert reported.p_value is None
    assert "10 of 10 succeeded (95 % interval 72-100 %); not enough data for a trend" in reported.words
    assert trend_of_durations([1000.0] * 29).direction is Direction.UNKNOWN
    assert trend_of_success([]).direction is Direction.UNKNOWN


def test_all_alike_is_stable() -> None:
    assert trend_of_success([True] * 50).direction is Direction.STABLE
    assert trend_of_durations([1000.0] * 50).direction is Direction.STABLE


def test_a_significant_change_too_small_to_matter_is_no_trend() -> None:
    crept = 10_000 * np.exp(np.linspace(0, np.log(1.1), 300))
    reported = trend_of_durations(list(crept))
    assert reported.p_value is not None
    assert reported.p_value < 0.001
    assert reported.direction is Direction.STABLE


def test_a_sudden_break_is_reported_and_a_single_failure_is_not() -> None:
    assert "5 of the last 10 operations failed; before, 0 % did" in sudden_break([True] * 60 + [False, True] * 5)
    assert sudden_break([True] * 69 + [False]) == ""
    assert sudden_break([False] * 10) == ""


def test_every_day_is_counted_with_its_interval_and_causes() -> None:
    operations = [operation(hour, good=hour % 6 != 0, seconds=10 + hour) for hour in range(24)]
    operations += [operation(50, seconds=None)]
    reported = analyse_operations(
        operations,
        environment="dev",
        since=MONDAY,
        until=MONDAY + timedelta(days=3),
        causes={"d0": "port_conflict", "d6": "port_conflict", "d12": "port_conflict"},
    )
    first, empty, last = reported.days
    assert (first.total, first.successes) == (24, 20)
    assert first.failures_by_cause == {"port_conflict": 3, "unknown": 1}
    assert first.low is not None
    assert first.low < 20 / 24
    assert first.p95_ms is not None
    assert first.median_ms is not None
    assert first.p95_ms > first.median_ms > 10_000
    assert (empty.total, empty.rate, empty.low) == (0, None, None)
    assert (last.total, last.mean_ms) == (1, None)
    assert (reported.total, reported.successes) == (25, 21)


def test_the_success_rate_counts_operations_of_every_kind_and_each_kind_beside_it() -> None:
    operations = [operation(0), operation(1, good=False), operation(2, kind=OperationType.STOP)]
    operations += [operation(3 + n, kind=OperationType.HEALTH_CHECK, seconds=1.0) for n in range(37)]

    reported = analyse_operations(operations, environment="dev", since=MONDAY, until=MONDAY + timedelta(days=2))

    assert (reported.total, reported.successes, reported.rate) == (40, 39, 39 / 40)
    assert [(one.kind, one.total, one.successes, one.mean_ms) for one in reported.kinds] == [
        ("start", 2, 1, 10_000.0),
        ("stop", 1, 1, 10_000.0),
        ("health check", 37, 37, 1_000.0),
    ]
    assert kinds_in_words(reported.kinds) == "start 1 of 2, stop 1 of 1, health check 37 of 37"
    assert (reported.success_trend.samples, reported.performance_trend.samples) == (2, 1), "trends are of starts"


def test_recommendations_name_their_rows() -> None:
    operations = [operation(hour, good=hour not in {1, 5, 9}) for hour in range(40)]
    causes = dict.fromkeys(("d1", "d5", "d9"), "port_conflict")
    reported = analyse_operations(
        operations, environment="dev", since=MONDAY, until=MONDAY + timedelta(days=2), causes=causes
    )
    (advice,) = reported.recommendations
    assert advice.advice == "mend port conflict."
    assert advice.because == "3 of 3 failures have this cause"
    assert advice.rows == ("d1", "d5", "d9")


def test_where_starts_become_slower_the_three_slowest_are_named() -> None:
    operations = [operation(hour, seconds=10.0 * 1.05**hour) for hour in range(40)]
    reported = analyse_operations(operations, environment="dev", since=MONDAY, until=MONDAY + timedelta(days=2))

    (advice,) = reported.recommendations
    assert advice.advice == "check which services the slowest operations waited for."
    assert advice.rows == ("d39", "d38", "d37")


def test_other_environments_other_times_and_unended_operations_do_not_count() -> None:
    running = Operation(
        deployment_id="r",
        operation_type=OperationType.START,
        environment="dev",
        status=OperationStatus.RUNNING,
        started_at=MONDAY,
    )
    reported = analyse_operations(
        [operation(1), operation(-5), running], environment="prod", since=MONDAY, until=MONDAY + HOUR
    )
    assert (reported.total, reported.rate, reported.recommendations) == (0, None, ())
    reported = analyse_operations(
        [operation(0), operation(-5), running], environment="dev", since=MONDAY, until=MONDAY + HOUR
    )
    assert reported.total == 1


def test_times_to_repair_and_between_failures_are_by_service_and_cause() -> None:
    failures = [
        Failure(
            row=f"e{n}",
            service="bot",
            cause="oom_killed",
            began_at=MONDAY + n * 10 * HOUR,
            ended_at=None if n == 2 else MONDAY + n * 10 * HOUR + timedelta(minutes=10 * (n + 1)),
        )
        for n in (2, 0, 1)
    ]
    failures.append(Failure(row="e9", service="redis", cause="oom_killed", began_at=MONDAY))
    bot, redis = repair_times(failures)
    assert (bot.service, bot.failures, bot.unresolved, bot.rows) == ("bot", 3, 1, ("e0", "e1", "e2"))
    assert bot.mttr == timedelta(minutes=15)
    assert bot.mtbf == 10 * HOUR
    assert (redis.mttr, redis.mtbf) == (None, None)
