"""Decide whether and when to recover from an error, and when to ask a person."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from core.recovery.actions import ACTIONS
from core.recovery.facts import DISK_IS_FULL_PERCENT, would_need
from models.environments import RecoveryPolicy
from models.errors import Category, RecordedError, Strategy, Verdict
from models.operations import OperationType
from models.recovery import PersonStop, RecoveryExecution

_QUARTER_HOUR = timedelta(minutes=15)
_DAY = timedelta(days=1)
_FIRST_WAIT = timedelta(seconds=10)
_LONGEST_WAIT = timedelta(minutes=5)
_JITTER = 0.2
_BETWEEN_LOGINS = timedelta(minutes=5)
_LOGINS_A_DAY = 6
AT_ONCE = 3
"""This many services that fail at once have a common cause outside of them."""

PROVEN_AFTER = timedelta(minutes=10)
"""How long a service must stay healthy until earlier attempts no longer count."""

SHORT_WAIT = timedelta(seconds=15)
"""How long a run itself waits before it acts; a longer wait is left to the next evaluation."""

_OTHERS_FIRST = timedelta(seconds=20)
"""Longer than that: what it needs is mended within it, or known to be a person's to mend."""

_SILENT = frozenset({Category.TIMEOUT, Category.DNS_FAILURE, Category.DEPENDENCY_REFUSED})
"""What a wait may mend, and a restart too. A service that says itself what it waits for is not restarted for it."""

_GONE_FOR_GOOD = frozenset({"discord_gateway_closed"})
"""What a service says of a session that it gets again by itself within seconds, or not at all."""

OBSERVED_SOURCES = frozenset({"watch", "collection", "event"})
"""Who reports what the engine shows, and not a line that somebody has read."""

_BY_GOING_BACK = frozenset({Strategy.FIX_CONFIG, Strategy.INVESTIGATE})
"""A person's work that a release which just came is likely to have made necessary."""


class PlanAction(StrEnum):
    """Decision about an error."""

    RECOVER = "recover"
    PROPOSE = "propose"
    ASK_A_PERSON = "ask a person"
    LEAVE_ALONE = "leave alone"

    @property
    def label(self) -> str:
        """As the log says it."""
        return {
            PlanAction.RECOVER: "automatic repair",
            PlanAction.PROPOSE: "dry run of an automatic repair",
            PlanAction.ASK_A_PERSON: "needs a person",
        }.get(self, "no repair")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryFacts:
    """Facts beside the error: the service, its environment, and the wishes of users.

    `failing_services` is how many fail at once. `acting` False: a person already works on it. `engine` is the address
    of the host. `deployed_ago` is how long before the error the current release was deployed, None without a proven
    release before it. `why_not_back` says why only a person goes back to that one, with the `ways_back`; both are
    empty where a recovery may. `kept_down` are its dependencies that a person stopped or paused. `lacking` is the fact
    without which the proposed action was refused: only a person can act then. `disk_percent` is the use of the host's
    disk. `needs_down` says which other environments that it needs are down. `was_reported_to_person`: validation
    refused what a person had typed, so nothing was touched.
    """

    service: str | None = None
    outside_logins: bool = False
    stopped: PersonStop | None = None
    container_paused: bool = False
    failing_services: int = 1
    paused: bool = False
    maintenance: bool = False
    acting: bool = True
    engine: str = ""
    host_id: str = ""
    deployed_ago: timedelta | None = None
    why_not_back: str = ""
    ways_back: tuple[str, ...] = ()
    kept_down: tuple[str, ...] = ()
    lacking: str | None = None
    disk_percent: float | None = None
    needs_down: str = ""
    was_reported_to_person: bool = False

    @property
    def stopped_by_person(self) -> bool:
        """Whether a person stopped the service; False where that is only possible."""
        return self.stopped is not None and self.stopped.certain


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPlan:
    """Plan for an error, with its reason.

    `delay` is how long to wait before acting. `attempt` counts from 1 since the service was last proven healthy.
    `attempt_id` is the error's id and the number of the attempt. `dependencies` are restarted before the service if
    they are down. `first_steps` are what a person may do before the usual steps. `decided`: a person decided it, or it
    only verifies; then no fact is needed to enable it.
    """

    action: PlanAction
    strategy: Strategy
    reason: str
    delay: timedelta = timedelta()
    attempt: int = 1
    attempt_id: str = ""
    dependencies: tuple[str, ...] = ()
    first_steps: tuple[str, ...] = ()
    decided: bool = False

    @property
    def later(self) -> bool:
        """Whether the wait is too long for a run to wait itself."""
        return self.delay > SHORT_WAIT


