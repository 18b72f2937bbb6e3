"""Recovery: whether an error is acted on, when, and what a person is asked to do where it is not."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from models.environments import RecoveryPolicy
from models.errors_seen import Category, RecordedError, Strategy, Verdict
from models.recovery import RecoveryExecution

_QUARTER_HOUR = timedelta(minutes=15)
_DAY = timedelta(days=1)
_FIRST_WAIT = timedelta(seconds=10)
_LONGEST_WAIT = timedelta(minutes=5)
_JITTER = 0.2
_PROVEN_AFTER = timedelta(minutes=10)
_BETWEEN_LOGINS = timedelta(minutes=5)
_LOGINS_A_DAY = 6
_AT_ONCE = 3
_HOST_QUARTER_HOUR = 12
_HOST_DAY = 100


class PlanAction(StrEnum):
    """What is to become of an error."""

    RECOVER = "recover"
    ASK_A_PERSON = "ask_a_person"
    LEAVE_ALONE = "leave_alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryFacts:
    """What bears on a plan beside the error: the service, its surroundings, and what people wish.

    `failing_services` is how many fail at once. `acting` False is a dry run. `can_carry_out` are the
    strategies the caller is able to carry out; None means all of them.
    """

    service: str | None = None
    outside_logins: bool = False
    stopped_by_person: bool = False
    failing_services: int = 1
    paused: bool = False
    acting: bool = True
    can_carry_out: frozenset[Strategy] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be done about an error, and why.

    `delay` is how long to wait before acting; `attempt` counts from 1 since the service was last proven well.
    `dependencies` are looked at, and restarted where they are down, before the service itself.
    """

    action: PlanAction
    strategy: Strategy
    reason: str
    delay: timedelta = timedelta()
    attempt: int = 1
    dependencies: tuple[str, ...] = field(default=())


def plan_recovery(
    error: RecordedError,
    *,
    past: Sequence[RecoveryExecution],
    policy: RecoveryPolicy,
    facts: RecoveryFacts,
    now: datetime,
) -> Plan:
    """Decide about one error from what was tried before; the same input gives the same plan.

    `past` are the recoveries of this host of the last day at least, in any order. Nothing is done where a
    person stopped the service or paused recovery; a person is asked where the strategy is a person's, where
    three or more services fail at once, and where a budget is spent.
    """
    strategy = error.verdict.strategy
    service = facts.service or error.service
    if error.verdict.category is Category.BENIGN:
        return _leave(strategy, "It is no error.")
    if facts.stopped_by_person:
        return _leave(strategy, f"{service} was stopped by a person, so it stays stopped.")
    if not strategy.automatic:
        return _ask(strategy, f"{strategy.value} is a person's work: {error.verdict.reason}")
    if facts.paused:
        return _leave(strategy, "Automatic recovery is paused here.")
    hindrance = _hindrance(error, policy, facts, service) or _spent(
        error, past=past, policy=policy, facts=facts, service=service, now=now
    )
    if hindrance is not None:
        return _ask(strategy, hindrance)
    mine = [tried for tried in past if _concerns(tried, error, service)]
    run = _since_proven(mine, now)
    attempt = len(run) + 1
    delay = _delay(error, run, facts, now)
    when = f" in {delay.total_seconds():.0f} s" if delay else ""
    return Plan(
        action=PlanAction.RECOVER,
        strategy=strategy,
        reason=f"{strategy.value} of {service}{when}, attempt {attempt}: {error.verdict.reason}",
        delay=delay,
        attempt=attempt,
        dependencies=_dependencies(error) if strategy is Strategy.RESTART_DEPENDENCY_THEN_SERVICE else (),
    )


def backoff(attempt: int, *, seed: str) -> timedelta:
    """How long to wait between an attempt and the one before it.

    Nothing before the first; then 10 s, doubling up to 5 min, each up to a fifth longer or shorter. The same
    seed gives the same wait; different seeds keep services that failed together from returning together.
    """
    if attempt <= 1:
        return timedelta()
    # The exponent is bounded first: a large count would not fit a timedelta.
    plain = min(_FIRST_WAIT * (1 << min(attempt - 2, 10)), _LONGEST_WAIT)
    drawn = int.from_bytes(hashlib.sha256(f"{seed}:{attempt}".encode("utf-8", "replace")).digest()[:8], "big")
    return plain * (1 + _JITTER * (2 * drawn / 2**64 - 1))


