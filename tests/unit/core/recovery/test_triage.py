from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.monitoring.health import judge_declared
from core.recovery.tracker import SETTLE, ServiceTracker
from core.recovery.triage import (
    AGAIN,
    STOPPED,
    Decision,
    ServiceObservation,
    TriageContext,
    may_be_failure,
    observe_containers,
    observe_verdict,
    services_ended_with_engine,
    triage,
)
from models.compose import HealthcheckDeclaration, ServiceDeclaration
from models.containers import ContainerEvent, ContainerState
from models.environments import ServiceSpec
from models.health import ServiceHealth, ServiceVerdict
from models.metrics import Dependency, DependencyType
from models.recovery import PersonStop

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
WEB = ServiceDeclaration(name="web", image="i", healthcheck=HealthcheckDeclaration(test=("CMD", "true")))
NEW = ServiceTracker()
ALWAYS = replace(WEB, restart="always")
SEEN = ContainerState(
    container_id="a" * 64, name="x-web-1", service="web", project="x", number=1, image="i", image_id="1",
    state="running", health="healthy", seen_at=NOON, started_at=NOON - timedelta(hours=1),
)  # fmt: skip
CRASHED = replace(SEEN, state="exited", exit_code=1, health="unhealthy", finished_at=NOON)


def judged(
    *seen: ContainerState,
    declaration: ServiceDeclaration = WEB,
    ends: tuple[datetime, ...] = (),
    stopped: frozenset[str] = frozenset(),
) -> ServiceObservation:
    def judge(containers: Sequence[ContainerState]) -> ServiceVerdict:
        return judge_declared(declaration, containers, None, ServiceSpec())

    return observe_containers(
        declaration, seen, judge=judge, tracker=ServiceTracker(ends=ends, stopped=stopped), now=NOON
    )


def swept(seen: ContainerState) -> ServiceObservation:
    verdict = judge_declared(WEB, [seen], None, ServiceSpec())
    return observe_verdict(verdict, [seen], stopped=None, tracker=NEW, now=NOON)


def bad(service: str, fingerprint: str = "now") -> ServiceObservation:
    return ServiceObservation(service=service, decision=Decision.RECOVER, reason="stopped", fingerprint=fingerprint)


def needs(service: str, other: str) -> Dependency:
    return Dependency(service=service, depends_on=other)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("die", True),
        ("oom", True),
        ("health_status: unhealthy", True),
        ("health_status: healthy", False),
        ("stop", False),
        ("start", False),
        ("kill", False),
        ("pause", False),
    ],
)
def test_events_that_may_be_failures_are_observed(action: str, expected: bool) -> None:
    event = ContainerEvent(happened_at=NOON, container_id="a", service="web", project="x", action=action)
    assert may_be_failure(event) is expected


def test_a_crash_and_a_failing_check_are_recovered() -> None:
    assert judged(CRASHED).decision is Decision.RECOVER
    assert judged(replace(SEEN, health="unhealthy")).decision is Decision.RECOVER


def test_a_service_that_a_person_stopped_is_ignored() -> None:
    left = judged(CRASHED, stopped=frozenset({CRASHED.container_id}))
    assert (left.decision, left.unhealthy) == (Decision.IGNORE, True)


@pytest.mark.parametrize("seen", [[], [replace(SEEN, state="paused")]], ids=["removed", "paused"])
def test_a_service_paused_or_removed_for_longer_than_a_moment_is_recovered(seen: list[ContainerState]) -> None:
    verdict = ServiceVerdict(service="web", health=ServiceHealth.UNHEALTHY, reason="is paused")
    assert judged(*seen).decision is Decision.WAIT
    for ago, decision in [(SETTLE / 2, Decision.WAIT), (SETTLE, Decision.RECOVER)]:
        tracker = ServiceTracker(missing_since=NOON - ago)
        assert observe_verdict(verdict, seen, stopped=None, tracker=tracker, now=NOON).decision is decision
    assert observe_verdict(verdict, seen, stopped=None, tracker=NEW, now=NOON).decision is Decision.WAIT


def test_one_replica_stopped_by_a_person_hides_no_crash_of_another() -> None:
    other = replace(CRASHED, container_id="b" * 64, number=2)
    assert judged(CRASHED, other, stopped=frozenset({CRASHED.container_id})).decision is Decision.RECOVER