def plan_recovery(
    error: RecordedError,
    *,
    past: Sequence[RecoveryExecution],
    policy: RecoveryPolicy,
    facts: RecoveryFacts,
    now: datetime,
) -> RecoveryPlan:
    """Plan the recovery of one error from earlier attempts; the same input gives the same plan.

    `past` are all attempts at this error, and those of at least the last day at any other, in any order.
    - No action: a person stopped the service or paused recovery, or maintenance; or what a person typed was refused.
    - Later, without an attempt: another environment that it needs is down.
    - A person is asked: the strategy is manual, three or more services fail at once, or a budget is spent.
    - Rollback: soon after a deployment, if the usual strategy did not help, and no hook ran or data was saved since.
    """
    past = [execution for execution in past if execution.points]
    service = facts.service or error.service
    attempts = [tried for tried in past if concerns(tried, error, service)]
    run = _attempts_since_proven(attempts, now)
    strategy = _strategy(error, facts, policy, run)
    if strategy is Strategy.ROLL_BACK_RELEASE and facts.why_not_back:
        without_it = replace(facts, deployed_ago=None, why_not_back="")
        plan = plan_recovery(error, past=past, policy=policy, facts=without_it, now=now)
        if plan.action is not PlanAction.ASK_A_PERSON:
            return plan
        return replace(plan, reason=f"{plan.reason} {facts.why_not_back}", first_steps=facts.ways_back)
    if error.verdict.category is Category.BENIGN:
        return _leave(strategy, "It is no error.")
    if facts.was_reported_to_person:
        return _leave(strategy, "Nothing was touched, and its message to the person who asked for it says why.")
    if wish := _reason_kept_down(service, facts):
        return _leave(strategy, wish)
    if facts.needs_down and service is not None:
        return RecoveryPlan(action=PlanAction.RECOVER, strategy=strategy, reason=facts.needs_down, delay=_OTHERS_FIRST)
    if not strategy.automatic:
        return _ask(strategy, facts.lacking or f"it needs a repair by hand: {error.verdict.reason}")
    if off := _switched_off(service or error.environment, facts):
        return _leave(strategy, off)
    if recovering := _recovering_dependencies(error, past, now):
        needed = ", ".join(recovering)
        why = f"{service} needs {needed}, which is being recovered"
        return RecoveryPlan(action=PlanAction.RECOVER, strategy=strategy, reason=why, delay=_OTHERS_FIRST)
    if obstacle := _obstacle(strategy, error, policy, facts, service) or _spent_budget(
        error, strategy, past=past, policy=policy, facts=facts, service=service, now=now
    ):
        return _ask(strategy, obstacle)
    attempt = len(run) + 1
    delay = _delay(error, strategy, run, facts, now)
    when = f" in {delay.total_seconds():.0f} s" if delay else ""
    # A dry run reads no facts of the engine, and an action without its fact is none.
    allowed = f", if {would_need(strategy)}" if policy.dry_run else ""
    return RecoveryPlan(
        action=PlanAction.PROPOSE if policy.dry_run else PlanAction.RECOVER,
        strategy=strategy,
        reason=f"{strategy.value} of {service}{when}, attempt {attempt}{allowed}: {error.verdict.reason}",
        delay=delay,
        attempt=attempt,
        attempt_id=attempt_id(error, past),
        dependencies=error.dependencies_down if strategy is Strategy.RESTART_DEPENDENCY_THEN_SERVICE else (),
    )


def objection(service: str, *, policy: RecoveryPolicy, facts: RecoveryFacts, undoing: bool = False) -> str | None:
    """Return the wish of a person against acting on a service now, as a sentence; None without one.

    It is asked for before each step of an attempt: the wish may be younger than the plan. Only a paused container holds
    back the undoing of what the attempt itself has changed: it would have to be stopped. Anything else would leave half
    of the attempt, whose undoing starts nothing of the service.
    """
    if facts.container_paused:
        return f"{service} was paused by a person, so it stays paused."
    if undoing:
        return None
    if wish := _reason_kept_down(service, facts) or _switched_off(service, facts):
        return wish
    if not policy.automatic or policy.dry_run:
        return "Automatic recovery is switched off for this environment."
    return None


