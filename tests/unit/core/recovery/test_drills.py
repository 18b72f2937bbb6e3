"""Whether a drill may begin, what the records show of it, and its verdict."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.recovery.drills import DrillFacts, judge_drill, measure_drill, refuse_drill
from models.drills import DrillRecord, Drills, Fault, FaultPlaces
from models.environments import Environment, RecoveryPolicy, ServiceSpec, TcpProbe
from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.fields import TimeOfWeek
from models.health import Health, HealthReport
from models.notifications import ReportedError, SentNotifications
from models.recovery import RecoveryExecution

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
DRILLS = Drills(faults=tuple(Fault), detect_seconds=30, repair_seconds=120, message_seconds=60)
PLACES = FaultPlaces(container_id="c", has_check=True, path="/tmp")
WELL = HealthReport(environment="shop", overall=Health.HEALTHY, checked_at=NOON, services=())
FACTS = DrillFacts(now=NOON, watcher="the agent", troubles=(), health=WELL, places=PLACES)
DRILL = DrillRecord(
    container_id="c",
    deployment_id="shop-1",
    service="web",
    fault=Fault.KILL,
    made_at=NOON,
    until=NOON + timedelta(seconds=60),
)


def shop(drills: Drills | None = DRILLS, **fields: Any) -> Environment:
    return Environment(name="shop", project="shop", compose_files=(Path("compose.yaml"),), drills=drills, **fields)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def failure(at: float, *, repaired: float | None = None, sent: float | None = None) -> ReportedError:
    verdict = Verdict(
        category=Category.CONTAINER_EXITED,
        severity=Severity.HIGH,
        strategy=Strategy.RESTART_SERVICE,
        confidence=1,
        reason="it ended",
    )
    error = RecordedError(
        error_id=f"err-{at}",
        environment="shop",
        text="it ended",
        source="watch",
        verdict=verdict,
        first_seen=after(at),
        last_seen=after(at),
    )
    attempt = RecoveryExecution(
        error_id=error.error_id,
        strategy=Strategy.RESTART_SERVICE,
        started_at=after(at),
        ended_at=after(repaired) if repaired else None,
        verified_at=after(repaired) if repaired else None,
        success=True if repaired else None,
    )
    reported = SentNotifications(times=1, last_at=after(sent)) if sent else SentNotifications()
    return ReportedError(error=error, reported=reported, executions=[attempt])


def test_a_drill_begins_where_all_is_well_and_it_is_allowed() -> None:
    assert refuse_drill(shop(), "web", Fault.KILL, FACTS) is None


@pytest.mark.parametrize(
    ("environment", "fault", "facts", "why"),
    [
        (shop(None), Fault.KILL, FACTS, "does not allow drills of kill"),
        (shop(Drills(faults=(Fault.STOP,))), Fault.KILL, FACTS, "does not allow drills of kill"),
        (shop(Drills(faults=(Fault.KILL,), services=("db",))), Fault.KILL, FACTS, "does not allow drills of web"),
        (
            shop(Drills(faults=(Fault.KILL,), windows=(TimeOfWeek(**{"from": time(13), "to": time(14)}),))),
            Fault.KILL,
            FACTS,
            "outside of drills.windows",
        ),
        (shop(recovery=RecoveryPolicy(automatic=False)), Fault.KILL, FACTS, "is off in its file"),
        (shop(recovery=RecoveryPolicy(dry_run=True)), Fault.KILL, FACTS, "is off in its file"),
        (shop(), Fault.KILL, replace(FACTS, watcher=None), "Nothing watches shop"),
        (shop(), Fault.KILL, replace(FACTS, troubles=["Ticket T-1 of shop is open"]), "Ticket T-1 of shop is open"),
        (shop(), Fault.KILL, replace(FACTS, health=replace(WELL, overall=Health.DEGRADED)), "is not healthy"),
        (shop(), Fault.KILL, replace(FACTS, places=None), "no running container of web"),
        (shop(), Fault.UNHEALTHY, replace(FACTS, places=FaultPlaces(container_id="c")), "no health check"),
        (shop(), Fault.FULL_DISK, replace(FACTS, places=FaultPlaces(container_id="c")), "no tmpfs with a size"),
        (shop(), Fault.LOST_NETWORK, FACTS, "no network of its own project"),
        (shop(), Fault.SLOW, FACTS, "no processor time left"),
        (shop(), Fault.REFUSED_LOGIN, FACTS, "no database of PostgreSQL that its probe's user may close"),
    ],
)
def test_a_drill_is_refused_with_the_reason_and_what_to_do(
    environment: Environment, fault: Fault, facts: DrillFacts, why: str
) -> None:
    refused = refuse_drill(environment, "web", fault, facts)
    assert refused is not None
    assert why in refused[0]
    assert refused[0].endswith(";")
    assert refused[1].endswith(".")


def test_a_probe_notices_a_frozen_process_too() -> None:
    probed = shop(services={"web": ServiceSpec(probe=TcpProbe(kind="tcp", port=80))})
    assert refuse_drill(probed, "web", Fault.UNHEALTHY, replace(FACTS, places=FaultPlaces(container_id="c"))) is None


def test_it_begins_inside_of_a_window_that_began_yesterday() -> None:
    night = Drills(faults=(Fault.KILL,), windows=(TimeOfWeek(**{"from": time(23), "to": time(12, 30)}),))
    assert refuse_drill(shop(night), "web", Fault.KILL, FACTS) is None


def test_it_is_repaired_once_each_failure_is_and_all_is_healthy() -> None:
    both = [failure(2, repaired=9), failure(4)]
    assert measure_drill(DRILL, both, healthy=True, now=after(10)).healthy_at is None
    both = [failure(2, repaired=9), failure(4, repaired=12, sent=20)]
    assert measure_drill(DRILL, both, healthy=False, now=after(21)).healthy_at is None
    measured = measure_drill(DRILL, both, healthy=True, now=after(21))
    assert (measured.detected_at, measured.healthy_at, measured.message_at) == (after(2), after(12), after(20))
    assert measure_drill(measured, both, healthy=False, now=after(30)) == measured


def test_what_failed_before_the_fault_and_health_without_a_failure_are_no_repair() -> None:
    measured = measure_drill(DRILL, [failure(-5, repaired=-1)], healthy=True, now=after(10))
    assert (measured.detected_at, measured.healthy_at) == (None, None)


def test_the_verdict_has_each_time_beside_its_objective() -> None:
    drill = DRILL.model_copy(update={"detected_at": after(2), "healthy_at": after(12), "message_at": after(61)})
    judged = judge_drill(drill, DRILLS, message_expected=True)
    assert judged.passed is False
    assert judged.verdict == (
        "detected after 2.0 s (objective 30 s), repaired after 12.0 s (objective 120 s), "
        "reported after 61.0 s (objective 60 s)"
    )
    assert judge_drill(drill, DRILLS, message_expected=False).passed is True


def test_what_the_end_of_the_drill_undid_was_not_repaired() -> None:
    drill = DRILL.model_copy(update={"detected_at": after(2), "healthy_at": after(65), "undone_at": after(60)})
    judged = judge_drill(drill, DRILLS, message_expected=False)
    assert judged.passed is False
    assert "not repaired (objective 120 s)" in judged.verdict