def test_a_job_that_is_done_is_left_alone_and_one_that_failed_is_not() -> None:
    job = ServiceDeclaration(name="web", image="i", one_shot=True, awaited=True)
    done = replace(CRASHED, exit_code=0, health=None)
    assert judged(done, declaration=job).decision is Decision.IGNORE
    assert judged(replace(done, exit_code=3), declaration=job).decision is Decision.RECOVER


def test_the_engine_restarts_by_itself_until_it_is_a_loop_or_gives_up() -> None:
    restarting = replace(SEEN, state="restarting", restart_count=1)
    once, often = (NOON,), tuple(NOON - timedelta(seconds=second) for second in (4, 2, 0))
    assert judged(restarting, declaration=ALWAYS, ends=once).decision is Decision.WAIT
    assert judged(replace(SEEN, health="starting"), declaration=ALWAYS, ends=once).decision is Decision.WAIT
    assert judged(restarting, declaration=ALWAYS, ends=often).decision is Decision.RECOVER
    assert judged(CRASHED, declaration=ALWAYS, ends=once).decision is Decision.RECOVER


def test_a_sweep_recovers_what_is_down_unless_a_person_stopped_it() -> None:
    verdict = ServiceVerdict(service="web", health=ServiceHealth.STOPPED, reason="exited with code 1")

    def swept(
        seen: ContainerState,
        *,
        stopped: PersonStop | None = None,
        health: ServiceHealth = verdict.health,
        tracker: ServiceTracker = NEW,
    ) -> ServiceObservation:
        return observe_verdict(replace(verdict, health=health), [seen], stopped=stopped, tracker=tracker, now=NOON)

    assert swept(CRASHED).decision is Decision.RECOVER
    assert swept(CRASHED, stopped=STOPPED).decision is Decision.IGNORE
    by_events = ServiceTracker(stopped=frozenset({CRASHED.container_id}))
    assert swept(CRASHED, tracker=by_events).decision is Decision.IGNORE
    assert swept(replace(CRASHED, state="created")).decision is Decision.IGNORE
    assert swept(SEEN, health=ServiceHealth.STARTING).decision is Decision.IGNORE


def test_what_the_engine_brings_back_by_itself_is_reported_as_a_crash() -> None:
    assert judged(replace(SEEN, state="restarting"), declaration=ALWAYS, ends=(NOON,)).crashed
    assert judged(replace(SEEN, health="starting"), declaration=ALWAYS, ends=(NOON,)).crashed
    assert not judged(CRASHED).crashed


def test_a_service_waits_for_a_required_dependency_that_a_person_keeps_down_not_for_an_optional_one() -> None:
    kept = ServiceObservation(service="base", decision=Decision.IGNORE, reason="a person stopped it", unhealthy=True)
    likes = replace(needs("web", "base"), dependency_type=DependencyType.OPTIONAL)
    found = triage([bad("top"), bad("web"), kept], TriageContext(dependencies=[needs("top", "base"), likes]), NOON)
    assert [one.service for one in found.wait] == ["top"]
    assert [one.service for one in found.recover] == ["web"]


def test_a_service_without_containers_is_recovered_once() -> None:
    gone = replace(bad("web"), fingerprint="")
    assert triage([gone], TriageContext(), NOON).recover
    assert not triage([gone], TriageContext(trackers={"web": ServiceTracker(dispatched=("", NOON))}), NOON).recover


def test_a_container_that_was_asked_to_end_is_given_the_time_for_it() -> None:
    assert triage([bad("web")], TriageContext(trackers={"web": ServiceTracker(end_requested_at=NOON)}), NOON).wait


def test_a_moment_far_in_the_future_delays_nothing() -> None:
    asked = ServiceTracker(end_requested_at=NOON + timedelta(minutes=5))
    assert triage([bad("web")], TriageContext(trackers={"web": asked}), NOON).recover
    began = replace(SEEN, started_at=NOON + timedelta(minutes=5))
    verdict = ServiceVerdict(service="web", health=ServiceHealth.UNHEALTHY, reason="runs, but its probe failed")
    found = observe_verdict(verdict, [began], stopped=None, tracker=NEW, now=NOON)
    assert found.decision is Decision.RECOVER