def _reason_kept_down(service: str | None, facts: RecoveryFacts) -> str | None:
    if facts.stopped_by_person:
        return f"{service} was stopped by a person, so it stays stopped."
    if facts.stopped is not None:
        return f"{service} stays down: {facts.stopped.reason}."
    if facts.kept_down:
        return f"{service} needs {', '.join(facts.kept_down)}, which a person keeps down."
    return None


def _switched_off(about: str, facts: RecoveryFacts) -> str | None:
    if facts.paused:
        return "Automatic recovery is paused here."
    return f"{about} is in maintenance." if facts.maintenance else None


def plan_as_decided(
    error: RecordedError, *, roll_back: bool, past: Sequence[RecoveryExecution], decided_by: str
) -> RecoveryPlan:
    """Plan what a person decided: another attempt, or a rollback. Budgets do not apply.

    For a manual strategy, another attempt starts and proves what the person repaired.
    """
    usual = error.verdict.strategy if error.verdict.strategy.automatic else Strategy.WAIT_AND_RETRY
    strategy = Strategy.ROLL_BACK_RELEASE if roll_back else usual
    return RecoveryPlan(
        action=PlanAction.RECOVER,
        strategy=strategy,
        reason=f"{strategy.value} of {error.service}, decided by {decided_by}",
        attempt=1 + sum(tried.error_id == error.error_id for tried in past),
        attempt_id=attempt_id(error, past),
        dependencies=error.dependencies_down if strategy is Strategy.RESTART_DEPENDENCY_THEN_SERVICE else (),
        decided=True,
    )


def waits_for_itself(verdict: Verdict) -> bool:
    """Whether the service reports that it will be ready by itself: until then its check may fail."""
    return verdict.strategy is Strategy.WAIT_AND_RETRY and verdict.category not in _SILENT


def leads_deeper(verdict: Verdict, new_verdict: Verdict, before: Collection[Category]) -> bool:
    """Whether an attempt found a cause that the error's text did not show.

    `before` are the causes found earlier: each is followed once.
    """
    vague = new_verdict.category in (Category.UNKNOWN, Category.BENIGN, Category.CONTAINER_EXITED, Category.TIMEOUT)
    is_known = (
        vague
        or new_verdict.category in (Category.HEALTHCHECK_FAILED, verdict.category)
        or new_verdict.category in before
    )
    return not is_known and new_verdict.pattern_name is not None


def without_dependencies(strategy: Strategy, error: RecordedError) -> Strategy:
    """Return the strategy where no dependency of the service is seen down.

    A failure that was observed stands without its log: the state of the service itself decides about a restart. A
    line that was only reported names a dependency, and that is refuted.
    """
    observed = error.source in OBSERVED_SOURCES
    return Strategy.RESTART_SERVICE if strategy is Strategy.RESTART_DEPENDENCY_THEN_SERVICE and observed else strategy


def attempt_id(error: RecordedError, past: Sequence[RecoveryExecution]) -> str:
    """The stable name of the next attempt at an error; `past` holds all those before it."""
    return f"{error.error_id}#{1 + sum(tried.error_id == error.error_id and tried.points > 0 for tried in past)}"


def room_for_dependant(
    service: str,
    error: RecordedError,
    *,
    past: Sequence[RecoveryExecution],
    policy: RecoveryPolicy,
    facts: RecoveryFacts,
    now: datetime,
) -> str | None:
    """Return why a dependant that did not recover may not be restarted, None if it may."""
    dependant_error = replace(error, error_id="", service=service)
    return _spent_budget(
        dependant_error, Strategy.RESTART_SERVICE, past=past, policy=policy, facts=facts, service=service, now=now
    )


def backoff(attempt: int, *, seed: str) -> timedelta:
    """Return the wait between an attempt and the one before it.

    None before the first; then 10 s, doubling up to 5 min, each up to a fifth longer or shorter. The same seed gives
    the same wait; different seeds spread services that failed together.
    """
    if attempt <= 1:
        return timedelta()
    # The exponent is bounded first: a large count would not fit a timedelta.
    plain = min(_FIRST_WAIT * (1 << min(attempt - 2, 10)), _LONGEST_WAIT)
    drawn = int.from_bytes(hashlib.sha256(f"{seed}:{attempt}".encode("utf-8", "replace")).digest()[:8], "big")
    return plain * (1 + _JITTER * (2 * drawn / 2**64 - 1))


