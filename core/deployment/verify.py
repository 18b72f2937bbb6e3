"""Judge the progress of a start: which services are up, waiting or failed, and the root failure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from core.common.exit_codes import LEFT_THE_FOREGROUND, describe_exit
from core.common.safe_text import shorten
from models.compose import ServiceDeclaration
from models.containers import ContainerState, replicas
from models.health import ServiceHealth
from models.results import ServiceStart

CRASHES_TOLERATED = 5
"""Restarts by the engine during a start; a service may crash a few times until its dependency is up."""

REFUSED_FOR = timedelta(seconds=10)
"""A login that is refused this long stays refused; a server that starts may refuse for a moment."""


class Progress(StrEnum):
    """Progress of a service while it starts."""

    WAITING = "waiting"
    UP = "up"
    COMPLETED = "completed"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Progress of a service, and the reason."""

    progress: Progress
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StabilityHold:
    """Since when a service is up without a break; `proven` once that is long enough.

    `longest` is the longest time that it was up before a break, and `remaining` how long it still has to stay up, None
    where it is not up.
    """

    since: datetime | None
    restarts: int
    proven: bool
    reason: str
    longest: timedelta = timedelta()
    remaining: timedelta | None = None


def judge_progress(
    declaration: ServiceDeclaration,
    container_states: Sequence[ContainerState],
    *,
    asked_at: datetime,
    restarts_before: int = 0,
) -> Readiness:
    """Judge the progress of a service by the worst of its containers.

    `asked_at` is when the start began: earlier exits do not count. `restarts_before` is the sum of the containers'
    restart counts at that moment.
    """
    containers = replicas(container_states)
    if not containers:
        return Readiness(progress=Progress.WAITING, reason="it has no container yet")
    crashes = sum(container.restart_count for container in containers) - restarts_before
    each = [_container_progress(declaration, container, asked_at, crashes) for container in containers]
    order = (Progress.LOST, Progress.WAITING, Progress.COMPLETED, Progress.UP)
    return min(each, key=lambda readiness: order.index(readiness.progress))


def counted_failures(results: Sequence[ServiceStart], optional: Collection[str]) -> tuple[str, ...]:
    """The services whose failure fails a start: those that are required, and where none of these is up, each one.

    A start of which only jobs and nothing that runs came up is no success, whatever was called optional.
    """
    failed = [result.service for result in results if not result.ok]
    is_up = any(
        result.ok and result.service not in optional and result.state != ServiceHealth.COMPLETED for result in results
    )
    return tuple(service for service in failed if not is_up or service not in optional)


def readiness_after_refusal(words: str, refused_for: timedelta) -> Readiness | None:
    """Judge a service whose login is refused with these words; None where that may still pass."""
    if refused_for < REFUSED_FOR:
        return None
    return Readiness(progress=Progress.LOST, reason=f"its login is refused: {shorten(words.strip(), 300)}")


def root_failure(failures: Sequence[ServiceStart], required: Collection[str]) -> ServiceStart | None:
    """Return the root failure of a start, None if no required service failed.

    A service that was not started because its dependency failed leads to that dependency. `failures` are in the order
    they happened.
    """
    failed = {failure.service: failure for failure in failures}
    for failure in failures:
        if failure.service in required:
            cause = failure
            while cause.caused_by in failed:
                cause = failed[cause.caused_by]
            return cause
    return None


def update_stability(
    before: StabilityHold | None,
    now: datetime,
    readiness: Readiness,
    container_states: Sequence[ContainerState],
    needed: timedelta,
    *,
    ran_before: bool = False,
) -> StabilityHold:
    """Update how long a service has been up without a break; every restart or failure begins anew, and takes longer.

    It has to stay up for `needed`, after breaks for up to twice that: of a program that crashes every few seconds one
    life is the longest, and it has to hold twice as long as the others.

    The engine calls a container healthy until its health check has failed several times in a row. One whose last check
    failed is not proven before the next check, unless it `ran_before`.
    """
    restarts = sum(container.restart_count for container in container_states)
    if readiness.progress is Progress.COMPLETED:
        return StabilityHold(since=now, restarts=restarts, proven=True, reason=readiness.reason)
    since, longest = _unbroken(before, now, readiness, container_states, restarts)
    remaining = None if since is None else max(needed, 2 * min(longest, needed)) - (now - since)
    hold = StabilityHold(
        since=since, restarts=restarts, proven=False, reason=readiness.reason, longest=longest, remaining=remaining
    )
    if remaining is None:
        return hold
    failing = None if ran_before else next((container for container in container_states if _fails_now(container)), None)
    if remaining > timedelta():
        return replace(hold, reason=f"{hold.reason}; it has to stay so for {remaining.total_seconds():.1f} s more")
    if failing is not None:
        return replace(hold, reason=f"its last health check failed: {_last_check(failing)}")
    return replace(hold, proven=True, reason=f"{hold.reason}, and it held")


