from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.monitoring.alerts import AlertEvaluation, AlertPolicy, evaluate_alerts, update_alerts
from core.monitoring.anomalies import watch_metric
from core.monitoring.budgets import judge_burn
from core.monitoring.snapshot import MaintenanceWindow
from models.analysis import AlertChange, Level, Share, Signal
from models.failures import BadInputError
from models.metrics import AlertSeverity, AlertState, Dependency, DependencyType

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
GOOD, BAD, WORSE = Level.NONE, Level.WARNING, Level.CRITICAL
NEEDS = (Dependency(service="bot", depends_on="redis"), Dependency(service="web", depends_on="bot"))


def signal(level: Level, service: str = "bot", *, lasting: bool = False, missing: bool = False) -> Signal:
    return Signal(
        service=service,
        metric="cpu_percent",
        at=NOON,
        level=level,
        reason=f"{service} is {level}",
        lasting=lasting,
        missing=missing,
    )


class WatchedMetric:
    """An environment watched minute by minute; each call is one round in a new process."""

    def __init__(self, **options: object) -> None:
        self.now, self.state, self.options = NOON, None, options

    def sees(self, *signals: Signal, **options: object) -> AlertEvaluation:
        self.now += MINUTE
        given = [replace(one, at=self.now) for one in signals]
        reported = evaluate_alerts(
            self.state,
            given,
            environment="dev",
            now=self.now,
            **(self.options | options),  # type: ignore[arg-type]
        )
        self.state = reported.state
        return reported

    def changes(self, *levels: Level) -> list[str]:
        return [event.change.value for level in levels for event in self.sees(signal(level)).events]


def acknowledged(state: bytes, alert_id: str, now: datetime) -> bytes:
    return update_alerts(state, now, is_over=lambda _: False, acknowledged={alert_id})[0]


def test_one_bad_sample_opens_no_alert() -> None:
    assert WatchedMetric().changes(GOOD, BAD, GOOD, GOOD, BAD, GOOD, GOOD, WORSE, GOOD) == []


def test_two_bad_samples_of_three_open_one_warning() -> None:
    watched = WatchedMetric()
    assert watched.changes(BAD, GOOD, BAD, BAD, BAD) == ["opened"]
    alert = watched.sees(signal(BAD)).open[0]
    assert alert.severity is AlertSeverity.WARNING
    assert alert.reason == "bot is warning"


def test_a_signal_that_has_lasted_opens_at_once() -> None:
    (event,) = WatchedMetric().sees(signal(WORSE, lasting=True)).events
    assert event.change is AlertChange.OPENED
    assert event.alert.severity is AlertSeverity.CRITICAL


def test_a_warning_that_gets_worse_is_raised_once() -> None:
    assert WatchedMetric().changes(BAD, BAD, WORSE, WORSE, WORSE, BAD, WORSE) == ["opened", "raised"]


def test_closes_only_after_five_good_samples_over_five_minutes() -> None:
    watched = WatchedMetric()
    assert watched.changes(BAD, BAD, GOOD, GOOD, GOOD, GOOD) == ["opened"]
    assert watched.changes(BAD, GOOD, GOOD, GOOD, GOOD, GOOD) == []
    (event,) = watched.sees(signal(GOOD)).events
    assert event.change is AlertChange.RESOLVED
    assert event.alert.state is AlertState.RESOLVED
    assert event.alert.resolved_at == watched.now


def test_missing_data_resolves_nothing() -> None:
    watched = WatchedMetric()
    watched.changes(BAD, BAD)
    for _ in range(60):
        reported = watched.sees(signal(GOOD, missing=True))
        assert len(reported.open) == 1
        reported = watched.sees()
        assert len(reported.open) == 1


def test_rests_after_closing_unless_it_is_critical() -> None:
    watched = WatchedMetric(policy=AlertPolicy(rest=timedelta(hours=1)))
    watched.changes(BAD, BAD, *[GOOD] * 7)
    assert watched.changes(*[BAD] * 10) == []
    assert watched.changes(WORSE, WORSE) == ["opened"]


def test_flapping_is_reported_once_and_holds_one_alert_open() -> None:
    watched = WatchedMetric(policy=AlertPolicy(leave=1, keep_firing=timedelta(), rest=timedelta()))
    reported = watched.changes(*[BAD, BAD, GOOD] * 4, *[BAD, GOOD] * 12)
    assert reported.count("flapping") == 1
    after = reported[reported.index("flapping") + 1 :]
    assert after == []
    assert watched.changes(*[GOOD] * 30) == ["resolved"]


