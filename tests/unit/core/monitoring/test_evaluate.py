"""Evaluation of a day of collections within seconds: alerts, scores, predictions and state."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.monitoring.assess import close_proven, evaluate
from core.monitoring.baselines import learn
from core.monitoring.snapshot import HEALTH, Evaluation, Key, Observation, QuietServices
from models.analysis import AlertChange, Grade, Level
from models.environments import Environment
from models.health import ProbeResult, Reading, ServiceHealth, ServiceVerdict
from models.metrics import (
    HOST,
    Alert,
    AlertSeverity,
    AlertState,
    Dependency,
    Metric,
    Prediction,
    PredictionOutcome,
)

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NEEDS = (Dependency(service="bot", depends_on="redis"), Dependency(service="web", depends_on="bot"))
SERVICES = ("redis", "bot", "web")
Change = Callable[[dict[tuple[str, str], float | None]], None]


def environment(**fields: object) -> Environment:
    return Environment.model_validate({"name": "dev", "project": "dev", "compose_files": [Path("c.yaml")]} | fields)


@dataclass
class WatchedService:
    """An application of three services, looked at once a minute with nothing but the kept states between.

    Whole days are looked at every two minutes, since each look costs as much as a hundred tests.
    """

    environment: Environment = field(default_factory=environment)
    now: datetime = MONDAY
    states: dict[Key, bytes] = field(default_factory=dict)
    rows: dict[str, Alert] = field(default_factory=dict)
    predictions: dict[str, Prediction] = field(default_factory=dict)
    reported: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    last: Evaluation | None = None
    chance: random.Random = field(default_factory=lambda: random.Random(5))

    def look(
        self,
        change: Change | None = None,
        *,
        ill: tuple[str, ...] = (),
        certain: bool = True,
        quiet: QuietServices | None = None,
        gaps: tuple[str, ...] = (),
        blind: bool = False,
        after: timedelta = MINUTE,
    ) -> Evaluation:
        self.now += after
        values = self._usual()
        if change:
            change(values)
        metrics = [
            Metric(environment="dev", service=service, name=name, value=value, sampled_at=self.now)
            for (service, name), value in values.items()
            if value is not None and not (blind and service != HOST)
        ]
        verdicts = [self._verdict(name, ill=name in ill) for name in SERVICES]
        outcome = evaluate(
            self.states,
            Observation(
                at=self.now,
                metrics=metrics,
                verdicts=None if blind else verdicts,
                dependencies=NEEDS,
                certain=frozenset(ill if certain else ()),
                gaps=gaps,
                statistics=not blind,
            ),
            environment=self.environment,
            quiet=quiet,
            rows=list(self.rows.values()),
            predictions=[one for one in self.predictions.values() if one.outcome is PredictionOutcome.OPEN],
        )
        self._keep(outcome)
        return outcome

    def days(self, days: float) -> None:
        for _ in range(round(days * 1440 / 2)):
            self.look(after=2 * MINUTE)

    def _keep(self, outcome: Evaluation) -> None:
        self.last = outcome
        self.states |= outcome.states
        for alert in outcome.alerts:
            before = self.rows.get(alert.alert_id)
            taken = before is not None and before.state is AlertState.ACKNOWLEDGED
            self.rows[alert.alert_id] = replace(alert, state=AlertState.ACKNOWLEDGED) if taken else alert
        for alert in outcome.closed:
            assert self.rows.pop(alert.alert_id, None) is not None or alert.alert_id
        self.predictions |= {one.prediction_id: one for one in outcome.predictions}
        self.reported += [f"{one.change} {one.alert.service} {one.alert.metric}" for one in outcome.events]
        self.reasons += [one.alert.reason for one in outcome.events]

    def _usual(self) -> dict[tuple[str, str], float | None]:
        day = 0.5 + 0.5 * math.sin(2 * math.pi * (self.now - MONDAY) / timedelta(days=1))
        gauss, lognormal = self.chance.gauss, self.chance.lognormvariate
        values: dict[tuple[str, str], float | None] = {
            (HOST, "cpu_usage"): max(0.0, 15 + 20 * day + gauss(0, 4)),
            (HOST, "memory_usage"): 40 + 5 * day + gauss(0, 0.5),
            (HOST, "disk_usage"): 50 + gauss(0, 0.02),
        }
        for name in SERVICES:
            values[name, "cpu_usage"] = lognormal(math.log(4 + 4 * day), 0.4)
            values[name, "memory_usage"] = 20 + 3 * day + gauss(0, 0.3)
            values[name, "response_time"] = lognormal(math.log(8 + 4 * day), 0.3)
            values[name, "restarts_total"] = 0.0
        return values

    def _verdict(self, name: str, *, ill: bool) -> ServiceVerdict:
        probe = ProbeResult(service=name, kind="http", target="/", ok=not ill, detail="", checked_at=self.now)
        return ServiceVerdict(
            service=name,
            health=ServiceHealth.STOPPED if ill else ServiceHealth.HEALTHY,
            reason="exited with exit code 1" if ill else "answers",
            probes=(probe,),
        )


@pytest.fixture(scope="module")
def two_days() -> WatchedService:
    watch = WatchedService(
        environment=environment(services={name: {"probe": {"kind": "http", "port": 1}} for name in SERVICES})
    )
    watch.days(2)
    return watch


@pytest.fixture
def watch(two_days: WatchedService) -> WatchedService:
    """Two ordinary days are known; each test goes on from there by itself."""
    return replace(
        two_days,
        states=dict(two_days.states),
        rows=dict(two_days.rows),
        predictions=dict(two_days.predictions),
        reported=[],
        reasons=[],
        chance=random.Random(7),
    )


def test_two_ordinary_days_with_their_rhythm_tell_nothing(two_days: WatchedService) -> None:
    assert two_days.reported == []
    assert two_days.predictions == {}
    assert two_days.last is not None
    assert all(score.score is not None and score.score > 95 for score in two_days.last.current_scores)


def test_a_service_that_takes_the_processor_is_one_alert_that_says_what_is_usual(watch: WatchedService) -> None:
    def hog(values: dict[tuple[str, str], float | None]) -> None:
        values["bot", "cpu_usage"] = 98 + watch.chance.gauss(0, 1)
        values["bot", "response_time"] = 900 + watch.chance.gauss(0, 20)
        values[HOST, "cpu_usage"] = 95 + watch.chance.gauss(0, 1)

    for _ in range(20):
        watch.look(hog)

    assert [one for one in watch.reported if one.startswith("opened")] == ["opened bot cpu_usage"]
    assert "CPU usage 9" in watch.reasons[0]
    assert "never above" in watch.reasons[0]
    assert {alert.service for alert in watch.rows.values() if alert.explained_by} == {"bot", HOST}


def test_memory_counts_by_the_room_that_is_left(watch: WatchedService) -> None:
    def settled(values: dict[tuple[str, str], float | None]) -> None:
        values["bot", "memory_usage"] = 28.0

    def filling(values: dict[tuple[str, str], float | None]) -> None:
        values["bot", "memory_usage"] = 48.0

    def leaking(values: dict[tuple[str, str], float | None]) -> None:
        values["bot", "memory_usage"] = 55.0

    for change in (settled, filling):
        for _ in range(10):
            watch.look(change)
    assert watch.reported == []
    for _ in range(3):
        watch.look(leaking)
    assert watch.reported == ["opened bot memory_usage"]


@pytest.mark.parametrize(
    ("metric", "usual", "least"),
    [
        ("cpu_usage", 2.0, 5.0),
        ("response_time", 10.0, 50.0),
        ("load_1m", 0.2, 1.0),
        ("store_bytes", 2.0**20, 2.0**24),
        # Of capacities it is a tenth of the room that is left.
        ("memory_usage", 60.0, 4.0),
        ("disk_usage", 60.0, 4.0),
        ("inodes_usage", 60.0, 4.0),
    ],
)
def test_what_is_as_unusual_but_near_the_usual_in_its_unit_is_no_more_than_a_notice(
    metric: str, usual: float, least: float
) -> None:
    moments = [MONDAY + number * 6 * MINUTE for number in range(251)]
    learnt = learn(None, moments[0], usual)
    for at in moments[1:]:
        learnt = learn(learnt, at, usual)

    def level(value: float) -> Level:
        seen = Metric(environment="dev", service="web", name=metric, value=value, sampled_at=moments[-1] + MINUTE)
        looked = Observation(at=seen.sampled_at, metrics=[seen], verdicts=[])
        ((_, judgement),) = evaluate({("web", metric): learnt}, looked, environment=environment()).judgements
        return judgement.level

    assert level(usual + 0.99 * least) is Level.NOTICE
    assert level(usual + 1.01 * least) in (Level.WARNING, Level.CRITICAL)


def test_memory_that_has_been_as_full_before_is_nobodys_business() -> None:
    watch = WatchedService()

    def busy_at_night(values: dict[tuple[str, str], float | None]) -> None:
        if watch.now.hour < 2:
            values["web", "memory_usage"] = 68 + watch.chance.gauss(0, 0.3)

    def as_at_night(values: dict[tuple[str, str], float | None]) -> None:
        values["web", "memory_usage"] = 67.0

    for _ in range(26 * 30):
        watch.look(busy_at_night, after=2 * MINUTE)
    watch.now += timedelta(hours=12)
    for _ in range(40):
        watch.look(as_at_night)

    assert watch.reported == []


def test_the_slowness_of_a_dependency_explains_who_waits_for_it(watch: WatchedService) -> None:
    def slow(values: dict[tuple[str, str], float | None]) -> None:
        for name in SERVICES:
            values[name, "response_time"] = 2000 + watch.chance.gauss(0, 50)

    for _ in range(10):
        watch.look(slow)

    assert [one for one in watch.reported if one.startswith("opened")] == ["opened redis response_time"]


def test_a_service_that_is_down_is_reported_at_once_and_its_dependants_inside(watch: WatchedService) -> None:
    outcome = watch.look(ill=SERVICES)

    (event,) = outcome.events
    assert (event.alert.service, event.alert.severity, len(event.children)) == ("redis", AlertSeverity.CRITICAL, 2)


def test_an_outage_that_was_repaired_leaves_no_second_alert_about_its_budget(watch: WatchedService) -> None:
    for _ in range(12):
        watch.look(ill=("bot",))
    for _ in range(60):
        watch.look()

    assert [one for one in watch.reported if one.startswith("opened")] == ["opened bot health"]
    assert watch.rows == {}


def test_failures_that_come_and_go_burn_the_budget_and_say_how_many(watch: WatchedService) -> None:
    for minute in range(40):
        watch.look(ill=("bot",) if minute % 3 == 0 else (), certain=False)

    assert any("failed in 1 h" in alert.reason for alert in watch.rows.values())
    assert len([one for one in watch.reported if one.startswith("opened")]) == 1


def test_a_recovery_that_is_proven_ends_the_alert_at_once(watch: WatchedService) -> None:
    outcome = watch.look(ill=("bot",))
    states, closed = close_proven(outcome, {"bot", "redis"}, watch.now)
    watch.states |= states
    watch.rows.clear()

    assert [(one.service, one.metric, one.state) for one in closed] == [("bot", HEALTH, AlertState.RESOLVED)]
    assert watch.look().alerts == ()


def test_what_an_operation_of_ours_touches_is_quiet_and_nothing_else(watch: WatchedService) -> None:
    learnt = watch.states["bot", "cpu_usage"]
    outcome = watch.look(ill=("bot", "redis"), quiet=QuietServices(busy=frozenset({"bot"})))

    assert [event.alert.service for event in outcome.events] == ["redis"]
    assert outcome.muted == {"bot"}
    assert outcome.states["bot", "cpu_usage"] == learnt


def test_maintenance_mutes_its_services_and_recording_goes_on(watch: WatchedService) -> None:
    day = MONDAY + timedelta(days=2)
    window = {"days": [f"{day:%A}".lower()], "from": "00:00", "to": "02:00", "services": ["bot"]}
    watch.environment = watch.environment.model_validate(
        watch.environment.model_dump(by_alias=True) | {"maintenance": [window]}
    )

    outcome = watch.look(ill=("bot",))
    assert outcome.events == ()
    assert "bot" in outcome.muted
    assert ("bot", "budget") in outcome.states

    watch.now = day + timedelta(hours=2)
    (event,) = watch.look(ill=("bot",)).events
    assert event.change is AlertChange.OPENED


def test_an_acknowledged_alert_is_not_repeated(watch: WatchedService) -> None:
    watch.look(ill=("bot",))
    (alert_id,) = watch.rows
    watch.rows[alert_id] = replace(watch.rows[alert_id], state=AlertState.ACKNOWLEDGED)

    for _ in range(90):
        watch.look(ill=("bot",))

    assert watch.reported == ["opened bot health"]


def test_an_open_alert_is_reported_again_after_one_hour_and_then_every_four(watch: WatchedService) -> None:
    for _ in range(60 * 6):
        watch.look(ill=("bot",))

    assert watch.reported == ["opened bot health"] + ["reminded bot health"] * 2


def test_a_metric_that_stays_away_is_missed_and_one_that_comes_back_is_not(watch: WatchedService) -> None:
    def silent(values: dict[tuple[str, str], float | None]) -> None:
        values["bot", "cpu_usage"] = None
        values["bot", "memory_usage"] = None

    for _ in range(5):
        watch.look(silent)
    assert [one for one in watch.reported if one.startswith("opened")] == ["opened bot cpu_usage"]
    assert "no data for" in watch.reasons[0]

    for _ in range(10):
        watch.look()
    assert watch.rows == {}


def test_after_missed_collections_one_missing_value_is_no_silence(watch: WatchedService) -> None:
    def anew(values: dict[tuple[str, str], float | None]) -> None:
        # Every container is a new one, so there is no difference to the last look.
        values.update({(name, "cpu_usage"): None for name in SERVICES})

    watch.now += timedelta(hours=2)
    watch.look(anew)
    watch.look(ill=("bot",), certain=False)
    for _ in range(3):
        watch.look()

    assert watch.reported == []


def test_an_engine_that_is_away_is_one_alert_about_the_source_and_heals_nothing(watch: WatchedService) -> None:
    watch.look(ill=("bot",))
    for _ in range(5):
        watch.look(blind=True, gaps=("containers: engine away", "compose files: engine away"))

    assert [one for one in watch.reported if one.startswith("opened")] == [
        "opened bot health",
        f"opened {HOST} sources",
    ]
    assert watch.reasons[-1] == "engine away"
    assert {alert.metric for alert in watch.rows.values()} == {"health", "sources"}


def test_restarts_between_collections_are_reported(watch: WatchedService) -> None:
    count = 0.0

    def restarting(values: dict[tuple[str, str], float | None]) -> None:
        values["bot", "restarts_total"] = count

    for _ in range(4):
        count += 1
        watch.look(restarting)

    assert watch.reported == ["opened bot restarts"]


def test_a_leak_is_foreseen_once_and_scored_when_it_comes_true(two_days: WatchedService) -> None:
    watch = replace(two_days, states=dict(two_days.states), rows={}, predictions={}, reported=[], reasons=[])
    began = watch.now

    def leak(values: dict[tuple[str, str], float | None]) -> None:
        hours = (watch.now - began) / timedelta(hours=1)
        values[HOST, "disk_usage"] = min(99.0, 50 + 0.7 * hours + watch.chance.gauss(0, 0.02))

    while watch.now - began < timedelta(hours=66):
        # Half an hour is what the trail keeps a mean of, so three looks in it are as good as thirty.
        watch.now += 9 * MINUTE
        watch.look(leak)

    (made,) = watch.predictions.values()
    assert made.outcome is PredictionOutcome.HIT
    assert made.scored_at is not None
    assert made.made_at < made.scored_at - timedelta(hours=12)
    assert made.earliest - timedelta(hours=4) < made.scored_at < made.latest + timedelta(hours=4)
    assert "disk_usage rises by" in made.words
    assert len([one for one in watch.reported if one.startswith("opened")]) == 1


def test_a_service_that_is_not_declared_any_more_takes_its_alert_with_it(watch: WatchedService) -> None:
    watch.look(ill=("web",))
    assert len(watch.rows) == 1
    without = evaluate(
        watch.states,
        Observation(at=watch.now + MINUTE, metrics=(), verdicts=[watch._verdict("bot", ill=False)]),
        environment=watch.environment,
        rows=list(watch.rows.values()),
    )
    assert [alert.service for alert in without.closed] == ["web"]
    assert without.alerts == ()


def test_a_state_that_cannot_be_read_is_named_and_begun_anew(watch: WatchedService) -> None:
    broken: dict[Key, bytes] = {
        ("bot", "cpu_usage"): b"x", ("bot", "cpu_usage/detector"): b"x", ("bot", "budget"): b"x",
        ("", "alerts"): b"x", ("", "round"): b"x", (HOST, "disk_usage/trail"): b"xyz",
    }  # fmt: skip
    watch.states |= broken
    outcome = watch.look(ill=("web",))

    assert len(outcome.unreadable) == len(broken)
    assert [event.alert.service for event in outcome.events] == ["web"]
    assert watch.look().unreadable == ()


def test_what_a_probe_reads_beside_whether_a_service_serves_is_an_alert_until_it_is_read_otherwise() -> None:
    probe = ProbeResult(service="redis", kind="redis", target="r", ok=True, detail="", checked_at=MONDAY)
    states: dict[Key, bytes] = {}
    reported = []
    for minute, concern in enumerate((Level.NONE, Level.WARNING, Level.WARNING, *[Level.NONE] * 30)):
        reading = Reading(metric="persistence_failures", value=1.0, words="its last snapshot failed", concern=concern)
        verdict = ServiceVerdict(
            service="redis",
            health=ServiceHealth.HEALTHY,
            reason="answers",
            probes=(replace(probe, readings=(reading,)),),
        )
        looked = Observation(at=MONDAY + minute * MINUTE, metrics=(), verdicts=[verdict])
        outcome = evaluate(states, looked, environment=environment())
        states |= outcome.states
        reported += [(minute, one.change, one.alert.metric, one.alert.reason) for one in outcome.events]

    assert reported[0] == (1, AlertChange.OPENED, "persistence_failures", "its last snapshot failed")
    assert [change for _, change, *_ in reported] == [AlertChange.OPENED, AlertChange.RESOLVED]


def test_a_score_that_moves_is_kept_at_once_and_one_that_stays_every_five_minutes(watch: WatchedService) -> None:
    kept = [{one.service: one.score for one in watch.look().scores} for _ in range(10)]
    assert sum(len(scores) == len(SERVICES) for scores in kept) == 2
    assert sum(map(len, kept)) == 2 * len(SERVICES)
    down = [one for _ in range(2) for one in watch.look(ill={"bot"}).scores if one.service == "bot"]
    assert (down[0].score, down[0].grade) == (40.0, Grade.F)
    well = [one for _ in range(4) for one in watch.look().scores if one.service == "bot"]
    assert well[0].score is not None
    assert well[0].score > 90
    assert well[-1].grade is Grade.A


@pytest.mark.parametrize("quiet", [QuietServices(idle=True), QuietServices(busy=frozenset({"bot"}))])
def test_what_is_meant_to_be_down_is_not_scored(watch: WatchedService, quiet: QuietServices) -> None:
    outcome = watch.look(ill={"bot"}, quiet=quiet)
    assert {one.service for one in outcome.current_scores} == set(SERVICES) - {"bot"}
    assert "bot" in {one.service for one in watch.look(quiet=quiet).current_scores}