def manual_steps(
    verdict: Verdict,
    *,
    service: str | None,
    project: str,
    compose_files: Sequence[str] = (),
    port: int | None = None,
) -> tuple[str, ...]:
    """What a person should do, as sentences and exact commands with the project and service filled in.

    `compose_files` are named in the commands where they are known; `port` is the host port of a conflict.
    """
    files = "".join(f" -f {name}" for name in compose_files)
    compose = f"docker compose -p {project}{files}"
    one = service or ""
    target = f" {one}" if one else ""
    look = (f"See what it said: {compose} logs --tail 100{target}",)
    rise = (
        f"Start it again: {compose} up -d --wait{target}",
        f"Check that it is healthy: {compose} ps --all{target}",
    )
    held = f":{port}" if port is not None else ""
    listed = f"{compose} ps --all --quiet{target}"
    steps: dict[Strategy, tuple[str, ...]] = {
        Strategy.FREE_PORT_MANUAL: (
            f"Find who holds the port: ss -ltnp{f' sport = {held}' if held else ''}",
            "Find containers that publish it: docker ps --format '{{.Names}} {{.Ports}}'",
            "Stop the holder, or change the port in the Compose file.",
            *rise,
        ),
        Strategy.RESTART_DAEMON_REQUIRED: (
            "See why the engine fails: journalctl -u docker --no-pager -n 100",
            f"Stop databases first, if the engine still answers: {compose} stop",
            "Restart the engine (this stops every container on the host): systemctl restart docker",
            "Check that it answers: docker info",
            *rise,
        ),
        Strategy.FIX_CONFIG: (
            *look,
            f"Check the Compose file and its variables: {compose} config --quiet",
            "Correct what the message names: Compose file, variable, image, or the program's own settings.",
            *rise,
        ),
        Strategy.FIX_PERMISSIONS: (
            *look,
            "See who the current user is and what it may do: id; ls -l /var/run/docker.sock",
            f"See who the container runs as: {compose} exec{target or ' SERVICE'} id",
            f"See the mounts and their sources: docker inspect --format '{{{{json .Mounts}}}}' $({listed})",
            "Give the folder or socket the right owner, group or mode.",
            *rise,
        ),
        Strategy.FIX_CREDENTIALS: (
            f"Stop further logins, since each failed one counts: {compose} stop{target}",
            "Make a new token or password where it is issued, and put it into the secret's file or variable.",
            f"Recreate the container so that it sees the new value: {compose} up -d --force-recreate{target}",
            f"Check that the login succeeds: {compose} logs --tail 50{target}",
        ),
        Strategy.FIX_RESOURCE_LIMITS: (
            f"See the use now: docker stats --no-stream $({compose} ps --quiet{target})",
            f"See its limits: docker inspect --format '{{{{json .HostConfig}}}}' $({listed})",
            *look,
            "Raise the limit the message names, or find what leaks.",
            *rise,
        ),
        Strategy.FIX_HOST: (
            "See what the kernel says: dmesg --ctime | tail -n 50",
            "Check the clock: timedatectl",
            "Check name resolution: getent hosts localhost; cat /etc/resolv.conf",
            "Check the engine: docker info",
            "Repair what the message names: kernel module, clock, certificates, name servers, firewall.",
            *rise,
        ),
        Strategy.RESTORE_DATABASE: (
            f"Stop every writer first: {compose} stop",
            f"Find the data: docker inspect --format '{{{{json .Mounts}}}}' $({listed})",
            "Copy the whole data folder aside before anything else; delete no lock, log or write-ahead file.",
            "Check the copy with the database's own tool, or restore the last backup.",
            *rise,
        ),
        Strategy.INVESTIGATE: (
            f"See the states: {compose} ps --all",
            *look,
            f"See exit code, restarts and health: docker inspect --format '{{{{json .State}}}}' $({listed})",
            f"See the use of resources: docker stats --no-stream $({compose} ps --quiet{target})",
        ),
        Strategy.NONE: ("Nothing needs to be done.",),
        Strategy.WAIT_AND_RETRY: ("Wait some minutes; the cause usually passes.", *look, *rise),
        Strategy.RESTART_SERVICE: (*look, f"Restart it: {compose} restart{target}", rise[1]),
        Strategy.RESTART_DEPENDENCY_THEN_SERVICE: (
            f"See which of its dependencies is down: {compose} ps --all",
            *look,
            f"Start what is down, then the service: {compose} up -d --wait{target}",
            rise[1],
        ),
        Strategy.RECREATE_CONTAINER: (
            "Find the container in the way: docker ps --all --format '{{.ID}} {{.Names}} {{.Status}}'",
            f"Recreate the service's own container; named volumes stay: {compose} up -d --force-recreate{target}",
            rise[1],
        ),
        Strategy.FREE_PORT: (
            "Find which container holds the port: docker ps --all --format '{{.Names}} {{.Ports}} {{.Status}}'",
            f"Remove it if it is a left-over of {project}: docker rm CONTAINER",
            *rise,
        ),
        Strategy.PULL_IMAGE: (f"Pull the image once more: {compose} pull{target}", *rise),
        Strategy.PRUNE_DISK: (
            "See what fills the disk: df -h; docker system df",
            "Remove dangling images and build cache, never volumes: docker image prune; docker builder prune",
            *rise,
        ),
        Strategy.CREATE_NETWORK: (
            "See the networks: docker network ls",
            "Create the network the message names, if the Compose file calls it external: docker network create NAME",
            *rise,
        ),
        Strategy.PRUNE_NETWORKS: (
            "See the networks: docker network ls",
            "Remove those without containers: docker network prune",
            *rise,
        ),
    }
    return steps[verdict.strategy]


