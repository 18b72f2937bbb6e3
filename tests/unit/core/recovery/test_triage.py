from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.monitoring.health import judge_declared
from core.recovery.triage import (
    AGAIN,
    SETTLE,
    Decision,
    Finding,
    TriageContext,
    is_bad,
    judge_sign,
    judge_verdict,
    sort_out,
)
from models.compose import HealthcheckDeclaration, ServiceDeclaration
from models.containers import ContainerEvent, ContainerState
from models.environments import ServiceSpec
from models.health import ServiceHealth, ServiceVerdict
from models.metrics import Dependency, DependencyType

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
WEB = ServiceDeclaration(name="web", image="i", healthcheck=HealthcheckDeclaration(test=("CMD", "true")))
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
) -> Finding:
    def judge(containers: Sequence[ContainerState]) -> ServiceVerdict:
        return judge_declared(declaration, containers, None, ServiceSpec())

    return judge_sign(declaration, seen, judge=judge, ends=ends, stopped=stopped, now=NOON)


def bad(service: str, fingerprint: str = "now") -> Finding:
    return Finding(service=service, decision=Decision.HAND_OVER, reason="stopped", fingerprint=fingerprint)


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
def test_only_what_may_be_a_failure_is_looked_into(action: str, expected: bool) -> None:
    event = ContainerEvent(happened_at=NOON, container_id="a", service="web", project="x", action=action)
    assert is_bad(event) is expected


def test_a_crash_and_a_failing_check_are_handed_over() -> None:
    assert judged(CRASHED).decision is Decision.HAND_OVER
    assert judged(replace(SEEN, health="unhealthy")).decision is Decision.HAND_OVER


def test_what_a_person_stopped_is_left_alone() -> None:
    left = judged(CRASHED, stopped=frozenset({CRASHED.container_id}))
    assert (left.decision, left.ill) == (Decision.LEAVE, True)


@pytest.mark.parametrize("seen", [[], [replace(SEEN, state="paused")]], ids=["removed", "paused"])
def test_what_is_paused_or_removed_for_longer_than_a_moment_is_handed_over(seen: list[ContainerState]) -> None:
    verdict = ServiceVerdict(service="web", health=ServiceHealth.UNHEALTHY, reason="is paused")
    assert judged(*seen).decision is Decision.WAIT
    for ago, decision in [(SETTLE / 2, Decision.WAIT), (SETTLE, Decision.HAND_OVER)]:
        assert judge_verdict(verdict, seen, stopped=False, seen_so=NOON - ago, now=NOON).decision is decision
    assert judge_verdict(verdict, seen, stopped=False, seen_so=None, now=NOON).decision is Decision.WAIT


def test_one_replica_stopped_by_a_person_hides_no_crash_of_another() -> None:
    other = replace(CRASHED, container_id="b" * 64, number=2)
    assert judged(CRASHED, other, stopped=frozenset({CRASHED.container_id})).decision is Decision.HAND_OVER


def test_a_job_that_is_done_is_left_alone_and_one_that_failed_is_not() -> None:
    job = ServiceDeclaration(name="web", image="i", one_shot=True, awaited=True)
    done = replace(CRASHED, exit_code=0, health=None)
    assert judged(done, declaration=job).decision is Decision.LEAVE
    assert judged(replace(done, exit_code=3), declaration=job).decision is Decision.HAND_OVER


def test_the_engine_restarts_by_itself_until_it_is_a_loop_or_gives_up() -> None:
    restarting = replace(SEEN, state="restarting", restart_count=1)
    once, often = (NOON,), tuple(NOON - timedelta(seconds=second) for second in (4, 2, 0))
    assert judged(restarting, declaration=ALWAYS, ends=once).decision is Decision.WAIT
    assert judged(replace(SEEN, health="starting"), declaration=ALWAYS, ends=once).decision is Decision.WAIT
    assert judged(restarting, declaration=ALWAYS, ends=often).decision is Decision.HAND_OVER
    assert judged(CRASHED, declaration=ALWAYS, ends=once).decision is Decision.HAND_OVER


def test_a_sweep_hands_over_what_is_down_unless_a_person_stopped_it() -> None:
    verdict = ServiceVerdict(service="web", health=ServiceHealth.STOPPED, reason="exited with code 1")

    def swept(seen: ContainerState, *, stopped: bool = False, health: ServiceHealth = verdict.health) -> Finding:
        return judge_verdict(replace(verdict, health=health), [seen], stopped=stopped, seen_so=None, now=NOON)

    assert swept(CRASHED).decision is Decision.HAND_OVER
    assert swept(CRASHED, stopped=True).decision is Decision.LEAVE
    assert swept(replace(CRASHED, state="created")).decision is Decision.LEAVE
    assert swept(SEEN, health=ServiceHealth.STARTING).decision is Decision.LEAVE


