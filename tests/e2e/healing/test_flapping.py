"""A service that falls again and again, through an hour of a clock that is given: real stores, real decisions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from adapters.stores import Stores
from core.recovery.policy import PlanAction, RecoveryFacts, plan_recovery
from models.environments import RecoveryPolicy
from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.recovery import RecoveryExecution, Ticket, TicketState
from models.settings import Settings
from tests.unit.core.monitoring.test_evaluate import MONDAY, WatchedService

POLICY = RecoveryPolicy()
STEP = timedelta(seconds=5)
HOUR = timedelta(hours=1)
VERDICT = Verdict(
    category=Category.CONTAINER_EXITED,
    severity=Severity.HIGH,
    strategy=Strategy.RESTART_SERVICE,
    confidence=0.9,
    reason="It ended with exit code 1.",
    pattern_name="exited",
)


@dataclass
class Flapping:
    """One service that lives for so long after each restart, and the watch that recovers it."""

    stores: Stores
    lives_for: timedelta
    now: datetime = MONDAY
    up_until: datetime = MONDAY
    acted: list[datetime] = field(default_factory=list)
    waits: list[timedelta] = field(default_factory=list)

    @property
    def up(self) -> bool:
        return self.now < self.up_until

    def look(self) -> None:
        """What the watch does: record, plan by what is on record, and act or ask."""
        if self.up:
            return
        seen = RecordedError(
            error_id=f"e{self.now.timestamp():.0f}", environment="dev", text="bot exited with code 1", source="watch",
            verdict=VERDICT, first_seen=self.now, last_seen=self.now, service="bot",
        )  # fmt: skip
        error = self.stores.errors.record(seen)
        others = [
            one
            for one in self.stores.recoveries.find(since=self.now - timedelta(days=1))
            if one.error_id != error.error_id
        ]
        past = [*self.stores.recoveries.find(error.error_id), *others]
        plan = plan_recovery(error, past=past, policy=POLICY, facts=RecoveryFacts(service="bot"), now=self.now)
        if plan.action is PlanAction.ASK_A_PERSON:
            asked = Ticket(ticket_id=f"t{self.now.timestamp():.0f}", error_id=error.error_id, environment="dev",
                           title=plan.reason, opened_at=self.now, service="bot")  # fmt: skip
            if not any(one.state is not TicketState.RESOLVED for one in self.stores.tickets.find(environment="dev")):
                self.stores.tickets.open(asked)
            return
        assert plan.action is PlanAction.RECOVER
        if plan.delay:
            self.waits.append(plan.delay)
            return
        self.act(error, plan.attempt_id)

    def act(self, error: RecordedError, attempt_id: str) -> None:
        execution = RecoveryExecution(
            error_id=error.error_id, strategy=Strategy.RESTART_SERVICE, started_at=self.now, ended_at=self.now,
            success=True, environment="dev", service="bot", attempt_id=attempt_id,
        )  # fmt: skip
        self.stores.recoveries.record(execution)
        self.stores.errors.resolve(error.error_id, self.now, "automatic")
        self.acted.append(self.now)
        self.up_until = self.now + self.lives_for


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with Stores.open(Settings(data_dir=tmp_path)) as opened:
        yield opened


@pytest.mark.parametrize("lives_for", [timedelta(seconds=5), timedelta(seconds=40), timedelta(minutes=4)])
@pytest.mark.campaign
def test_an_hour_of_flapping_is_one_alert_one_ticket_and_never_more_than_the_budgets(
    stores: Stores, lives_for: timedelta
) -> None:
    flapping, alerts = Flapping(stores, lives_for), WatchedService()
    while flapping.now < MONDAY + HOUR:
        flapping.look()
        flapping.now += STEP
        if (flapping.now - MONDAY).total_seconds() % 60 == 0:
            alerts.look(ill=() if flapping.up else ("bot",))

    window = timedelta(minutes=15)
    busiest = max(sum(begin <= at < begin + window for at in flapping.acted) for begin in flapping.acted)
    assert busiest == POLICY.attempts_per_service_15min
    assert len(flapping.acted) <= min(4 * POLICY.attempts_per_service_15min, POLICY.attempts_per_service_day)
    assert len(stores.tickets.find(environment="dev")) == 1
    assert sum(reported.startswith("opened bot") for reported in alerts.reported) == 1


def test_between_attempts_it_waits_longer_each_time_and_ten_healthy_minutes_end_that(stores: Stores) -> None:
    flapping = Flapping(stores, timedelta())
    error = RecordedError(
        error_id="e", environment="dev", text="bot exited", source="watch", verdict=VERDICT,
        first_seen=MONDAY, last_seen=MONDAY, service="bot",
    )  # fmt: skip
    stores.errors.record(error)
    generous = RecoveryPolicy(attempts_per_error=20, attempts_per_service_15min=60, attempts_per_service_day=500)
    waits = []
    for _ in range(8):
        past = stores.recoveries.find()
        facts = RecoveryFacts(service="bot")
        plan = plan_recovery(error, past=past, policy=generous, facts=facts, now=flapping.now)
        waits.append(plan.delay.total_seconds())
        flapping.now += plan.delay
        flapping.act(replace(error), plan.attempt_id)
    plain = [0, 10, 20, 40, 80, 160, 300, 300]
    assert all(0.8 * usual <= wait <= 1.2 * usual for wait, usual in zip(waits, plain, strict=True))

    later = flapping.now + timedelta(minutes=10)
    anew = plan_recovery(error, past=stores.recoveries.find(), policy=generous, facts=facts, now=later)
    assert (anew.delay, anew.attempt) == (timedelta(), 1)