def test_a_postponed_attempt_waits_for_its_time() -> None:
    put_off = TriageContext(trackers={"web": ServiceTracker(next_attempt_at=NOON + SETTLE)})
    assert triage([bad("web")], put_off, NOON).wait
    looping = judged(replace(SEEN, state="restarting"), declaration=ALWAYS)
    assert triage([looping], TriageContext(), NOON).wait
    assert triage([looping], put_off, NOON + SETTLE).recover
    begun = judged(replace(SEEN, health="starting"), declaration=ALWAYS, ends=(NOON,))
    assert triage([begun], put_off, NOON + SETTLE).wait


def test_causes_are_recovered_first_and_their_dependants_wait() -> None:
    found = triage([bad("top"), bad("base")], TriageContext(dependencies=[needs("top", "base")]), NOON)
    assert [one.service for one in found.recover] == ["base"]
    assert [one.service for one in found.wait] == ["top"]


def test_a_dependant_of_a_service_just_recovered_is_given_time_to_notice() -> None:
    context = TriageContext(dependencies=[needs("top", "base")], trackers={"base": ServiceTracker(failed_at=NOON)})
    assert triage([bad("top")], context, NOON + SETTLE / 2).wait
    assert triage([bad("top")], context, NOON + SETTLE).recover


def test_a_service_waits_for_a_dependency_that_is_starting() -> None:
    context = TriageContext(dependencies=[needs("top", "web")])
    for seen, decision in [(SEEN, Decision.RECOVER), (replace(SEEN, health="starting"), Decision.WAIT)]:
        for base in (judged(seen), swept(seen)):
            triaged = triage([bad("top"), base], context, NOON)
            assert [observation.decision for observation in (*triaged.recover, *triaged.wait)] == [decision]


def test_a_service_waits_for_a_cause_that_it_needs_through_another_while_that_one_begins_to_fail() -> None:
    chain = [needs("front", "web"), needs("web", "cache")]
    well = replace(bad("web"), decision=Decision.IGNORE)

    found = triage([bad("front"), well, bad("cache")], TriageContext(dependencies=chain), NOON)

    assert [one.service for one in found.recover] == ["cache"]
    assert [one.reason for one in found.wait] == ["it needs cache, which is recovered first"]
    long_since = replace(bad("cache"), decision=Decision.IGNORE, unhealthy=True)
    found = triage([bad("front"), well, long_since], TriageContext(dependencies=chain), NOON)
    assert [one.service for one in found.recover] == ["front"]


def test_three_at_once_are_one_cause_and_three_behind_one_cause_are_not() -> None:
    names = ["a", "b", "c"]
    found = triage([bad(name) for name in names], TriageContext(), NOON)
    assert found.at_once == ("a", "b", "c")
    behind = [needs(name, "base") for name in names]
    found = triage([bad(name) for name in [*names, "base"]], TriageContext(dependencies=behind), NOON)
    assert found.at_once == ()
    assert [one.service for one in found.recover] == ["base"]


def recovering_for(ago: timedelta) -> ServiceTracker:
    return replace(NEW.apply_dispatch("now", NOON - ago), recovering=True)


def test_failures_that_began_within_the_settle_window_and_last_count_as_at_once() -> None:
    lately = {"a": recovering_for(SETTLE / 2), "b": recovering_for(SETTLE / 3)}
    assert triage([bad("c")], TriageContext(trackers=lately), NOON).at_once == ("a", "b", "c")
    long_ago = dict.fromkeys("ab", recovering_for(SETTLE))
    assert triage([bad("c")], TriageContext(trackers=long_ago), NOON).at_once == ()
    mended = {name: one.apply_recovery(None, NOON) for name, one in lately.items()}
    assert triage([bad("c")], TriageContext(trackers=mended), NOON).recover, "two are well again by now"


def test_what_was_held_as_one_with_others_is_recovered_once_they_are_well() -> None:
    held = {name: NEW.apply_dispatch("now", NOON, held_as_one=True) for name in "abc"}
    assert not triage([bad("c")], TriageContext(trackers=held), NOON).recover, "nothing says that a and b are well"
    well = [ServiceObservation(service=name, decision=Decision.IGNORE, reason="it is healthy") for name in "ab"]
    assert triage([bad("c"), *well], TriageContext(trackers=held), NOON).recover
    assert not triage([bad(name) for name in "abc"], TriageContext(trackers=held), NOON).recover


