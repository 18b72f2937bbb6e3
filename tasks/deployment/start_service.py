"""Start or restart one service: wait until its containers serve and stay stable, and report their state."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from adapters.docker.engine import DockerEngine
from core.deployment.hold import NeededHold, ServiceHistory, needed_hold
from core.deployment.restart import Aftermath, DependantAnswer, aftermath, replica_groups, settle_time
from core.deployment.verify import Progress, StabilityHold, extend_deadline, update_stability
from models.compose import Application, DependencyCondition, InjectedFile, ServiceDeclaration
from models.containers import ContainerState
from models.failures import StartFailedError
from models.health import ServiceVerdict
from tasks.deployment.service_inspector import ServiceInspector, StartProof
from tasks.errors.evidence import ProbeJournal
from tasks.monitoring.events import ContainerWatch, watch_project
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import EFFECT
from tasks.runtime.task import task
from tasks.runtime.traces import describe_span, span

log = logging.getLogger("roas")

_TELL_EVERY_SECONDS = 10.0

_EXPECTED = frozenset({"create", "start"})
"""What happens to a container that is brought up, and says nothing of whether its health check passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStartOrder:
    """How one service is to be started.

    `since` is when the operation began: a job that has finished since then is not run again, nor is one that is
    `done`; with `restart_because`, containers that were up before then are restarted. `replaced`: its containers are
    new, and some may run already. `waited_seconds` is how long it waited for its dependencies. `proven_before`: some
    release of it was, so its data knows its users, and a refused login will not be taken later. `history` is what may
    shorten its stabilisation time, None where nothing does.
    """

    declaration: ServiceDeclaration
    files: Sequence[InjectedFile] = ()
    deadline_seconds: float
    since: datetime
    restart_because: str | None = None
    done: bool = False
    replaced: bool = False
    proven_before: bool = False
    history: ServiceHistory | None = None
    deployment_id: str = ""
    waited_seconds: float = 0.0


@task(name="bring up", task_run_name="{order.declaration.name}", **EFFECT)
async def bring_up(
    project: Project,
    order: ServiceStartOrder,
    watch: ContainerWatch,
    reached: Callable[[DependencyCondition], None],
    serves: Callable[[NeededHold | None], None],
    journal: ProbeJournal,
) -> StartProof:
    """Start the containers that do not run, and wait until the service serves and stays stable.

    `serves` is called whenever it serves and has to go on so long, and with None where it does not any more. The
    answers of its health check and probe go into the journal.

    Raises:
        StartFailedError: It did not come up, or did not stay up; the message says its last state.
    """
    declaration, since, restart_because = order.declaration, order.since, order.restart_because
    engine, grace = project.engine, declaration.stop_grace_period
    attempt = ServiceInspector(project, declaration, journal, since, proven_before=order.proven_before)
    began = time.monotonic()
    until = began + order.deadline_seconds
    describe_span(
        environment=project.environment.name,
        service=declaration.name,
        deployment_id=order.deployment_id,
        waited_seconds=order.waited_seconds,
        outcome="failed",
    )
    before = await attempt.ask_engine(until, attempt.inspect, watch.containers(declaration.name))
    if not before:
        raise StartFailedError(f"no container of {declaration.name} was created", service=declaration.name)
    to_start = [
        container
        for container in before
        if (order.replaced and container.up) or _is_to_start(declaration, container, None if order.done else since)
    ]
    # One that a person paused since the plan stays so.
    awake = [container for container in before if container.up and container.state != "paused"]
    running = [container for container in awake if container.started_at is not None and container.started_at < since]
    to_restart = running if restart_because is not None else []
    if all(container.state == "paused" for container in before):
        for milestone in DependencyCondition:
            reached(milestone)
        why = f"it is paused, and left so: docker unpause {before[0].name}"
        return StartProof(previous="paused", state="paused", reason=why, kept=True)
    if not to_start and all(container.state == "exited" for container in before):
        reached(DependencyCondition.STARTED)
        reached(DependencyCondition.COMPLETED)
        describe_span(outcome="completed", kept=True)
        return StartProof(previous="exited", state="completed", reason="it has done its work in this start", kept=True)
    await asyncio.gather(
        # Asked twice, the engine starts a container once.
        *(
            attempt.ask_engine(until, asyncio.to_thread, engine.containers.start, container.container_id, order.files)
            for container in to_start
        ),
        *(
            attempt.ask_engine(until, asyncio.to_thread, _restart_container, engine, container, grace, order.files)
            for container in to_restart
        ),
    )
    changed = [*to_start, *to_restart]
    attempt.begin_anew(changed)
    reached(DependencyCondition.STARTED)
    stability = None if changed else _held_already(before)
    if changed and declaration.checked:
        await watch.change(declaration.name, besides=_EXPECTED)
    history = order.history if restart_because is None else None
    hold = needed_hold(project.environment, declaration.name, before, history)
    with span(f"prove {declaration.name}", environment=project.environment.name, service=declaration.name):
        container_states = await wait_until_proven(
            attempt,
            watch,
            order.deadline_seconds,
            reached=reached,
            serves=lambda left: serves(None if left is None else replace(hold, needed=left)),
            stability=stability,
            first=None if changed else before,
            needed=hold.needed,
        )
    watch.forget_deaths(declaration.name)
    verdict = attempt.verdict(container_states)
    facts: dict[str, Any] = {"containers": len(before), "started": len(to_start), "restarted": len(to_restart)}
    if changed and attempt.up_at is not None:
        facts["up_after_seconds"] = round(attempt.up_at - began, 3)
    _describe_verdict(verdict, unchanged=not changed)
    return StartProof(
        previous=_state_in_a_word(before),
        state=str(verdict.health),
        reason=f"restarted: {restart_because}; {verdict.reason}" if to_restart else verdict.reason,
        kept=not changed,
        facts=facts,
    )