def test_what_the_engine_brings_back_by_itself_is_reported_as_a_crash() -> None:
    assert judged(replace(SEEN, state="restarting"), declaration=ALWAYS, ends=(NOON,)).crashed
    assert judged(replace(SEEN, health="starting"), declaration=ALWAYS, ends=(NOON,)).crashed
    assert not judged(CRASHED).crashed


def test_who_requires_what_a_person_keeps_down_waits_and_who_merely_likes_it_does_not() -> None:
    kept = Finding(service="base", decision=Decision.LEAVE, reason="a person stopped it", ill=True)
    likes = replace(needs("web", "base"), dependency_type=DependencyType.OPTIONAL)
    found = sort_out([bad("top"), bad("web"), kept], TriageContext(dependencies=[needs("top", "base"), likes]), NOON)
    assert [sign.service for sign in found.wait] == ["top"]
    assert [sign.service for sign in found.dispatch] == ["web"]


def test_what_has_no_container_any_more_is_handed_over_as_well() -> None:
    gone = replace(bad("web"), fingerprint="")
    assert sort_out([gone], TriageContext(), NOON).dispatch
    assert not sort_out([gone], TriageContext(handed={"web": ("", NOON)}), NOON).dispatch


def test_what_was_asked_to_end_is_given_the_time_for_it() -> None:
    assert sort_out([bad("web")], TriageContext(ending=["web"]), NOON).wait


def test_an_attempt_that_is_put_off_waits_for_its_time() -> None:
    put_off = TriageContext(put_off={"web": NOON + SETTLE})
    assert sort_out([bad("web")], put_off, NOON).wait
    looping = judged(replace(SEEN, state="restarting"), declaration=ALWAYS)
    assert sort_out([looping], TriageContext(), NOON).wait
    assert sort_out([looping], put_off, NOON + SETTLE).dispatch
    begun = judged(replace(SEEN, health="starting"), declaration=ALWAYS, ends=(NOON,))
    assert sort_out([begun], put_off, NOON + SETTLE).wait


def test_first_causes_are_handed_over_and_who_needs_them_waits() -> None:
    found = sort_out([bad("top"), bad("base")], TriageContext(dependencies=[needs("top", "base")]), NOON)
    assert [sign.service for sign in found.dispatch] == ["base"]
    assert [sign.service for sign in found.wait] == ["top"]


def test_who_needs_a_service_just_recovered_is_given_time_to_notice() -> None:
    around = TriageContext(dependencies=[needs("top", "base")], failed={"base": NOON})
    assert sort_out([bad("top")], around, NOON + SETTLE / 2).wait
    assert sort_out([bad("top")], around, NOON + SETTLE).dispatch


def test_three_at_once_are_one_cause_and_three_behind_one_cause_are_not() -> None:
    names = ["a", "b", "c"]
    found = sort_out([bad(name) for name in names], TriageContext(), NOON)
    assert found.at_once == ("a", "b", "c")
    behind = [needs(name, "base") for name in names]
    found = sort_out([bad(name) for name in [*names, "base"]], TriageContext(dependencies=behind), NOON)
    assert found.at_once == ()
    assert [sign.service for sign in found.dispatch] == ["base"]


def test_failures_within_the_settle_window_count_as_at_once() -> None:
    lately = {"a": NOON - SETTLE / 2, "b": NOON - SETTLE / 3}
    assert sort_out([bad("c")], TriageContext(failed=lately), NOON).at_once == ("a", "b", "c")
    long_ago = dict.fromkeys("ab", NOON - SETTLE)
    assert sort_out([bad("c")], TriageContext(failed=long_ago), NOON).at_once == ()


@pytest.mark.parametrize(
    ("seconds", "health", "decision"),
    [
        (5, "starting", Decision.WAIT),
        (5, None, Decision.WAIT),
        (5, "unhealthy", Decision.HAND_OVER),
        (60, None, Decision.HAND_OVER),
    ],
)
def test_a_sweep_gives_what_was_started_a_moment_ago_the_time_to_settle(
    seconds: int, health: str | None, decision: Decision
) -> None:
    began = replace(SEEN, health=health, started_at=NOON - timedelta(seconds=seconds))
    verdict = ServiceVerdict(service="web", health=ServiceHealth.UNHEALTHY, reason="runs, but its probe failed")
    assert judge_verdict(verdict, [began], stopped=False, seen_so=None, now=NOON).decision is decision


def test_nothing_is_handed_over_twice_or_while_somebody_has_it_in_hand() -> None:
    handed = {"web": ("now", NOON)}
    assert sort_out([bad("web")], TriageContext(handed=handed), NOON).leave
    assert sort_out([bad("web", "restarted since")], TriageContext(handed=handed), NOON).dispatch
    assert sort_out([bad("web")], TriageContext(handed=handed), NOON + AGAIN).dispatch
    assert sort_out([bad("web")], TriageContext(recovering=["web"]), NOON).leave
    assert sort_out([bad("web")], TriageContext(muted=["web"]), NOON).wait
    held = sort_out([bad("web")], TriageContext(held="a start by ann"), NOON)
    assert "a start by ann" in held.wait[0].reason