def _ask(strategy: Strategy, reason: str) -> RecoveryPlan:
    return RecoveryPlan(action=PlanAction.ASK_A_PERSON, strategy=strategy, reason=reason)


def _leave(strategy: Strategy, reason: str) -> RecoveryPlan:
    return RecoveryPlan(action=PlanAction.LEAVE_ALONE, strategy=strategy, reason=reason)


def _strategy(
    error: RecordedError, facts: RecoveryFacts, policy: RecoveryPolicy, run: Sequence[RecoveryExecution]
) -> Strategy:
    """Return the verdict's strategy, a restart if waiting did not help, or once a rollback soon after a deployment.

    An action that was refused because a fact is missing is investigated.
    """
    usual, tried = (
        Strategy.INVESTIGATE if facts.lacking else error.verdict.strategy,
        {execution.strategy for execution in run},
    )
    silent = error.verdict.category in _SILENT
    # What its own check calls unhealthy has been given the time that the check's retries are.
    enough = silent and (usual in tried or error.evidence.get("health") == "unhealthy")
    session_lost = usual in tried and error.verdict.pattern_name in _GONE_FOR_GOOD
    if usual is Strategy.WAIT_AND_RETRY and (enough or session_lost):
        usual = Strategy.RESTART_SERVICE
    usual = without_dependencies(usual, error) if not error.dependencies_down else usual
    soon = facts.deployed_ago is not None and facts.deployed_ago <= timedelta(seconds=policy.roll_back_within_seconds)
    if not soon or not policy.roll_back_within_seconds or error.predictive or Strategy.ROLL_BACK_RELEASE in tried:
        return usual
    return Strategy.ROLL_BACK_RELEASE if usual in _BY_GOING_BACK or (usual.automatic and usual in tried) else usual


def _obstacle(
    strategy: Strategy, error: RecordedError, policy: RecoveryPolicy, facts: RecoveryFacts, service: str | None
) -> str | None:
    if facts.failing_services >= AT_ONCE:
        return (
            f"{facts.failing_services} services fail at once, which points to the host or the engine:"
            " none of them is touched until the one cause is found."
        )
    if service is None:
        return f"No automatic repair, because the error names no service: {error.verdict.reason}"
    if not policy.automatic:
        return f"Automatic recovery is switched off for this environment; {_would_be_tried(strategy, error, facts)}"
    if not facts.acting and error.source == OperationType.START:
        # Its containers are replaced or removed, so that nothing of it is left to be acted on.
        return f"{error.verdict.reason} A start that failed is rolled back, and nothing else is tried."
    if not facts.acting:
        return f"Nothing is changed in this run; {_would_be_tried(strategy, error, facts)}"
    return None


def _would_be_tried(strategy: Strategy, error: RecordedError, facts: RecoveryFacts) -> str:
    """Return what would be done, with the fact that it needs; nothing would be where a known fact forbids it."""
    disk = facts.disk_percent
    if strategy is Strategy.PRUNE_DISK and disk is not None and disk < DISK_IS_FULL_PERCENT:
        return f"the disk is {disk:.0f} % full, so nothing would be removed to make room."
    if strategy is Strategy.RESTART_DEPENDENCY_THEN_SERVICE and not error.dependencies_down:
        return "none of its dependencies is seen down, so none of them would be restarted."
    return f"{strategy.value} would be tried if {would_need(strategy)}."