def _describe_verdict(verdict: ServiceVerdict, *, unchanged: bool) -> None:
    slowest = max((probe.latency_ms for probe in verdict.probes if probe.latency_ms is not None), default=None)
    probe_seconds = None if slowest is None else slowest / 1000
    describe_span(outcome=str(verdict.health), kept=unchanged, probe_seconds=probe_seconds)


async def wait_until_proven(
    attempt: ServiceInspector,
    watch: ContainerWatch,
    deadline_seconds: float,
    *,
    reached: Callable[[DependencyCondition], None] = lambda _: None,
    serves: Callable[[timedelta | None], None] = lambda _: None,
    stability: StabilityHold | None = None,
    first: list[ContainerState] | None = None,
    needed: timedelta | None = None,
) -> list[ContainerState]:
    """Inspect the service at every event until it has completed, or has been up for its stabilisation time.

    `reached` is called with each milestone, and `serves` whenever it serves, with how long it has to go on, and when it
    does not any more, with None. `stability` is how long the service has been stable before. `first` are its containers
    where they were inspected just now. `needed` stands for the stabilisation time where it is given.

    Raises:
        StartFailedError: It was lost, or was not up after `deadline_seconds`.
    """
    name = attempt.declaration.name
    needed = attempt.project.environment.stabilisation(name) if needed is None else needed
    began = reported_at = time.monotonic()
    until = began + deadline_seconds
    been_up, is_held, ran_before = False, False, stability is not None
    among = watch.containers(name)
    while True:
        outages = attempt.outages
        container_states, now = await attempt.ask_engine(until, attempt.inspect_and_judge, among, first)
        if now.progress is Progress.LOST:
            meanwhile = "; the engine went away meanwhile" if attempt.outages else ""
            raise StartFailedError(f"{name}: {now.reason}{meanwhile}", service=name)
        if now.progress is Progress.COMPLETED:
            reached(DependencyCondition.COMPLETED)
            return container_states
        if now.progress is Progress.UP:
            attempt.up_at = attempt.up_at or time.monotonic()
            if not been_up:
                been_up, reported_at = True, time.monotonic()
            if all(container.health == "healthy" for container in container_states):
                reached(DependencyCondition.HEALTHY)
        # While the engine was away the service was not observed.
        before = stability if attempt.outages == outages else None
        stability = update_stability(before, datetime.now(UTC), now, container_states, needed, ran_before=ran_before)
        if stability.proven:
            return container_states
        if is_held != (stability.remaining is not None):
            is_held = not is_held
            serves(stability.remaining)
        until = extend_deadline(until, time.monotonic(), stability, needed)
        why = stability.reason if now.progress is Progress.UP else now.reason
        attempt.journal.standing[name] = why
        if time.monotonic() - reported_at >= _TELL_EVERY_SECONDS:
            reported_at = time.monotonic()
            redactor = await asyncio.to_thread(attempt.project.redactor)
            log.info("%s has been awaited for %.0f s: %s", name, reported_at - began, redactor.text(why))
        if time.monotonic() > until:
            raise StartFailedError(
                f"{name}: it was not up after {deadline_seconds:.0f} s: {why}",
                advice=f"see its evidence: roas why {attempt.project.environment.name} --evidence, or "
                "raise its start_timeout_seconds.",
                service=name,
            )
        woken = await watch.change(name, at_most=attempt.timeout(stability))
        among, first = (watch.containers(name) if woken else None), None