def test_what_flaps_does_so_until_it_changes_less_than_it_did_to_begin() -> None:
    policy = AlertPolicy(leave=1, keep_firing=timedelta(), rest=timedelta(), flapping_from=0.5, flapping_until=0.25)
    between = [*[BAD] * 3, *[GOOD] * 3] * 6
    steady, wild = WatchedMetric(policy=policy), WatchedMetric(policy=policy)

    assert "flapping" not in steady.changes(*between)
    assert "flapping" in wild.changes(BAD, BAD, *[BAD, GOOD] * 12)
    assert wild.changes(*between) == [], "it goes on, and one alert stays open"


def test_a_failed_dependency_explains_the_alerts_of_those_that_need_it() -> None:
    watched = WatchedMetric(dependencies=NEEDS)
    down = [signal(WORSE, "redis", lasting=True), signal(WORSE, "bot", lasting=True), signal(BAD, "web")]
    watched.sees(*down)
    reported = watched.sees(*down)
    assert [alert.service for alert in reported.open] == ["redis"]
    assert {alert.service for alert, _ in reported.explained} == {"bot", "web"}
    assert {root for _, root in reported.explained} == {reported.open[0].alert_id}


def test_one_root_opens_one_alert_with_the_others_inside() -> None:
    watched = WatchedMetric(dependencies=NEEDS)
    events = watched.sees(*[signal(WORSE, name, lasting=True) for name in ("web", "bot", "redis")]).events
    assert [(event.change, event.alert.service) for event in events] == [(AlertChange.OPENED, "redis")]
    assert events[0].children == ("bot/cpu_percent", "web/cpu_percent")


def test_what_still_fails_after_its_cause_is_mended_is_reported_then() -> None:
    watched = WatchedMetric(dependencies=NEEDS)
    watched.sees(signal(WORSE, "redis", lasting=True), signal(WORSE, "bot", lasting=True))
    reported = []
    for _ in range(8):
        reported += watched.sees(signal(GOOD, "redis"), signal(WORSE, "bot")).events
    assert [(event.change.value, event.alert.service) for event in reported] == [
        ("opened", "bot"),
        ("resolved", "redis"),
    ]


def test_what_heals_with_its_cause_is_never_reported() -> None:
    watched = WatchedMetric(dependencies=NEEDS)
    watched.sees(signal(WORSE, "redis", lasting=True), signal(WORSE, "bot", lasting=True))
    reported = []
    for _ in range(8):
        reported += watched.sees(signal(GOOD, "redis"), signal(GOOD, "bot")).events
    assert [event.alert.service for event in reported] == ["redis"]


def test_a_burnt_budget_is_listed_inside_the_lesser_alert_of_what_burnt_it() -> None:
    watched = WatchedMetric()
    health = replace(signal(BAD, lasting=True), metric="health")
    budget = replace(signal(WORSE, lasting=True), metric="uptime_budget")
    assert [event.alert.metric for event in watched.sees(health).events] == ["health"]
    reported = watched.sees(health, budget)
    assert reported.events == ()
    assert [alert.metric for alert in reported.open] == ["health"]
    assert [(alert.metric, root) for alert, root in reported.explained] == [
        ("uptime_budget", reported.open[0].alert_id)
    ]


def test_an_optional_dependency_explains_nothing() -> None:
    optional = replace(NEEDS[0], dependency_type=DependencyType.OPTIONAL)
    watched = WatchedMetric(dependencies=(optional,))
    reported = watched.sees(signal(WORSE, "redis", lasting=True), signal(WORSE, "bot", lasting=True))
    assert len(reported.events) == 2


def test_a_circle_of_dependencies_still_tells_one_alert() -> None:
    circle = (NEEDS[0], Dependency(service="redis", depends_on="bot"))
    watched = WatchedMetric(dependencies=circle)
    reported = watched.sees(signal(WORSE, "redis", lasting=True), signal(WORSE, "bot", lasting=True))
    assert len(reported.events) == 1


def test_services_under_our_own_operation_stay_quiet() -> None:
    watched = WatchedMetric(busy=frozenset({"bot"}))
    reported = watched.sees(signal(WORSE, lasting=True))
    assert reported.events == ()
    assert watched.sees(signal(WORSE, lasting=True), busy=frozenset()).events


def test_a_maintenance_window_is_quiet_and_ends() -> None:
    window = MaintenanceWindow(begins=NOON, ends=NOON + 10 * MINUTE, service="bot")
    watched = WatchedMetric(maintenance=(window,))
    assert watched.changes(*[WORSE] * 9) == []
    assert watched.changes(WORSE, WORSE) == ["opened"]
    assert window.covers("redis", NOON) is False


def test_reminds_after_one_hour_and_then_every_four_until_someone_takes_it() -> None:
    watched = WatchedMetric()
    reported = watched.changes(*[BAD] * (60 * 10))
    assert reported == ["opened", "reminded", "reminded", "reminded"]
    assert watched.state is not None
    alert = watched.sees(signal(BAD)).open[0]
    watched.state = acknowledged(watched.state, alert.alert_id, watched.now)
    assert watched.changes(*[BAD] * (60 * 10)) == []
    assert watched.sees(signal(BAD)).open[0].state is AlertState.ACKNOWLEDGED