def test_what_a_start_of_the_engine_left_down_is_brought_up_and_is_no_storm() -> None:
    started = NOON - timedelta(minutes=5)
    ended = {
        name: replace(CRASHED, service=name, container_id=name * 64, finished_at=started + timedelta(seconds=1))
        for name in "abc"
    }
    late = replace(CRASHED, service="d", container_id="d" * 64, finished_at=started + SETTLE * 2)
    running = replace(SEEN, service="e", container_id="e" * 64)
    with_engine = services_ended_with_engine([*ended.values(), late, running], started)
    assert with_engine == set(ended)
    assert services_ended_with_engine([*ended.values()], None) == set()

    behind = TriageContext(dependencies=[needs("c", "a")], with_engine=with_engine)
    found = triage([bad(name) for name in "abcd"], behind, NOON)
    assert (found.at_once, [one.service for one in found.recover]) == ((), ["a", "b", "d"])
    assert triage([bad(name) for name in "abcd"], TriageContext(), NOON).at_once == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("seconds", "health", "decision"),
    [
        (5, "starting", Decision.WAIT),
        (5, None, Decision.WAIT),
        (5, "unhealthy", Decision.RECOVER),
        (60, None, Decision.RECOVER),
    ],
)
def test_a_sweep_gives_what_was_started_a_moment_ago_the_time_to_settle(
    seconds: int, health: str | None, decision: Decision
) -> None:
    began = replace(SEEN, health=health, started_at=NOON - timedelta(seconds=seconds))
    verdict = ServiceVerdict(service="web", health=ServiceHealth.UNHEALTHY, reason="runs, but its probe failed")
    assert observe_verdict(verdict, [began], stopped=None, tracker=NEW, now=NOON).decision is decision


def test_nothing_is_recovered_twice_or_while_an_operation_holds_the_environment() -> None:
    dispatched = {"web": ServiceTracker(dispatched=("now", NOON))}
    assert triage([bad("web")], TriageContext(trackers=dispatched), NOON).ignore
    assert triage([bad("web", "restarted since")], TriageContext(trackers=dispatched), NOON).recover
    assert triage([bad("web")], TriageContext(trackers=dispatched), NOON + AGAIN).recover
    assert triage([bad("web")], TriageContext(trackers={"web": ServiceTracker(recovering=True)}), NOON).ignore
    assert triage([bad("web")], TriageContext(muted=["web"]), NOON).wait
    held = triage([bad("web")], TriageContext(held="a start by ann"), NOON)
    assert "a start by ann" in held.wait[0].reason


def test_a_crash_within_an_operation_is_recorded_by_the_operation_alone() -> None:
    crashed = judged(replace(SEEN, state="restarting"), declaration=ALWAYS, ends=(NOON,))
    assert triage([crashed], TriageContext(), NOON).wait[0].crashed
    assert not triage([crashed], TriageContext(held="a start by ann"), NOON).wait[0].crashed
    assert triage([crashed], TriageContext(held="e1#1 (recovery of db)"), NOON).wait[0].crashed


def test_what_fails_while_another_environment_that_it_needs_is_down_waits_also_where_the_engine_restarts_it() -> None:
    restarting = replace(bad("api"), decision=Decision.WAIT, crashed=True, restarting=True)
    down = TriageContext(needs_down="it needs data/db, which is down")
    waiting = triage([bad("web"), restarting], down, NOON)
    assert [(one.service, one.reason, one.crashed) for one in waiting.wait] == [
        ("web", down.needs_down, False),
        ("api", down.needs_down, False),
    ]
    assert waiting.failures == ()
    assert [failure.service for failure in triage([bad("web")], TriageContext(), NOON).failures] == ["web"]


def test_as_many_as_need_one_environment_are_no_storm() -> None:
    down = TriageContext(needs_down="it needs data/db, which is down")
    waiting = triage([bad(name) for name in ("a", "b", "c", "d")], down, NOON)
    assert (waiting.at_once, waiting.failures) == ((), ())