@task(name="hold again", task_run_name="{attempt.declaration.name} holds again", **EFFECT)
async def hold_again(attempt: ServiceInspector, watch: ContainerWatch, deadline_seconds: float) -> None:
    """Wait until a service that ended after it was proven, and was started again, holds twice as long as before.

    What somebody stopped or paused meanwhile is not waited for.

    Raises:
        StartFailedError: It did not come up again, or did not hold.
    """
    watch.forget_deaths(attempt.declaration.name)
    container_states = await attempt.ask_engine(time.monotonic() + deadline_seconds, attempt.inspect)
    if any(container.state not in ("running", "restarting") for container in container_states):
        return
    if container_states and (stability := _held_already(container_states)) is not None:
        held = attempt.project.environment.stabilisation(attempt.declaration.name)
        await wait_until_proven(attempt, watch, deadline_seconds, stability=replace(stability, longest=held))


@task(name="restart", **EFFECT)
async def restart_service(
    project: Project,
    declaration: ServiceDeclaration,
    watch: ContainerWatch,
    files: Sequence[InjectedFile],
    deadline_seconds: float,
    started: Callable[[], Awaitable[None]] | None = None,
) -> StartProof:
    """Restart a service's containers, those that serve one after the other, each proven before the next.

    `files` go into a container that was never started. `deadline_seconds` is for each to become healthy. `started` is
    called each time that some run again, before they are proven.

    Raises:
        StartFailedError: One did not come up, or did not hold; those after it were left as they were.
        EngineError: The engine refused.
    """
    engine, first = project.engine, ServiceInspector(project, declaration)
    before = await first.inspect()
    if not before:
        raise StartFailedError(f"{declaration.name} has no container to restart", service=declaration.name)
    serves = (await first.readiness(before)).progress is Progress.UP
    groups = replica_groups(before, serves=serves)
    describe_span(environment=project.environment.name, service=declaration.name, outcome="failed")
    for group in groups:
        attempt = ServiceInspector(project, declaration)
        await asyncio.gather(
            *(
                asyncio.to_thread(_restart, engine, container, declaration.stop_grace_period, files)
                for container in group
            )
        )
        if started is not None:
            await started()
        with span(f"prove {declaration.name}", environment=project.environment.name, service=declaration.name):
            container_states = await wait_until_proven(attempt, watch, deadline_seconds)
    verdict = attempt.verdict(container_states)
    _describe_verdict(verdict, unchanged=False)
    return StartProof(
        previous=_state_in_a_word(before),
        state=str(verdict.health),
        reason=verdict.reason,
        kept=False,
        facts={"containers": len(before), "one_after_the_other": len(groups)},
    )


