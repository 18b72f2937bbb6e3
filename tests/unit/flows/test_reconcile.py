from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.recovery.policy import PROVEN_AFTER
from core.recovery.tracker import LOOP, NO_SERVICE, SETTLE
from core.recovery.triage import AGAIN, Decision, ServiceObservation, TriageContext, TriageResult
from flows.recovery.reconcile import Reconciler
from models.containers import ContainerEvent
from models.recovery import RecoveryMethod, RecoveryOutcome

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DIED = ContainerEvent(
    happened_at=NOON, container_id="a", service="web", project="x", action="die", attributes={"exitCode": "3"}
)
ASKED = replace(DIED, action="kill", attributes={"signal": "15"})
FAILED = ServiceObservation(
    service="web", decision=Decision.RECOVER, reason="stopped", fingerprint="a/exited", unhealthy=True
)
HEALED = RecoveryOutcome(error_id="e", success=True, method=RecoveryMethod.AUTOMATIC, steps=())


def decide(reconciler: Reconciler, *observations: ServiceObservation, after: timedelta = timedelta()) -> TriageResult:
    return reconciler.decide(observations or (FAILED,), TriageContext(), NOON + after)


def test_events_of_a_service_lead_to_one_observation() -> None:
    reconciler = Reconciler()
    reconciler.receive([DIED, replace(DIED, action="oom"), replace(DIED, action="start")])
    assert reconciler.take() == {"web"}
    assert reconciler.take() == frozenset()


def test_events_during_a_recovery_wait_until_it_ends() -> None:
    reconciler = Reconciler()
    reconciler.begin("web")
    reconciler.receive([DIED])
    assert reconciler.queued_services == frozenset()
    assert reconciler.tracker("web").ends == ()
    reconciler.finish("web", HEALED, NOON)
    assert reconciler.queued_services == {"web"}


def test_every_feed_shares_what_was_dispatched() -> None:
    reconciler = Reconciler()
    assert [failure.text for failure in decide(reconciler).failures] == ["service web is stopped"]
    reconciler.begin("web")
    assert decide(reconciler).ignore
    reconciler.finish("web", replace(HEALED, method=RecoveryMethod.MANUAL_REQUIRED, success=False), NOON)
    assert decide(reconciler, after=AGAIN / 2).ignore
    assert decide(reconciler, replace(FAILED, fingerprint="b/exited"), after=AGAIN / 2).recover
    assert decide(reconciler, after=2 * AGAIN).recover


def test_a_postponed_recovery_is_dispatched_again_when_it_is_due() -> None:
    reconciler = Reconciler()
    postponed = replace(HEALED, method=RecoveryMethod.DEFERRED, success=False, again_at=NOON + AGAIN / 2)
    decide(reconciler)
    assert reconciler.finish("web", postponed, NOON) == NOON + AGAIN / 2
    assert decide(reconciler, after=AGAIN / 4).wait
    assert decide(reconciler, after=AGAIN / 2).recover


def test_a_recovery_that_another_process_runs_is_dispatched_again_after_a_moment() -> None:
    reconciler = Reconciler()
    decide(reconciler)
    reconciler.finish("web", replace(HEALED, method=RecoveryMethod.DEFERRED, success=False), NOON)
    assert decide(reconciler, after=SETTLE / 2).wait
    assert decide(reconciler, after=SETTLE).recover


def test_several_that_fail_at_once_are_one_failure_without_a_service() -> None:
    reconciler = Reconciler()
    found = decide(reconciler, *(replace(FAILED, service=name) for name in "abc"))
    (failure,) = found.failures
    assert (failure.service, failure.failing) == (NO_SERVICE, 3)
    assert failure.text.startswith("a, b, c failed within 15 s")


def test_a_crash_is_noted_once_and_over_when_the_service_stays_healthy() -> None:
    reconciler = Reconciler()
    reconciler.receive([DIED])
    assert reconciler.new_crash("web", NOON) == "3"
    assert reconciler.new_crash("web", NOON) is None
    assert reconciler.back_after_crash({"web"}, NOON + SETTLE / 3) == ([], [SETTLE - SETTLE / 3])
    assert reconciler.back_after_crash({"web"}, NOON + SETTLE) == (["web"], [])
    assert reconciler.back_after_crash({"web"}, NOON + SETTLE) == ([], [])


def test_what_ends_again_and_again_is_not_back_after_each_restart_of_the_engine() -> None:
    reconciler = Reconciler()
    reconciler.receive([DIED])
    reconciler.new_crash("web", NOON)
    decide(reconciler)
    reconciler.finish("web", replace(HEALED, success=False), NOON)
    assert reconciler.back_after_crash({"web"}, NOON + SETTLE) == ([], [])
    assert reconciler.back_after_crash({"web"}, NOON + PROVEN_AFTER) == (["web"], [])


def test_a_requested_end_is_no_crash_and_of_many_ends_the_last_are_kept() -> None:
    reconciler = Reconciler()
    reconciler.receive([ASKED, DIED])
    assert reconciler.tracker("web").ends == ()
    reconciler.receive([replace(DIED, action="start"), *[DIED] * (LOOP + 2)])
    assert reconciler.tracker("web").ends == (NOON,) * LOOP


@pytest.mark.parametrize("signal", ["2", "3", "15"])
def test_the_end_of_a_stop_is_not_recovered_before_the_engine_reports_the_stop(signal: str) -> None:
    reconciler = Reconciler()
    reconciler.receive([replace(ASKED, attributes={"signal": signal}), DIED])
    assert decide(reconciler).wait
    assert decide(reconciler, after=SETTLE).recover, "it was a signal alone"
    reconciler.receive([replace(DIED, action="stop")])
    assert reconciler.tracker("web").stopped == {DIED.container_id}


def test_a_stop_is_to_be_recorded_unless_a_recovery_stops_its_service() -> None:
    reconciler = Reconciler()
    stopped = [ASKED, DIED, replace(DIED, action="stop")]
    assert reconciler.receive(stopped) == {"web"}
    reconciler.begin("web")
    assert reconciler.receive(stopped) == frozenset()


def test_a_stop_is_forgotten_where_the_start_after_it_may_have_been_missed() -> None:
    reconciler = Reconciler()
    reconciler.receive([ASKED, DIED, replace(DIED, action="stop")])
    reconciler.forget_requests(["other"])
    assert reconciler.tracker("web").stopped == {DIED.container_id}
    reconciler.forget_requests(["web"])
    assert reconciler.tracker("web").stopped == frozenset()


def test_a_service_that_changed_during_a_sweep_is_observed_anew() -> None:
    reconciler = Reconciler()
    web, other = reconciler.put_off([FAILED, replace(FAILED, service="other")], {"web"})
    assert (web.decision, other.decision) == (Decision.WAIT, Decision.RECOVER)
    assert reconciler.take() == {"web"}


def test_a_sweep_forgets_services_that_are_gone_unless_they_are_recovered() -> None:
    reconciler = Reconciler()
    for name in ("gone", "recovered"):
        reconciler.receive([replace(DIED, service=name)])
    reconciler.begin("recovered")
    reconciler.sweep(["web"], [], NOON)
    assert set(reconciler.trackers) == {"recovered", "web"}
    assert reconciler.tracker("web").missing_since == NOON
