"""What the page of an environment draws: its history, the graph of its services, and figures over time."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from core.reporting.environment_history import environment_history
from core.reporting.graph import describe_graph, draw_graph
from core.reporting.metric_plots import metric_plots
from core.reporting.plots import draw
from models.environment_view import MetricRecords, ServiceView
from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.metrics import (
    Alert,
    AlertSeverity,
    Baseline,
    Dependency,
    DependencyStatus,
    DependencyType,
    Metric,
)
from models.operations import Operation, OperationStatus, OperationType
from models.overview import HealthVerdict, VerdictLevel
from models.recovery import RecoveryExecution

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
GOOD = HealthVerdict(words="healthy", level=VerdictLevel.GOOD)
HOSTILE = '</title></svg><script>alert(1)</script>"\u202e'


def service(name: str, *needs: Dependency) -> ServiceView:
    return ServiceView(service=name, verdict=GOOD, needs=needs)


def needing(name: str, other: str, status: DependencyStatus = DependencyStatus.ACTIVE) -> Dependency:
    return Dependency(service=name, depends_on=other, status=status)


def tops(svg: str) -> dict[str, float]:
    """How far from the top each service stands."""
    nodes = re.findall(r'translate\([\d.]+ ([\d.]+)\)"><title>([^:]+):', svg)
    return {name: float(y) for y, name in nodes}


def test_a_service_stands_above_all_that_it_needs() -> None:
    views = (
        service("web", needing("web", "api"), needing("web", "db")),
        service("api", needing("api", "db")),
        service("db"),
    )

    places = tops(draw_graph(views, "g"))

    assert places["web"] < places["api"] < places["db"]


def test_services_that_need_each_other_are_drawn_all_the_same() -> None:
    views = (service("a", needing("a", "b")), service("b", needing("b", "a")))

    assert tops(draw_graph(views, "g")).keys() == {"a", "b"}


def test_many_services_without_needs_stand_in_several_rows() -> None:
    views = tuple(service(f"s{number}") for number in range(40))

    places = tops(draw_graph(views, "g"))

    assert len(places) == 40
    assert len(set(places.values())) == 7


def test_edges_tell_what_is_optional_and_what_failed() -> None:
    optional = Dependency(service="a", depends_on="b", dependency_type=DependencyType.OPTIONAL)
    views = (
        service(
            "a", optional, needing("a", "c", DependencyStatus.FAILED), needing("a", "d", DependencyStatus.INACTIVE)
        ),
        *map(service, "bcd"),
    )

    svg = draw_graph(views, "g")

    assert 'class="edge optional"' in svg
    assert 'class="edge failed"' in svg
    assert svg.count("head") == 2


def test_a_graph_is_described_and_escaped() -> None:
    views = (service("web", needing("web", "db")), service("db"))

    assert describe_graph(views) == "web is healthy and needs db. db is healthy."
    assert describe_graph(()) == "No services."
    hostile = draw_graph((ServiceView(service=HOSTILE, verdict=GOOD, reason=HOSTILE),), "g")
    assert "<script" not in hostile
    assert "\u202e" not in hostile


def sample(minutes: float, value: float, name: str = "cpu_usage") -> Metric:
    at = NOW - timedelta(minutes=minutes)
    return Metric(environment="shop", service="web", name=name, value=value, sampled_at=at)


def records(*samples: Metric, limit: float | None = None, warning: float | None = None) -> MetricRecords:
    baseline = Baseline(
        service="web",
        metric="cpu_usage",
        value=20,
        warning=warning,
        critical=None,
        created_at=NOW,
        updated_at=NOW,
    )
    return MetricRecords(
        since=NOW - timedelta(hours=1),
        until=NOW,
        samples=samples,
        baselines=(baseline,),
        limits={} if limit is None else {("web", "cpu_usage"): limit},
    )


def test_a_plot_has_the_band_and_the_limit() -> None:
    [plot] = metric_plots(records(*(sample(minutes, 30) for minutes in range(60)), limit=80, warning=50))

    assert (plot.plot.limit, plot.plot.band) == (80, (20, 50))
    assert plot.note == "Shaded: from the learnt usual value to where it warns. Limit 80, dotted."
    assert 'class="band"' in draw(plot.plot, "p")


def test_a_plot_of_a_day_shows_times_and_a_longer_one_days() -> None:
    day = records(sample(5, 1))
    [plot], [longer] = (metric_plots(replace(day, since=day.until - timedelta(days=days))) for days in (1, 2))

    assert (plot.plot.unit, plot.plot.labels[0]) == ("% of one", f"{day.until:%H:%M}")
    assert longer.plot.labels[0] == f"{day.until - timedelta(days=2):%d %b %H:%M}"


def test_a_limit_far_above_is_said_in_words_and_does_not_flatten_the_line() -> None:
    [plot] = metric_plots(records(sample(5, 1), limit=90))

    assert (plot.plot.limit, plot.plot.band) == (None, None)
    assert plot.note == "Limit 90, far above."


def test_values_between_rare_measurements_are_bridged_and_an_outage_is_a_gap() -> None:
    measured = [sample(minutes, 10) for minutes in range(1, 60, 2) if not 20 < minutes < 40]

    values = metric_plots(records(*measured))[0].plot.lines[0].values

    assert len(values) == 120
    gap = values[45:75]
    assert set(gap) == {None}
    assert set(values[85:115]) == {10}


def test_nothing_measured_is_no_plot() -> None:
    assert metric_plots(records()) == ()
    assert metric_plots(records(sample(1, 1, "restarts_total"))) == ()


def error(*, resolved: bool) -> RecordedError:
    verdict = Verdict(
        category=Category.OOM_KILLED,
        severity=Severity.HIGH,
        strategy=Strategy.RESTART_SERVICE,
        confidence=1,
        reason="",
        template="",
    )
    return RecordedError(
        error_id="err-1",
        environment="shop",
        text="killed",
        source="watch",
        verdict=verdict,
        first_seen=NOW,
        last_seen=NOW,
        service="web",
        resolved_at=NOW + timedelta(minutes=2) if resolved else None,
    )


def test_history_has_each_kind_in_one_order() -> None:
    operation = Operation(
        deployment_id="shop-1",
        operation_type=OperationType.START,
        environment="shop",
        status=OperationStatus.FAILED,
        started_at=NOW - timedelta(minutes=9),
        ended_at=NOW - timedelta(minutes=8),
        details={"reason": "db exited"},
    )
    recovery = RecoveryExecution(
        error_id="err-1",
        strategy=Strategy.RESTART_SERVICE,
        started_at=NOW + timedelta(minutes=1),
        success=True,
        service="web",
        final_status="web healthy again",
    )
    alert = Alert(
        alert_id="a1",
        environment="shop",
        service="web",
        metric="up",
        severity=AlertSeverity.CRITICAL,
        reason="does not run",
        opened_at=NOW + timedelta(seconds=1),
    )

    entries = environment_history([operation], [error(resolved=True)], [recovery], [alert], most=10)

    assert [(entry.kind, entry.level) for entry in entries] == [
        ("failure", VerdictLevel.GOOD),
        ("recovery", VerdictLevel.GOOD),
        ("alert", VerdictLevel.BAD),
        ("failure", VerdictLevel.BAD),
        ("operation", VerdictLevel.BAD),
    ]
    assert entries[-1].event == "start failed after 60.0 s: db exited"
    assert environment_history([operation], [error(resolved=False)], [], [], most=1)[0].kind == "failure"