@task(name="observe a dependant", **EFFECT)
async def ask_again(
    project: Project, declaration: ServiceDeclaration, watch: ContainerWatch, since: datetime
) -> Aftermath:
    """How a service does that needs one which was restarted and proven at `since`.

    It is given time to notice and to find its way back; a good answer ends the wait, a bad one does not.
    """
    attempt = ServiceInspector(project, declaration)
    timeout = settle_time(
        declaration, probed=project.environment.service(declaration.name).probe is not None
    ).total_seconds()
    began = time.monotonic()
    while True:
        container_states = await attempt.inspect()
        await attempt.readiness(container_states)
        outcome = aftermath(attempt.verdict(container_states), container_states, attempt.answer, since=since)
        remaining_seconds = timeout - (time.monotonic() - began)
        if outcome.answer is DependantAnswer.HEALTHY or remaining_seconds <= 0:
            return outcome
        await watch.change(declaration.name, at_most=timedelta(seconds=min(1.0, remaining_seconds)))


@task(name="recovery step: verify", task_run_name="verify {service}", **EFFECT)
async def wait_until_healthy(
    project: Project,
    application: Application | None,
    service: str,
    *,
    since: datetime,
    while_running: bool = False,
) -> str:
    """Wait until a service serves and has held for its stabilisation time, at most as long as the policy says.

    `since` is when the attempt began: a container that was started after that and has ended is lost, not waited for.
    With `while_running` a failing health check is waited for as well, since the service is not ready yet. What failed
    before this wait began may have been mended meanwhile, so the next check decides.

    Raises:
        StartFailedError: It was lost, or did not become healthy in time; the message says its last state.
    """
    declaration = application.services.get(service) if application else None
    attempt = ServiceInspector(
        project,
        # Where the Compose files are broken, the running containers are judged by themselves.
        declaration or ServiceDeclaration(name=service, image="", restart="always"),
        since=since,
        while_running=while_running,
        next_check=True,
    )
    began = time.monotonic()
    async with watch_project(project) as watch:
        container_states = await wait_until_proven(attempt, watch, project.environment.recovery.verify_timeout_seconds)
    verdict = attempt.verdict(container_states)
    return f"{service} is {verdict.health} after {time.monotonic() - began:.1f} s: {verdict.reason}"


def _restart_container(
    engine: DockerEngine, container: ContainerState, grace: timedelta, files: Sequence[InjectedFile] = ()
) -> None:
    """Stop a container that is up and start it again with these files; after the grace the engine kills it.

    Raises:
        EngineError: The engine could not restart it.
    """
    if container.state == "paused":
        # A paused process cannot handle the signal to end, so it would always be killed.
        engine.containers.unpause(container.container_id)
    engine.containers.restart(container.container_id, grace, files)


def _restart(engine: DockerEngine, container: ContainerState, grace: timedelta, files: Sequence[InjectedFile]) -> None:
    if container.up:
        _restart_container(engine, container, grace)
    else:
        engine.containers.start(container.container_id, files)


def _is_to_start(declaration: ServiceDeclaration, container: ContainerState, since: datetime | None) -> bool:
    """A job that has finished counts as done where it did so since that moment, or where none is given."""
    if (
        declaration.one_shot
        and container.state == "exited"
        and container.exit_code == 0
        and container.started_at is not None
    ):
        return since is not None and container.started_at < since
    return container.state in ("created", "exited", "dead")


def _held_already(container_states: list[ContainerState]) -> StabilityHold | None:
    """What ran before this start has held since then: it need not prove again what it has shown."""
    started = [container.started_at for container in container_states if container.started_at is not None]
    if len(started) != len(container_states):
        return None
    restarts = sum(container.restart_count for container in container_states)
    return StabilityHold(since=max(started), restarts=restarts, proven=False, reason="it ran before")


def _state_in_a_word(container_states: Sequence[ContainerState]) -> str:
    """The engine's word for the state of a service's containers, where they have one together."""
    states = {container.state for container in container_states}
    return states.pop() if len(states) == 1 else "partly running"
