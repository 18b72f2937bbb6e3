"""Judge the progress of a start: which services are up, waiting or failed, and the root failure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from core.common.exit_codes import LEFT_THE_FOREGROUND, describe_exit
from core.common.safe_text import shorten
from models.compose import ServiceDeclaration
from models.containers import ContainerState
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
    """Since when a service is up without a break; `proven` once that is long enough."""

    since: datetime | None
    restarts: int
    proven: bool
    reason: str


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
    seen = [one for one in container_states if not one.one_off]
    if not seen:
        return Readiness(progress=Progress.WAITING, reason="it has no container yet")
    crashes = sum(one.restart_count for one in seen) - restarts_before
    each = [_container_progress(declaration, one, asked_at, crashes) for one in seen]
    order = (Progress.LOST, Progress.WAITING, Progress.COMPLETED, Progress.UP)
    return min(each, key=lambda one: order.index(one.progress))


def counted_failures(results: Sequence[ServiceStart], optional: Collection[str]) -> tuple[str, ...]:
    """The services whose failure fails a start: those that are required, and where none of these is up, each one.

    A start of which only jobs and nothing that runs came up is no success, whatever was called optional.
    """
    failed = [one.service for one in results if not one.ok]
    is_up = any(one.ok and one.service not in optional and one.state != ServiceHealth.COMPLETED for one in results)
    return tuple(one for one in failed if not is_up or one not in optional)


def lost_by_refusal(words: str, refused_for: timedelta) -> Readiness | None:
    """Judge a service whose login is refused with these words; None where that may still pass."""
    if refused_for < REFUSED_FOR:
        return None
    return Readiness(progress=Progress.LOST, reason=f"its login is refused: {shorten(words.strip(), 300)}")


def root_failure(failures: Sequence[ServiceStart], required: Collection[str]) -> ServiceStart | None:
    """Return the root failure of a start, None if no required service failed.

    A service that was not started because its dependency failed leads to that dependency. `failures` are in the order
    they happened.
    """
    failed = {one.service: one for one in failures}
    for one in failures:
        if one.service in required:
            cause = one
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
    """Update how long a service has been up without a break; every restart or failure begins anew.

    The engine calls a container healthy until its health check has failed several times in a row. One whose last check
    failed is not proven before the next check, unless it `ran_before`.
    """
    restarts = sum(one.restart_count for one in container_states)
    if readiness.progress is Progress.COMPLETED:
        return StabilityHold(since=now, restarts=restarts, proven=True, reason=readiness.reason)
    if readiness.progress is not Progress.UP:
        return StabilityHold(since=None, restarts=restarts, proven=False, reason=readiness.reason)
    since = now
    if before is not None and before.since is not None and restarts == before.restarts:
        restarted = any(_started_since(before.since, one) for one in container_states)
        since = now if restarted else before.since
    held = now - since
    failing = None if ran_before else next((one for one in container_states if _fails_now(one)), None)
    if held >= needed and failing is not None:
        reason = f"its last health check failed: {_last_check(failing)}"
        return StabilityHold(since=since, restarts=restarts, proven=False, reason=reason)
    if held >= needed:
        return StabilityHold(since=since, restarts=restarts, proven=True, reason=f"{readiness.reason}, and it held")
    left = (needed - held).total_seconds()
    return StabilityHold(
        since=since,
        restarts=restarts,
        proven=False,
        reason=f"{readiness.reason}; it has to stay so for {left:.1f} s more",
    )


def _container_progress(
    declaration: ServiceDeclaration, one: ContainerState, asked_at: datetime, crashes: int
) -> Readiness:
    if one.state in ("exited", "dead"):
        if not _started_since(asked_at, one) and not one.error:
            return Readiness(progress=Progress.WAITING, reason="it is not started yet")
        if one.exit_code == 0 and declaration.one_shot and not one.error:
            return Readiness(progress=Progress.COMPLETED, reason="it finished with exit code 0")
        return Readiness(progress=Progress.LOST, reason=f"it ended with {_end_in_words(one)}")
    if crashes > CRASHES_TOLERATED:
        return Readiness(
            progress=Progress.LOST,
            reason=f"it keeps {'crashing' if one.exit_code else 'ending'}: restarted {crashes} times, last with "
            f"{_end_in_words(one)}",
        )
    if one.state == "running":
        return _running_progress(declaration, one)
    if one.state == "created":
        if one.error:
            return Readiness(progress=Progress.LOST, reason=f"it could not be started: {one.error}")
        return Readiness(progress=Progress.WAITING, reason="it is created, not started")
    if one.state == "restarting":
        return Readiness(
            progress=Progress.WAITING,
            reason=f"it crashed with {describe_exit(one)} and the engine starts it again",
        )
    if one.state == "paused":
        return Readiness(progress=Progress.WAITING, reason=f"it is paused: docker unpause {one.name}")
    return Readiness(progress=Progress.LOST, reason=f"its container is {one.state}")


def _end_in_words(one: ContainerState) -> str:
    ended_well = one.exit_code == 0 and not one.error and not one.oom_killed
    return LEFT_THE_FOREGROUND if ended_well else describe_exit(one)


def _running_progress(declaration: ServiceDeclaration, one: ContainerState) -> Readiness:
    if one.health == "healthy":
        return Readiness(progress=Progress.UP, reason="its health check passes")
    if one.health == "unhealthy":
        return Readiness(progress=Progress.LOST, reason=f"its health check fails: {_last_check(one)}")
    if one.health == "starting" or declaration.checked:
        last = f", last: {_last_check(one)}" if one.health_log else ""
        return Readiness(progress=Progress.WAITING, reason=f"its health check has not passed yet{last}")
    if declaration.awaited:
        return Readiness(progress=Progress.WAITING, reason="it has not finished yet")
    return Readiness(progress=Progress.UP, reason="it runs; it has no health check")


def _fails_now(one: ContainerState) -> bool:
    return one.health == "healthy" and bool(one.health_log) and one.health_log[-1].exit_code != 0


def _last_check(one: ContainerState) -> str:
    if not one.health_log:
        return "no result is kept"
    last = one.health_log[-1]
    words = " ".join(last.output.split())
    said = f"{words[:200]}..." if len(words) > 200 else words
    return f"exit code {last.exit_code}{f', {said}' if said else ''}"


def _started_since(moment: datetime, one: ContainerState) -> bool:
    return one.started_at is not None and one.started_at > moment