def _spent_budget(
    error: RecordedError,
    strategy: Strategy,
    *,
    past: Sequence[RecoveryExecution],
    policy: RecoveryPolicy,
    facts: RecoveryFacts,
    service: str | None,
    now: datetime,
) -> str | None:
    """Return which budget is spent, as a sentence; None if all have room for the strategy."""
    cost = ACTIONS[strategy].points
    of_error = [tried for tried in past if tried.error_id == error.error_id]
    if len(of_error) >= policy.attempts_per_error:
        made = "1 attempt" if len(of_error) == 1 else f"{len(of_error)} attempts"
        return f"{made} at this error did not settle it."
    of_service = [tried for tried in past if concerns(tried, error, service)]
    allowed = (policy.attempts_per_service_15min, policy.attempts_per_service_day)
    # A service without attempts so far may have one that costs more than it is allowed.
    if spent := _used_up(str(service), of_service, cost, allowed, now, least=1):
        return spent
    if min(allowed) == 0:
        return f"{service} may not be acted on at all."
    times = sum(now - tried.started_at < _DAY for tried in of_service)
    if facts.outside_logins and times >= _LOGINS_A_DAY:
        return (
            f"{service} logs in elsewhere and was restarted {times} times within a day;"
            " more logins could cost it its credentials."
        )
    on_host = [tried for tried in past if _is_of_host(tried, facts)]
    points = (policy.points_per_host_15min, policy.points_per_host_day)
    here = [tried for tried in on_host if tried.environment == error.environment]
    return _used_up("This host", on_host, cost, points, now, shared_with=error.environment) or _used_up(
        f"Environment {error.environment}", here, cost, points, now
    )


def _is_of_host(tried: RecoveryExecution, facts: RecoveryFacts) -> bool:
    """Whether an attempt acted on the host of the engine; a socket's path is the same on every host."""
    if facts.engine.startswith("unix://") and tried.host_id and facts.host_id:
        return tried.engine.startswith("unix://") and tried.host_id == facts.host_id
    return tried.engine == facts.engine


def _used_up(
    who: str,
    tried: Sequence[RecoveryExecution],
    cost: int,
    allowed: tuple[int, int],
    now: datetime,
    *,
    least: int = 0,
    shared_with: str | None = None,
) -> str | None:
    """Return how a budget is spent; a shared one grows by half for each further environment that was acted in."""
    for window, words, points in zip((_QUARTER_HOUR, _DAY), ("15 minutes", "a day"), allowed, strict=True):
        within = [execution for execution in tried if now - execution.started_at < window]
        used = sum(execution.points for execution in within)
        if shared_with is not None:
            points += points * len({execution.environment for execution in within} - {shared_with}) // 2
        if used >= least and used + cost > points:
            return f"{who} has had {used} of {points} points of action within {words}, which leaves too few."
    return None


def concerns(tried: RecoveryExecution, error: RecordedError, service: str | None) -> bool:
    """Whether an attempt counts for a service's budget: it was at this error, or acted on the service."""
    if tried.error_id == error.error_id:
        return True
    here = tried.environment == error.environment
    return here and (tried.service == service or any(step.target == service for step in tried.steps))


def _attempts_since_proven(attempts: Sequence[RecoveryExecution], now: datetime) -> list[RecoveryExecution]:
    """The attempts since the service last held its health for ten minutes, oldest first."""
    run: list[RecoveryExecution] = []
    following = now
    for tried in sorted(attempts, key=lambda execution: execution.started_at, reverse=True):
        if tried.success and tried.ended_at is not None and following - tried.ended_at >= PROVEN_AFTER:
            break
        run.append(tried)
        following = tried.started_at
    return run[::-1]


def _delay(
    error: RecordedError, strategy: Strategy, run: Sequence[RecoveryExecution], facts: RecoveryFacts, now: datetime
) -> timedelta:
    # An earlier error that an attempt healed does not delay the next one; only the budgets bound those.
    without_success = [tried for tried in run if not tried.success or tried.error_id == error.error_id]
    counted = run if facts.outside_logins else without_success
    if not counted:
        # What only has to be waited for is given that time at once.
        wait = backoff(2, seed=error.error_id) if strategy is Strategy.WAIT_AND_RETRY else timedelta()
        return max(timedelta(), error.last_seen + wait - now)
    wait = backoff(len(without_success) + 1, seed=error.error_id)
    if facts.outside_logins:
        wait = max(wait, _BETWEEN_LOGINS)
    last = max(tried.ended_at or tried.started_at for tried in counted)
    return max(timedelta(), last + wait - now)


def _recovering_dependencies(error: RecordedError, past: Sequence[RecoveryExecution], now: datetime) -> list[str]:
    """Return the dependencies that a current attempt already recovers."""
    here = [tried for tried in past if tried.environment == error.environment and tried.ended_at is None]
    at_it = {tried.service for tried in here if now - tried.started_at < PROVEN_AFTER}
    return [name for name in error.dependencies_down if name in at_it]
