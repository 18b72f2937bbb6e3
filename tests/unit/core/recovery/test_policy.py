"""Recovery plans: when to act, when to wait, when to ask."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.recovery.manual_steps import earlier_answers, manual_steps
from core.recovery.policy import (
    PlanAction,
    RecoveryFacts,
    RecoveryPlan,
    backoff,
    leads_deeper,
    objection,
    plan_as_decided,
    plan_recovery,
    waits_for_itself,
)
from core.recovery.triage import STOPPED, perhaps_stopped
from models.environments import RecoveryPolicy
from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.recovery import RecoveryExecution, RecoveryStep, TicketEntry

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
POLICY = RecoveryPolicy()
FACTS = RecoveryFacts(service="bot")
VERDICT = Verdict(
    category=Category.OOM_KILLED,
    severity=Severity.HIGH,
    strategy=Strategy.RESTART_SERVICE,
    confidence=0.95,
    reason="The kernel killed it.",
)
ERROR = RecordedError(
    error_id="e-1",
    environment="dev",
    text="Killed",
    source="watch",
    verdict=VERDICT,
    first_seen=NOON,
    last_seen=NOON,
    service="bot",
)


def tried(ago: timedelta, *, error_id: str = "e-1", success: bool = False, service: str = "bot") -> RecoveryExecution:
    at = NOON - ago
    return RecoveryExecution(
        error_id=error_id,
        strategy=Strategy.RESTART_SERVICE,
        started_at=at,
        ended_at=at,
        success=success,
        environment="dev",
        service=service,
        steps=(RecoveryStep(name="restart", target=service, ok=True, detail="", started_at=at, ended_at=at),),
    )


def plan(
    *past: RecoveryExecution,
    error: RecordedError = ERROR,
    facts: RecoveryFacts = FACTS,
    policy: RecoveryPolicy = POLICY,
) -> RecoveryPlan:
    return plan_recovery(error, past=past, policy=policy, facts=facts, now=NOON)


def of_strategy(strategy: Strategy) -> RecordedError:
    return replace(ERROR, verdict=replace(VERDICT, strategy=strategy))


@pytest.mark.parametrize(
    ("pattern", "then"),
    [
        ("discord_gateway_closed", Strategy.RESTART_SERVICE),
        ("discord_rate_limit", Strategy.WAIT_AND_RETRY),
    ],
)
def test_a_session_that_does_not_come_back_by_itself_is_begun_anew_but_no_login_follows_a_limit(
    pattern: str, then: Strategy
) -> None:
    waits = of_strategy(Strategy.WAIT_AND_RETRY)
    lost = replace(waits, verdict=replace(waits.verdict, category=Category.DISCORD_API, pattern_name=pattern))
    vain = replace(tried(timedelta(seconds=40)), strategy=Strategy.WAIT_AND_RETRY)
    assert plan(error=lost).strategy is Strategy.WAIT_AND_RETRY
    assert plan(vain, error=lost).strategy is then


def test_the_first_failure_is_acted_on_at_once() -> None:
    first = plan()

    assert (first.action, first.strategy, first.attempt, first.delay) == (
        PlanAction.RECOVER,
        Strategy.RESTART_SERVICE,
        1,
        timedelta(),
    )


def test_a_person_is_asked_where_the_strategy_is_a_persons() -> None:
    assert plan(error=of_strategy(Strategy.FIX_CREDENTIALS)).action is PlanAction.ASK_A_PERSON


def test_no_person_is_asked_about_what_was_refused_to_the_person_who_typed_it() -> None:
    manual = of_strategy(Strategy.FIX_CONFIG)

    assert plan(error=manual, facts=replace(FACTS, was_reported_to_person=True)).action is PlanAction.LEAVE_ALONE


def test_what_is_no_error_is_left_alone() -> None:
    benign = replace(ERROR, verdict=replace(VERDICT, category=Category.BENIGN, strategy=Strategy.NONE))

    assert plan(error=benign).action is PlanAction.LEAVE_ALONE


def test_a_service_stopped_by_a_person_stays_stopped() -> None:
    left = plan(facts=replace(FACTS, stopped=STOPPED))

    assert left.action is PlanAction.LEAVE_ALONE
    assert "stopped by a person" in left.reason


def test_a_service_that_a_person_may_have_stopped_stays_down_and_is_reported_with_the_command() -> None:
    facts = replace(FACTS, stopped=perhaps_stopped("shop"))

    left = plan(facts=facts)

    assert left.action is PlanAction.LEAVE_ALONE
    assert "to start it: roas start shop" in left.reason
    assert objection("bot", policy=POLICY, facts=facts) == left.reason


def test_nothing_is_done_while_recovery_is_paused() -> None:
    assert plan(facts=replace(FACTS, paused=True)).action is PlanAction.LEAVE_ALONE


@pytest.mark.parametrize("wish", [{"paused": True}, {"maintenance": True}, {"stopped": STOPPED}])
def test_a_wish_holds_back_the_next_step_and_not_the_undoing_of_those_before(wish: dict[str, Any]) -> None:
    facts = replace(FACTS, **wish)

    assert objection("web", policy=POLICY, facts=facts)
    assert objection("web", policy=POLICY, facts=facts, undoing=True) is None


@pytest.mark.parametrize("undoing", [False, True])
def test_what_a_person_paused_is_not_touched_by_an_undoing_either(undoing: bool) -> None:
    facts = replace(FACTS, container_paused=True)

    assert objection("web", policy=POLICY, facts=facts, undoing=undoing) == (
        "web was paused by a person, so it stays paused."
    )


def test_a_persons_work_is_asked_for_even_while_recovery_is_paused() -> None:
    asked = plan(error=of_strategy(Strategy.RESTORE_DATABASE), facts=replace(FACTS, paused=True))

    assert asked.action is PlanAction.ASK_A_PERSON


@pytest.mark.parametrize(("failing", "action"), [(2, PlanAction.RECOVER), (3, PlanAction.ASK_A_PERSON)])
def test_three_services_failing_at_once_mean_one_cause(failing: int, action: PlanAction) -> None:
    assert plan(facts=replace(FACTS, failing_services=failing)).action is action


def test_what_may_not_be_done_here_is_put_to_a_person() -> None:
    asked = plan(facts=replace(FACTS, acting=False))

    assert asked.action is PlanAction.ASK_A_PERSON
    assert "restart_service would be tried if the container of the service exited by itself" in asked.reason


@pytest.mark.parametrize(
    "hindrance", [{"facts": replace(FACTS, acting=False)}, {"policy": RecoveryPolicy(automatic=False)}]
)
def test_an_action_that_is_only_named_is_named_with_the_fact_that_it_needs(hindrance: dict[str, Any]) -> None:
    asked = plan(error=of_strategy(Strategy.PRUNE_DISK), **hindrance)

    assert "prune_disk would be tried if the disk of the engine is at least 90 % full" in asked.reason


@pytest.mark.parametrize(
    ("strategy", "disk_percent", "words"),
    [
        (Strategy.PRUNE_DISK, 52.0, "the disk is 52 % full, so nothing would be removed"),
        (Strategy.PRUNE_DISK, 95.0, "prune_disk would be tried if"),
        (Strategy.RESTART_DEPENDENCY_THEN_SERVICE, None, "none of its dependencies is seen down"),
    ],
)
def test_an_action_that_a_known_fact_forbids_is_not_named(
    strategy: Strategy, disk_percent: float | None, words: str
) -> None:
    # A line that a person reports says itself what is lacking; a failure that is seen stands without it.
    error = replace(of_strategy(strategy), source="person")

    asked = plan(error=error, facts=replace(FACTS, acting=False, disk_percent=disk_percent))

    assert words in asked.reason


def test_after_a_failed_start_nothing_is_offered() -> None:
    asked = plan(error=replace(ERROR, source="start"), facts=replace(FACTS, acting=False))

    assert asked.action is PlanAction.ASK_A_PERSON
    assert asked.reason == f"{ERROR.verdict.reason} A start that failed is rolled back, and nothing else is tried."


def test_without_a_service_there_is_nothing_to_act_on() -> None:
    nowhere = replace(ERROR, service=None)

    assert plan(error=nowhere, facts=RecoveryFacts()).action is PlanAction.ASK_A_PERSON


def test_one_attempt_that_is_all_there_may_be_is_reported_as_one() -> None:
    assert plan(tried(timedelta(hours=1)), policy=RecoveryPolicy(attempts_per_error=1)).reason.startswith(
        "1 attempt at"
    )


def test_an_environment_without_automatic_recovery_only_asks() -> None:
    assert plan(policy=RecoveryPolicy(automatic=False)).action is PlanAction.ASK_A_PERSON


def test_asks_a_person_when_the_attempts_at_an_error_are_spent() -> None:
    hours_apart = [tried(timedelta(hours=n)) for n in (1, 2, 3)]

    assert plan(*hours_apart[:2]).action is PlanAction.RECOVER
    assert "3 attempts" in plan(*hours_apart).reason
    assert plan(*hours_apart).action is PlanAction.ASK_A_PERSON


def test_a_flapping_service_is_left_to_a_person_after_its_quarter_hour_budget() -> None:
    others = [tried(timedelta(minutes=n), error_id=f"e-{n}", success=True) for n in (2, 6, 12)]

    assert plan(*others[:2]).action is PlanAction.RECOVER
    assert "within 15 minutes" in plan(*others).reason
    assert plan(*others).action is PlanAction.ASK_A_PERSON


def test_the_budget_of_a_day_is_kept() -> None:
    hourly = [tried(timedelta(hours=n), error_id=f"e{n}", success=True) for n in range(1, 13)]

    assert "within a day" in plan(*hourly).reason


def test_a_host_has_a_budget_of_its_own() -> None:
    elsewhere = [
        tried(timedelta(minutes=n), error_id=f"e-{n}", service=f"service-{n}", success=True) for n in range(1, 13)
    ]

    assert "This host" in plan(*elsewhere).reason


def test_an_environment_has_its_share_of_a_host_that_others_use_too() -> None:
    here = [tried(timedelta(minutes=n), error_id=f"e-{n}", service=f"service-{n}", success=True) for n in range(1, 13)]
    other = replace(here[0], environment="prod")

    assert plan(*here, other).reason.startswith("Environment dev has had 12 of 12 points")


def test_another_services_attempts_do_not_count() -> None:
    elsewhere = [tried(timedelta(minutes=n), error_id=f"other-{n}", service="web") for n in (1, 2, 3)]

    assert plan(*elsewhere).attempt == 1


def test_a_second_attempt_waits() -> None:
    second = plan(tried(timedelta(seconds=1)))

    assert second.attempt == 2
    assert timedelta(seconds=7) <= second.delay <= timedelta(seconds=11)


def test_earlier_errors_that_were_each_healed_do_not_delay_the_next_one() -> None:
    healed = [tried(timedelta(minutes=n), error_id=f"e-{n}", success=True) for n in (1, 3)]
    failed = tried(timedelta(minutes=2), error_id="e-2")

    assert plan(*healed).delay == timedelta()
    assert plan(healed[0], tried(timedelta(seconds=1))).delay >= timedelta(seconds=7)
    assert plan(healed[0], failed, facts=replace(FACTS, outside_logins=True)).delay >= timedelta(minutes=3)


def test_the_count_begins_anew_after_ten_healthy_minutes() -> None:
    assert plan(tried(timedelta(minutes=11), error_id="old", success=True)).attempt == 1
    assert plan(tried(timedelta(minutes=9), error_id="old", success=True)).attempt == 2
    assert plan(tried(timedelta(minutes=11), error_id="old", success=False)).attempt == 2


def test_a_service_that_logs_in_elsewhere_waits_at_least_five_minutes() -> None:
    again = plan(tried(timedelta(minutes=1)), facts=replace(FACTS, outside_logins=True))

    assert again.delay == timedelta(minutes=4)


def test_a_service_that_logs_in_elsewhere_is_restarted_six_times_a_day_at_most() -> None:
    past = [tried(timedelta(hours=n), error_id=f"e{n}", success=True) for n in range(1, 7)]

    assert plan(*past).action is PlanAction.RECOVER
    asked = plan(*past, facts=replace(FACTS, outside_logins=True))
    assert "credentials" in asked.reason


def test_dependencies_known_to_be_down_come_first() -> None:
    needing = replace(
        of_strategy(Strategy.RESTART_DEPENDENCY_THEN_SERVICE), evidence={"dependencies_down": ["redis", "db"]}
    )

    assert plan(error=needing).dependencies == ("redis", "db")
    assert plan(error=replace(needing, evidence={})).strategy is Strategy.RESTART_SERVICE
    assert plan(error=replace(ERROR, evidence={"dependencies_down": ["redis"]})).dependencies == ()


@given(st.integers(1, 10_000), st.text(max_size=20))
def test_waits_grow_and_stay_within_bounds(attempt: int, seed: str) -> None:
    wait = backoff(attempt, seed=seed)

    assert wait == backoff(attempt, seed=seed)
    assert timedelta() <= wait <= timedelta(minutes=6)
    assert attempt == 1 or wait >= timedelta(seconds=8)


def test_services_that_failed_together_do_not_return_together() -> None:
    assert backoff(3, seed="e-1") != backoff(3, seed="e-2")


def test_an_hour_of_flapping_never_spends_more_than_the_budget() -> None:
    done: list[RecoveryExecution] = []
    for second in range(0, 3600, 20):
        now = NOON + timedelta(seconds=second)
        error = replace(ERROR, error_id=f"e-{second // 900}")
        next_step = plan_recovery(error, past=done, policy=POLICY, facts=FACTS, now=now)
        if next_step.action is PlanAction.RECOVER and not next_step.delay:
            done.append(replace(tried(timedelta(), error_id=error.error_id), started_at=now, ended_at=now))

    assert 0 < len(done) <= 4 * POLICY.attempts_per_service_15min


def test_in_maintenance_nothing_is_done() -> None:
    left = plan(facts=replace(FACTS, maintenance=True))

    assert (left.action, "maintenance" in left.reason) == (PlanAction.LEAVE_ALONE, True)


def test_a_dry_run_proposes_and_takes_nothing_of_the_budgets() -> None:
    proposed = plan(policy=RecoveryPolicy(dry_run=True))
    written = [replace(tried(timedelta(minutes=1)), points=0)] * 3

    assert proposed.action is PlanAction.PROPOSE
    assert "attempt 1, if the container of the service exited by itself" in proposed.reason
    assert plan(*written).attempt == 1


def test_a_budget_counts_points_so_dearer_actions_are_fewer() -> None:
    dear = [replace(tried(timedelta(minutes=n), error_id=f"e-{n}", success=True), points=2) for n in (3,)]

    assert plan(*dear).action is PlanAction.RECOVER
    assert plan(*dear, error=of_strategy(Strategy.RECREATE_CONTAINER)).action is PlanAction.ASK_A_PERSON


def test_the_budget_of_a_host_is_of_all_environments_of_its_engine() -> None:
    others = [
        replace(tried(timedelta(minutes=1), error_id=f"x-{n}", service=f"s-{n}"), environment="prod", engine="unix://a")
        for n in range(18)
    ]

    assert "This host" in plan(*others, facts=replace(FACTS, engine="unix://a")).reason
    assert plan(*others, facts=replace(FACTS, engine="unix://b")).action is PlanAction.RECOVER


def test_hosts_with_the_same_path_of_the_engines_socket_have_budgets_of_their_own() -> None:
    socket = "unix:///var/run/docker.sock"
    others = [
        replace(tried(timedelta(minutes=1), error_id=f"x-{n}", service=f"s-{n}"), engine=socket, host_id="h-a")
        for n in range(20)
    ]
    here = replace(FACTS, engine=socket, host_id="h-b")
    assert plan(*others, facts=here).action is PlanAction.RECOVER
    assert "This host" in plan(*others, facts=replace(here, host_id="h-a")).reason
    # Another socket of the same host is the same host; attempts from before hosts were recorded count by the socket.
    assert "This host" in plan(*others, facts=replace(here, host_id="h-a", engine="unix:///run/user/1/d.sock")).reason
    earlier = [replace(one, host_id="") for one in others]
    assert "This host" in plan(*earlier, facts=here).reason


def test_the_budget_of_a_remote_engine_is_that_engines_whichever_host_acts() -> None:
    remote = "ssh://deploy@db.example"
    others = [
        replace(tried(timedelta(minutes=1), error_id=f"x-{n}", service=f"s-{n}"), engine=remote, host_id="h-a")
        for n in range(20)
    ]
    assert "This host" in plan(*others, facts=replace(FACTS, engine=remote, host_id="h-b")).reason


def test_the_same_service_of_another_environment_has_its_own_budget() -> None:
    elsewhere = [replace(tried(timedelta(minutes=n), error_id=f"x-{n}"), environment="prod") for n in (1, 2, 3)]

    assert plan(*elsewhere).action is PlanAction.RECOVER


def test_every_attempt_at_an_error_has_a_name_of_its_own() -> None:
    assert [plan(*[tried(timedelta(hours=n))] * n).attempt_id for n in (0, 1, 2)] == ["e-1#1", "e-1#2", "e-1#3"]


def test_what_a_restart_did_not_mend_soon_after_a_deployment_is_undone_once() -> None:
    soon = replace(FACTS, deployed_ago=timedelta(minutes=5))
    restarted = tried(timedelta(minutes=2))
    back = replace(tried(timedelta(minutes=1)), strategy=Strategy.ROLL_BACK_RELEASE)

    assert plan(facts=soon).strategy is Strategy.RESTART_SERVICE
    assert plan(restarted, facts=soon).strategy is Strategy.ROLL_BACK_RELEASE
    assert plan(restarted, back, facts=soon).strategy is Strategy.RESTART_SERVICE
    assert (
        plan(restarted, facts=replace(FACTS, deployed_ago=timedelta(minutes=11))).strategy is Strategy.RESTART_SERVICE
    )


def test_a_release_that_needs_a_persons_work_is_undone_where_it_just_came() -> None:
    broken = of_strategy(Strategy.FIX_CONFIG)
    soon = replace(FACTS, deployed_ago=timedelta(minutes=1))

    assert plan(error=broken).action is PlanAction.ASK_A_PERSON
    assert plan(error=broken, facts=soon).strategy is Strategy.ROLL_BACK_RELEASE
    assert plan(error=replace(broken, predictive=True), facts=soon).action is PlanAction.ASK_A_PERSON
    assert plan(error=of_strategy(Strategy.FIX_CREDENTIALS), facts=soon).action is PlanAction.ASK_A_PERSON


def test_nothing_goes_back_by_itself_across_a_migration_or_saved_data() -> None:
    ways = ("roas rollback dev r-1", "roas rollback dev r-1 --with-data")
    soon = replace(FACTS, deployed_ago=timedelta(minutes=1), why_not_back="Hook migrate ran.", ways_back=ways)
    restarted = [tried(timedelta(minutes=n)) for n in (9, 6, 3)]

    asked = plan(error=of_strategy(Strategy.INVESTIGATE), facts=soon)
    assert (asked.action, asked.strategy, asked.first_steps) == (PlanAction.ASK_A_PERSON, Strategy.INVESTIGATE, ways)
    assert asked.reason.endswith("Hook migrate ran.")
    assert plan(*restarted[2:], facts=soon).strategy is Strategy.RESTART_SERVICE
    spent = plan(*restarted, facts=soon)
    assert (spent.action, spent.first_steps) == (PlanAction.ASK_A_PERSON, ways)
    assert plan(error=of_strategy(Strategy.FIX_CREDENTIALS), facts=soon).first_steps == ()


def test_what_only_has_to_be_waited_for_is_given_time() -> None:
    waiting = plan(error=of_strategy(Strategy.WAIT_AND_RETRY))

    assert (waiting.delay > timedelta(), waiting.later) == (True, False)


def test_where_waiting_was_in_vain_the_silent_are_restarted_and_who_says_it_is_loading_is_not() -> None:
    waited = replace(tried(timedelta(minutes=1)), strategy=Strategy.WAIT_AND_RETRY)
    silent, loading = (
        replace(ERROR, verdict=replace(VERDICT, category=category, strategy=Strategy.WAIT_AND_RETRY))
        for category in (Category.TIMEOUT, Category.REDIS_STATE)
    )

    assert plan(waited, error=silent).strategy is Strategy.RESTART_SERVICE
    assert plan(waited, error=loading).strategy is Strategy.WAIT_AND_RETRY
    assert plan(error=silent).strategy is Strategy.WAIT_AND_RETRY
    assert plan(error=replace(silent, evidence={"health": "unhealthy"})).strategy is Strategy.RESTART_SERVICE
    assert [waits_for_itself(one.verdict) for one in (silent, loading, ERROR)] == [False, True, False]


def test_who_needs_what_a_person_keeps_down_is_left_alone() -> None:
    left = plan(facts=replace(FACTS, kept_down=("redis",)))

    assert (left.action, "redis" in left.reason) == (PlanAction.LEAVE_ALONE, True)


def test_what_needs_a_service_that_is_being_recovered_waits_for_that() -> None:
    refused = replace(
        ERROR,
        verdict=replace(VERDICT, strategy=Strategy.RESTART_DEPENDENCY_THEN_SERVICE),
        evidence={"dependencies_down": ["redis"]},
    )
    other = replace(tried(timedelta(seconds=2)), error_id="of redis", environment=ERROR.environment, service="redis")

    assert plan(replace(other, ended_at=None), error=refused).later
    assert not plan(other, error=refused).later
    assert not plan(replace(other, ended_at=None, service="else"), error=refused).later


def test_what_an_attempt_runs_into_may_be_the_true_cause_and_none_is_gone_into_twice() -> None:
    port = replace(VERDICT, category=Category.PORT_CONFLICT, pattern_name="port_in_use")

    assert leads_deeper(VERDICT, port, (Category.OOM_KILLED,))
    assert not leads_deeper(VERDICT, port, (Category.OOM_KILLED, Category.PORT_CONFLICT))
    assert not leads_deeper(VERDICT, replace(port, category=Category.HEALTHCHECK_FAILED), ())
    assert not leads_deeper(VERDICT, replace(port, pattern_name=None), ())


def test_a_long_wait_is_left_to_the_next_evaluation() -> None:
    assert plan(tried(timedelta(seconds=2)), tried(timedelta(seconds=1))).later


def test_a_person_is_not_bound_by_budgets() -> None:
    spent = [tried(timedelta(minutes=n)) for n in (1, 2, 3)]
    again = plan_as_decided(of_strategy(Strategy.FIX_CONFIG), roll_back=False, past=spent, decided_by="anna")

    assert (again.action, again.strategy, again.attempt_id) == (
        PlanAction.RECOVER,
        Strategy.WAIT_AND_RETRY,
        "e-1#4",
    )


def test_what_was_answered_before_is_offered_latest_first() -> None:
    history = [
        TicketEntry(at=NOON, by="anna", what="resolved by hand: token renewed"),
        TicketEntry(at=NOON, by="roas", what="seen again"),
        TicketEntry(at=NOON + timedelta(days=1), by="ben", what="retry: it was the network"),
    ]

    assert earlier_answers(history) == (
        "On 2026-03-03 ben answered: retry: it was the network",
        "On 2026-03-02 anna answered: resolved by hand: token renewed",
    )


@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_strategy_has_its_commands(strategy: Strategy) -> None:
    steps = manual_steps(replace(VERDICT, strategy=strategy), service="bot", project="shop", environment="dev")

    assert steps
    assert strategy is Strategy.NONE or any("roas" in step for step in steps)
    # Both fail where the service has no container, or outside of the application's folder.
    assert not any("docker compose" in step or "$(" in step for step in steps)
    assert all("prune" not in step or "volume prune" not in step for step in steps)
    assert all("{project}" not in step for step in steps)


def test_commands_name_project_and_service() -> None:
    verdict = replace(VERDICT, strategy=Strategy.INVESTIGATE)
    steps = manual_steps(verdict, service="bot", project="shop", environment="dev")

    assert "Read its log: roas logs dev bot" in steps


def test_commands_without_a_service_are_for_the_whole_project() -> None:
    verdict = replace(VERDICT, strategy=Strategy.FIX_CONFIG)
    steps = manual_steps(verdict, service=None, project="shop", environment="dev")

    assert "Read its log: roas logs dev" in steps


@pytest.mark.parametrize(("disk_percent", "prunes"), [(None, False), (23.0, False), (97.0, True)])
def test_images_are_to_be_pruned_only_for_a_full_disk(disk_percent: float | None, prunes: bool) -> None:
    verdict = replace(VERDICT, strategy=Strategy.PRUNE_DISK, category=Category.DISK_FULL)
    steps = manual_steps(verdict, service="bot", project="shop", environment="dev", disk_percent=disk_percent)

    assert any("docker image prune" in step for step in steps) is prunes
    assert any("df -h" in step for step in steps)


@pytest.mark.parametrize(
    ("category", "expected"),
    [
        (Category.KERNEL_NETWORK_DRIVER, "dmesg"),
        (Category.TLS_CERTIFICATE, "date -u"),
        (Category.DNS_FAILURE, "getent hosts"),
        (Category.UNKNOWN, "docker info"),
    ],
)
def test_what_to_look_at_on_the_host_depends_on_the_cause(category: Category, expected: str) -> None:
    verdict = replace(VERDICT, strategy=Strategy.FIX_HOST, category=category)
    steps = manual_steps(verdict, service="bot", project="shop", environment="dev")
    commands = ("dmesg", "date -u", "getent hosts", "docker info")

    assert [one for one in commands if any(one in step for step in steps)] == [expected]


LACKING = "restart_service may not be done: bot runs, and none of its checks fails."


def test_what_lacks_a_fact_is_left_to_a_person_with_the_fact() -> None:
    asked = plan(facts=replace(FACTS, lacking=LACKING))

    assert (asked.action, asked.strategy, asked.reason) == (PlanAction.ASK_A_PERSON, Strategy.INVESTIGATE, LACKING)


def test_what_lacks_a_fact_soon_after_a_deployment_is_rolled_back() -> None:
    assert plan(facts=replace(FACTS, lacking=LACKING, deployed_ago=timedelta(seconds=30))).strategy is (
        Strategy.ROLL_BACK_RELEASE
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("watch", Strategy.RESTART_SERVICE),
        ("collection", Strategy.RESTART_SERVICE),
        ("person", Strategy.RESTART_DEPENDENCY_THEN_SERVICE),
        ("prediction", Strategy.RESTART_DEPENDENCY_THEN_SERVICE),
    ],
)
def test_without_a_dependency_down_only_an_observed_failure_may_be_restarted_for_itself(
    source: str, expected: Strategy
) -> None:
    error = replace(of_strategy(Strategy.RESTART_DEPENDENCY_THEN_SERVICE), source=source)

    assert plan(error=error).strategy is expected


def test_what_a_person_decides_needs_no_fact() -> None:
    assert plan_as_decided(ERROR, roll_back=False, past=(), decided_by="ann").decided
    assert not plan().decided


def in_environment(name: str, count: int) -> list[RecoveryExecution]:
    made = [tried(timedelta(minutes=1), error_id=f"{name}-{n}", service=f"{name}-{n}") for n in range(count)]
    return [replace(one, environment=name) for one in made]


def test_the_budget_of_a_host_grows_with_the_environments_that_need_it() -> None:
    elsewhere = [one for name in ("one", "two", "three") for one in in_environment(name, 4)]
    assert plan(*elsewhere).action is PlanAction.RECOVER, "a fourth environment has its share"
    many = [one for name in ("one", "two", "three") for one in in_environment(name, 10)]
    assert "This host has had 30 of 30 points" in plan(*many).reason


def test_one_environment_does_not_spend_what_the_others_may_need() -> None:
    noisy = in_environment(ERROR.environment, 12)
    assert "has had 12 of 12 points" in plan(*noisy, *in_environment("two", 1), *in_environment("three", 1)).reason
    assert plan(*in_environment("noisy", 12)).action is PlanAction.RECOVER


@pytest.mark.parametrize(
    ("policy", "objects"),
    [
        (RecoveryPolicy(), False),
        (RecoveryPolicy(automatic=False), True),
        (RecoveryPolicy(dry_run=True), True),
        (RecoveryPolicy(automatic=False, dry_run=True), True),
    ],
    ids=["automatic", "not automatic", "dry run", "neither"],
)
def test_a_recovery_that_was_switched_off_since_the_plan_takes_no_further_step_but_undoes_its_own(
    policy: RecoveryPolicy, objects: bool
) -> None:
    wish = "Automatic recovery is switched off for this environment."

    assert objection("bot", policy=policy, facts=FACTS) == (wish if objects else None)
    assert objection("bot", policy=policy, facts=FACTS, undoing=True) is None


@pytest.mark.parametrize("strategy", [Strategy.RESTART_SERVICE, Strategy.FIX_CONFIG])
def test_what_needs_another_environment_that_is_down_waits_without_an_attempt_and_nobody_is_asked(
    strategy: Strategy,
) -> None:
    error = replace(ERROR, verdict=replace(VERDICT, strategy=strategy))
    waiting = plan(error=error, facts=replace(FACTS, needs_down="it needs data/db, which is down"))
    assert (waiting.action, waiting.later, waiting.attempt_id) == (PlanAction.RECOVER, True, "")
    assert waiting.reason == "it needs data/db, which is down"
    kept = plan(error=error, facts=replace(FACTS, needs_down="it needs data/db", stopped=STOPPED))
    assert kept.action is PlanAction.LEAVE_ALONE