def _ask(strategy: Strategy, reason: str) -> Plan:
    return Plan(action=PlanAction.ASK_A_PERSON, strategy=strategy, reason=reason)


def _leave(strategy: Strategy, reason: str) -> Plan:
    return Plan(action=PlanAction.LEAVE_ALONE, strategy=strategy, reason=reason)


def _hindrance(error: RecordedError, policy: RecoveryPolicy, facts: RecoveryFacts, service: str | None) -> str | None:
    strategy = error.verdict.strategy
    if facts.failing_services >= _AT_ONCE:
        return (
            f"{facts.failing_services} services fail at once, which points to the host or the engine:"
            " none of them is touched until the one cause is found."
        )
    if service is None:
        return f"No service is named that {strategy.value} could be tried on."
    if facts.can_carry_out is not None and strategy not in facts.can_carry_out:
        return f"{strategy.value} may help, but is not carried out without a person here."
    if not policy.automatic:
        return f"Automatic recovery is switched off for this environment; {strategy.value} would be tried."
    if not facts.acting:
        return f"Nothing is acted on in this run; {strategy.value} would be tried."
    return None


def _spent(
    error: RecordedError,
    *,
    past: Sequence[RecoveryExecution],
    policy: RecoveryPolicy,
    facts: RecoveryFacts,
    service: str | None,
    now: datetime,
) -> str | None:
    """Which budget is spent, as a sentence; None while all have something left."""
    of_error = [tried for tried in past if tried.error_id == error.error_id]
    mine = [tried for tried in past if _concerns(tried, error, service)]
    if len(of_error) >= policy.attempts_per_error:
        return f"{len(of_error)} attempts at this error did not settle it."
    quarter, day = _within(mine, now, _QUARTER_HOUR), _within(mine, now, _DAY)
    if quarter >= policy.attempts_per_service_15min:
        return f"{service} was acted on {quarter} times within 15 minutes, which is all that is allowed."
    if day >= policy.attempts_per_service_day:
        return f"{service} was acted on {day} times within a day, which is all that is allowed."
    if facts.outside_logins and day >= _LOGINS_A_DAY:
        return (
            f"{service} logs in elsewhere and was restarted {day} times within a day;"
            " more logins could cost it its credentials."
        )
    host_quarter, host_day = _within(past, now, _QUARTER_HOUR), _within(past, now, _DAY)
    if host_quarter >= _HOST_QUARTER_HOUR:
        return f"This host was acted on {host_quarter} times within 15 minutes, which is all that is allowed."
    if host_day >= _HOST_DAY:
        return f"This host was acted on {host_day} times within a day, which is all that is allowed."
    return None


def _concerns(tried: RecoveryExecution, error: RecordedError, service: str | None) -> bool:
    return tried.error_id == error.error_id or any(step.target == service for step in tried.steps)


def _within(tried: Sequence[RecoveryExecution], now: datetime, window: timedelta) -> int:
    return sum(now - execution.started_at < window for execution in tried)


def _since_proven(mine: Sequence[RecoveryExecution], now: datetime) -> list[RecoveryExecution]:
    """The attempts since the service last held its health for ten minutes, oldest first."""
    run: list[RecoveryExecution] = []
    following = now
    for tried in sorted(mine, key=lambda execution: execution.started_at, reverse=True):
        held = tried.success is True and tried.ended_at is not None and following - tried.ended_at >= _PROVEN_AFTER
        if held:
            break
        run.append(tried)
        following = tried.started_at
    return run[::-1]


def _delay(error: RecordedError, run: Sequence[RecoveryExecution], facts: RecoveryFacts, now: datetime) -> timedelta:
    if not run:
        return timedelta()
    wait = backoff(len(run) + 1, seed=error.error_id)
    if facts.outside_logins:
        wait = max(wait, _BETWEEN_LOGINS)
    last = max(tried.ended_at or tried.started_at for tried in run)
    return max(timedelta(), last + wait - now)


def _dependencies(error: RecordedError) -> tuple[str, ...]:
    """What the evidence shows to be down, nearest first."""
    return tuple(str(name) for name in error.evidence.get("dependencies_down") or ())