def extend_deadline(until: float, now: float, hold: StabilityHold, needed: timedelta) -> float:
    """Move the deadline of a start for a service that is up, again after each lapse: it is for becoming healthy.

    Such a service may hold to the end, and where its last health check failed then, has `needed` for the next one to
    pass. `until` and `now` are seconds of the same clock.
    """
    return until if hold.remaining is None else max(until, now + (hold.remaining + needed).total_seconds())


def _unbroken(
    before: StabilityHold | None,
    now: datetime,
    readiness: Readiness,
    container_states: Sequence[ContainerState],
    restarts: int,
) -> tuple[datetime | None, timedelta]:
    """Since when it is up without a break, None where it is not up, and the longest time it was up before one."""
    since = now if readiness.progress is Progress.UP else None
    if before is None or before.since is None:
        return since, timedelta() if before is None else before.longest
    began = before.since
    restarted = restarts != before.restarts or any(_was_started_since(began, state) for state in container_states)
    if since is None or restarted:
        return since, max(before.longest, now - began)
    return began, before.longest


def _container_progress(
    declaration: ServiceDeclaration, container: ContainerState, asked_at: datetime, crashes: int
) -> Readiness:
    if container.state in ("exited", "dead"):
        if not _was_started_since(asked_at, container) and not container.error:
            return Readiness(progress=Progress.WAITING, reason="it is not started yet")
        if container.exit_code == 0 and declaration.one_shot and not container.error:
            return Readiness(progress=Progress.COMPLETED, reason="it finished with exit code 0")
        return Readiness(progress=Progress.LOST, reason=f"it ended with {_end_in_words(container)}")
    if crashes > CRASHES_TOLERATED:
        return Readiness(
            progress=Progress.LOST,
            reason=f"it keeps {'crashing' if container.exit_code else 'ending'}: restarted {crashes} times, last with "
            f"{_end_in_words(container)}",
        )
    if container.state == "running":
        return _running_progress(declaration, container)
    if container.state == "created":
        if container.error:
            return Readiness(progress=Progress.LOST, reason=f"it could not be started: {container.error}")
        return Readiness(progress=Progress.WAITING, reason="it is created, not started")
    if container.state == "restarting":
        return Readiness(
            progress=Progress.WAITING,
            reason=f"it crashed with {describe_exit(container)} and the engine starts it again",
        )
    if container.state == "paused":
        return Readiness(progress=Progress.WAITING, reason=f"it is paused: docker unpause {container.name}")
    return Readiness(progress=Progress.LOST, reason=f"its container is {container.state}")


def _end_in_words(container: ContainerState) -> str:
    ended_well = container.exit_code == 0 and not container.error and not container.oom_killed
    return LEFT_THE_FOREGROUND if ended_well else describe_exit(container)


def _running_progress(declaration: ServiceDeclaration, container: ContainerState) -> Readiness:
    if container.health == "healthy":
        return Readiness(progress=Progress.UP, reason="its health check passes")
    if container.health == "unhealthy":
        return Readiness(progress=Progress.LOST, reason=f"its health check fails: {_last_check(container)}")
    if container.health == "starting" or declaration.checked:
        last = f", last: {_last_check(container)}" if container.health_log else ""
        return Readiness(progress=Progress.WAITING, reason=f"its health check has not passed yet{last}")
    if declaration.awaited:
        return Readiness(progress=Progress.WAITING, reason="it has not finished yet")
    return Readiness(progress=Progress.UP, reason="it runs; it has no health check")


def _fails_now(container: ContainerState) -> bool:
    return container.health == "healthy" and bool(container.health_log) and container.health_log[-1].exit_code != 0


def _last_check(container: ContainerState) -> str:
    if not container.health_log:
        return "no result is kept"
    last = container.health_log[-1]
    words = " ".join(last.output.split())
    output = f"{words[:200]}..." if len(words) > 200 else words
    return f"exit code {last.exit_code}{f', {output}' if output else ''}"


def _was_started_since(moment: datetime, container: ContainerState) -> bool:
    return container.started_at is not None and container.started_at > moment