def test_refuses_a_state_it_cannot_read() -> None:
    with pytest.raises(BadInputError, match="start anew"):
        evaluate_alerts(b"garbage", (), environment="dev", now=NOON)


@settings(max_examples=60, deadline=None)
@given(levels=st.lists(st.sampled_from([GOOD, GOOD, BAD, WORSE, Level.NOTICE]), max_size=120))
def test_opened_and_resolved_alternate_whatever_is_seen(levels: list[Level]) -> None:
    reported = [change for change in WatchedMetric().changes(*levels) if change in {"opened", "resolved"}]
    assert reported == (["opened", "resolved"] * len(reported))[: len(reported)]


def test_the_state_of_good_metrics_is_not_stored() -> None:
    watched = WatchedMetric()
    for _ in range(30):
        reported = watched.sees(*[signal(GOOD, f"service{n}") for n in range(100)])
    assert reported.state == b"{}"


def shares(good: float, total: int) -> dict[timedelta, Share]:
    windows = (timedelta(hours=h) for h in (1, 6, 72))
    shorts = (timedelta(minutes=m) for m in (5, 30, 360))
    return {window: Share(good=round(good * total), total=total) for window in (*windows, *shorts)}


def burn(counts: dict[timedelta, Share]) -> Signal:
    return judge_burn(counts, service="bot", metric="error_rate", at=NOON)


@pytest.mark.parametrize(("good", "level"), [(1.0, GOOD), (0.9995, GOOD), (0.9985, BAD), (0.993, WORSE), (0.98, WORSE)])
def test_a_budget_that_burns_too_fast_is_reported_by_its_speed(good: float, level: Level) -> None:
    assert burn(shares(good, 10_000)).level is level


def test_a_burn_that_is_over_in_the_short_window_is_quiet() -> None:
    counts = shares(0.98, 10_000) | {timedelta(minutes=minutes): Share(good=100, total=100) for minutes in (5, 30, 360)}
    assert burn(counts).level is GOOD


def test_one_failure_of_few_requests_burns_nothing() -> None:
    assert burn(shares(0.9, 10)).level is GOOD
    assert burn(shares(0.0, 10)).level is WORSE
    assert burn({}).level is GOOD


def a_day_of_two_services(seed: int, trouble: str) -> list[str]:
    """Everything told on the fourth day of ordinary traffic, with one trouble at noon of it."""
    noise = np.random.default_rng(seed)
    rows = 4 * 288
    swing = np.sin(2 * np.pi * np.arange(rows) / 288)
    series = {
        ("bot", "cpu_usage"): 30 + 10 * swing + noise.normal(0, 2, rows),
        ("bot", "memory_usage"): 40 + 3 * swing + noise.normal(0, 0.5, rows),
        ("redis", "response_time"): 2 + noise.lognormal(0, 0.3, rows),
    }
    noon = 3 * 288 + 144
    if trouble == "hog":
        series["bot", "cpu_usage"][noon : noon + 24] = 99 + noise.normal(0, 0.5, 24)
    if trouble == "leak":
        series["bot", "memory_usage"][noon : noon + 48] += np.linspace(0, 50, 48)
    if trouble == "stuck":
        series["bot", "cpu_usage"][noon : noon + 90] = 31.4
    watched, states, reported = WatchedMetric(dependencies=NEEDS), {}, []
    for row in range(rows):
        watched.now = NOON + row * 5 * MINUTE
        signals = []
        for (service, metric), values in series.items():
            seen = watch_metric(states.get((service, metric)), watched.now, float(values[row]))
            states[service, metric] = seen.state
            signals.append(
                Signal(
                    service=service,
                    metric=metric,
                    at=watched.now,
                    level=seen.judgement.level,
                    reason=seen.judgement.reason,
                    lasting=seen.lasting,
                )
            )
        events = watched.sees(*signals).events
        reported += [f"{event.change} {event.alert.metric}" for event in events if row >= 3 * 288]
    return reported


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("trouble", "metric"), [("hog", "cpu_usage"), ("leak", "memory_usage"), ("stuck", "cpu_usage")]
)
def test_a_trouble_is_one_alert_that_ends_with_it(trouble: str, metric: str, seed: int) -> None:
    reported = [words for words in a_day_of_two_services(seed, trouble) if words.endswith(metric)]
    assert [words for words in reported if not words.startswith("reminded")] == [
        f"opened {metric}",
        f"resolved {metric}",
    ]


def test_ordinary_days_are_quiet_days() -> None:
    reported = [words for seed in range(5) for words in a_day_of_two_services(seed, "none")]
    assert sum(words.startswith("opened") for words in reported) <= 1
