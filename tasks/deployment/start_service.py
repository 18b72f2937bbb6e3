"""Bring one service up: start its containers, wait until they serve and stay stable, and report their state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from prefect import task

from adapters.compose.variables import secret_values
from adapters.docker.engine import DockerEngine
from adapters.probes import run_probe
from core.deployment.verify import Progress, Readiness, StabilityHold, judge_progress, update_stability
from core.monitoring.health import judge_declared
from models.compose import DependencyCondition, InjectedFile, ServiceDeclaration
from models.containers import ContainerState
from models.environments import Environment
from models.failures import EngineUnreachableError, StartFailedError
from models.health import ProbeResult
from models.results import ServiceStart
from tasks.errors.evidence import ProbeJournal
from tasks.monitoring.events import INSPECT_AGAIN_AFTER, ContainerWatch
from tasks.runtime.clients import engine_of
from tasks.runtime.retry_policy import EFFECT

T = TypeVar("T")

_ASK_AGAIN_SECONDS = 0.25

_EXPECTED = frozenset({"create", "start"})
"""What happens to a container that is brought up, and says nothing of whether its health check passes."""


MILESTONES = {
    DependencyCondition.STARTED: "started",
    DependencyCondition.HEALTHY: "healthy",
    DependencyCondition.COMPLETED: "completed",
}
"""The states that a dependant may wait for, each as it reads in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartProof:
    """How one service came up, and what proves it."""

    previous: str
    state: str
    reason: str
    kept: bool
    ok: bool = True
    facts: dict[str, Any] = field(default_factory=dict)

    def result(self, service: str, reason: str, took_seconds: float) -> ServiceStart:
        """The result of the service's start, for its operation's record."""
        return ServiceStart(
            service=service,
            previous_state=self.previous,
            state=self.state,
            reason=reason,
            kept=self.kept,
            took_seconds=took_seconds,
            ok=self.ok,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStartOrder:
    """How one service is to be started.

    `since` is when the operation began: a job that has finished since then is not run again, nor is one that is
    `done`; with `restart_because`, containers that were up before then are restarted.
    """

    declaration: ServiceDeclaration
    files: Sequence[InjectedFile] = ()
    deadline_seconds: float
    since: datetime
    restart_because: str | None = None
    done: bool = False


@task(name="bring up", task_run_name="{order.declaration.name}", **EFFECT)
async def bring_up(
    environment: Environment,
    order: ServiceStartOrder,
    watch: ContainerWatch,
    reached: Callable[[DependencyCondition], None],
    journal: ProbeJournal,
) -> StartProof:
    """Start the containers that do not run, and wait until the service serves and stays stable.

    The answers of its health check and probe go into the journal.

    Raises:
        StartFailedError: It did not come up, or did not stay up; the message says its last state.
    """
    declaration, since, restart_because = order.declaration, order.since, order.restart_because
    attempt = Attempt(environment, declaration, await asyncio.to_thread(secret_values, environment), journal, since)
    until = time.monotonic() + order.deadline_seconds
    before = await attempt.answered(until, attempt.inspect, watch.containers(declaration.name))
    if not before:
        raise StartFailedError(f"no container of {declaration.name} was created", service=declaration.name)
    to_start = [seen for seen in before if _is_to_start(declaration, seen, None if order.done else since)]
    to_restart = [seen for seen in before if restart_because is not None and _was_up(since, seen)]
    if not to_start and all(seen.state == "exited" for seen in before):
        reached(DependencyCondition.STARTED)
        reached(DependencyCondition.COMPLETED)
        return StartProof(previous="exited", state="completed", reason="it has done its work in this start", kept=True)
    await asyncio.gather(
        *(_started(attempt, seen.container_id, order.files, until) for seen in to_start),
        *(_restarted(attempt, seen, until) for seen in to_restart),
    )
    changed = [*to_start, *to_restart]
    attempt.begin_anew(changed)
    reached(DependencyCondition.STARTED)
    held = None if changed else _held_already(before)
    if changed and declaration.checked:
        await watch.change(declaration.name, besides=_EXPECTED)
    seen = await until_proven(attempt, watch, order.deadline_seconds, reached=reached, held=held)
    verdict = judge_declared(declaration, seen, attempt.answer, environment.service(declaration.name))
    return StartProof(
        previous=state_in_a_word(before),
        state=str(verdict.health),
        reason=f"restarted: {restart_because}; {verdict.reason}" if to_restart else verdict.reason,
        kept=not changed,
        facts={"containers": len(before), "started": len(to_start), "restarted": len(to_restart)},
    )


async def until_proven(
    attempt: Attempt,
    watch: ContainerWatch,
    deadline_seconds: float,
    *,
    reached: Callable[[DependencyCondition], None] = lambda _: None,
    held: StabilityHold | None = None,
) -> list[ContainerState]:
    """Inspect the service at every event until it has completed, or has been up for its stabilisation time.

    `reached` is called with each milestone, and `held` is how long the service has been stable before.

    Raises:
        StartFailedError: It was lost, or was not up after `deadline_seconds`.
    """
    name = attempt.declaration.name
    needed = attempt.environment.stabilisation(name)
    until = time.monotonic() + deadline_seconds
    been_up = False
    among = watch.containers(name)
    while True:
        outages = attempt.outages
        seen, now = await attempt.answered(until, attempt.inspect_and_judge, among)
        if now.progress is Progress.LOST:
            meanwhile = "; the engine went away meanwhile" if attempt.outages else ""
            raise StartFailedError(f"{name}: {now.reason}{meanwhile}", service=name)
        if now.progress is Progress.COMPLETED:
            reached(DependencyCondition.COMPLETED)
            return seen
        if now.progress is Progress.UP:
            if not been_up:
                # The deadline is for becoming healthy; the stabilisation time comes on top, again after each lapse.
                been_up, until = True, until + needed.total_seconds()
            if all(one.health == "healthy" for one in seen):
                reached(DependencyCondition.HEALTHY)
        # While the engine was away the service was not observed.
        held = update_stability(held if attempt.outages == outages else None, datetime.now(UTC), now, seen, needed)
        if held.proven:
            return seen
        if time.monotonic() > until:
            raise StartFailedError(
                f"{name} was not up after {deadline_seconds:.0f} s: {now.reason}",
                advice=f"look at its log: docker compose -p {attempt.environment.project} logs {name}",
                service=name,
            )
        woken = await watch.change(name, at_most=attempt.timeout(held, needed))
        among = watch.containers(name) if woken else None


async def _started(attempt: Attempt, container_id: str, files: Sequence[InjectedFile], until: float) -> None:
    """Start one container; asked twice, the engine starts it once."""
    engine = engine_of(attempt.environment)
    await attempt.answered(until, asyncio.to_thread, engine.containers.start, container_id, files)


async def _restarted(attempt: Attempt, seen: ContainerState, until: float) -> None:
    engine, grace = engine_of(attempt.environment), attempt.declaration.stop_grace_period
    await attempt.answered(until, asyncio.to_thread, restart_container, engine, seen, grace)


class Attempt:
    """Inspects one service repeatedly. With `while_running` a service whose containers run is waited for, not lost."""

    def __init__(
        self,
        environment: Environment,
        declaration: ServiceDeclaration,
        secrets: dict[str, str],
        journal: ProbeJournal | None = None,
        since: datetime | None = None,
        *,
        while_running: bool = False,
    ) -> None:
        self._while_running = while_running
        self._journal = journal or ProbeJournal()
        self.environment = environment
        self.declaration = declaration
        self.answer: ProbeResult | None = None
        self.outages = 0
        self._secrets = secrets
        self._restarts: dict[str, int] = {}
        self._asked_at = since or datetime.now(UTC)

    async def answered(self, until: float, ask: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """What the engine answers, asked again while it is away: one that is restarted is back in seconds.

        `until` is a moment of the monotonic clock.

        Raises:
            StartFailedError: It was still away then.
        """
        away = False
        while True:
            try:
                return await ask(*arguments)
            except EngineUnreachableError as error:
                if time.monotonic() > until:
                    name = self.declaration.name
                    raise StartFailedError(
                        f"{name} could not be proven, because the engine went away: {error.what.rstrip(';')}",
                        advice="start the engine again, then this start.",
                        service=name,
                    ) from error
                self.outages += not away
                away = True
            await asyncio.sleep(_ASK_AGAIN_SECONDS)

    def begin_anew(self, changed: Sequence[ContainerState]) -> None:
        """These were started or restarted just now, which sets the engine's count of their crashes to zero."""
        self._restarts |= {one.container_id: 0 for one in changed}

    async def inspect_and_judge(self, among: Sequence[str] | None = None) -> tuple[list[ContainerState], Readiness]:
        """Every container of the service now, and where that says the service stands.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        seen = await self.inspect(among)
        return seen, await self.standing(seen)

    async def inspect(self, among: Sequence[str] | None = None) -> list[ContainerState]:
        """Every container of the service now, but those of `compose run`.

        `among` are its containers where they are known, which saves asking for them.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        engine, name = engine_of(self.environment), self.declaration.name
        everything = await asyncio.to_thread(engine.containers.inspect_all, among) if among else []
        if not among or len(everything) < len(among):
            everything = await asyncio.to_thread(engine.containers.inspect_project, self.environment.project, name)
        seen = [one for one in everything if not one.one_off]
        for one in seen:
            self._restarts.setdefault(one.container_id, one.restart_count)
        self._journal.saw(seen)
        return seen

    async def standing(self, seen: list[ContainerState]) -> Readiness:
        """Where the service stands by the engine's word, and where that says up, by its own probe's too."""
        before = sum(self._restarts.get(one.container_id, 0) for one in seen)
        by_engine = judge_progress(self.declaration, seen, asked_at=self._asked_at, restarts_before=before)
        probe = self.environment.service(self.declaration.name).probe
        if by_engine.progress is Progress.LOST and self._while_running and all(one.state == "running" for one in seen):
            return Readiness(progress=Progress.WAITING, reason=by_engine.reason)
        if by_engine.progress is not Progress.UP or probe is None:
            return by_engine
        self.answer = await run_probe(
            probe,
            self.declaration.name,
            project=self.environment.project,
            engine=engine_of(self.environment),
            secrets=self._secrets,
        )
        self._journal.answered(self.answer)
        if self.answer.ok:
            return by_engine
        return Readiness(progress=Progress.WAITING, reason=f"its probe fails: {self.answer.detail}")

    def timeout(self, held: StabilityHold, needed: timedelta) -> timedelta:
        """How long to sleep at most: to the end of the stabilisation where that is near."""
        if held.since is None:
            return INSPECT_AGAIN_AFTER
        left = needed - (datetime.now(UTC) - held.since)
        return max(timedelta(milliseconds=10), min(INSPECT_AGAIN_AFTER, left))


def restart_container(engine: DockerEngine, seen: ContainerState, grace: timedelta) -> None:
    """Stop a container that is up and start it again; after the grace the engine kills it.

    Raises:
        EngineError: The engine could not restart it.
    """
    if seen.state == "paused":
        # A paused process cannot handle the signal to end, so it would always be killed.
        engine.containers.unpause(seen.container_id)
    engine.containers.restart(seen.container_id, grace)


def _is_to_start(declaration: ServiceDeclaration, seen: ContainerState, since: datetime | None) -> bool:
    """A job that has finished counts as done where it did so since that moment, or where none is given."""
    if declaration.one_shot and seen.state == "exited" and seen.exit_code == 0 and seen.started_at is not None:
        return since is not None and seen.started_at < since
    return seen.state in ("created", "exited", "dead")


def _was_up(moment: datetime, seen: ContainerState) -> bool:
    up = seen.up
    return up and seen.started_at is not None and seen.started_at < moment


def _held_already(seen: list[ContainerState]) -> StabilityHold | None:
    """What ran before this start has held since then: it need not prove again what it has shown."""
    started = [one.started_at for one in seen if one.started_at is not None]
    if len(started) != len(seen):
        return None
    restarts = sum(one.restart_count for one in seen)
    return StabilityHold(since=max(started), restarts=restarts, proven=False, reason="it ran before")


def state_in_a_word(seen: Sequence[ContainerState]) -> str:
    """The engine's word for the state of a service's containers, where they have one together."""
    states = {one.state for one in seen}
    return states.pop() if len(states) == 1 else "partly running"
