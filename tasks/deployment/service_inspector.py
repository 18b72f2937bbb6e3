"""Watch one service until it is proven or has failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from adapters.pattern_files import shipped_set
from adapters.probes.run import run_probe
from core.deployment.verify import (
    Progress,
    Readiness,
    StabilityHold,
    judge_progress,
    readiness_after_refusal,
)
from core.errors.decisive import last_run
from core.errors.refused_login import is_refused_login, last_refusal_line
from core.monitoring.health import judge_declared, judge_without_probe
from models.compose import ServiceDeclaration
from models.containers import ContainerState, HealthLogEntry, replicas
from models.failures import EngineError, EngineUnreachableError, ProbeOutOfReachError, StartFailedError
from models.health import ProbeResult, ServiceVerdict, Unasked
from models.results import ServiceStart
from tasks.errors.evidence import ProbeJournal
from tasks.monitoring.events import INSPECT_AGAIN_AFTER
from tasks.runtime.project import Project

T = TypeVar("T")

_READ_LOG_EVERY_SECONDS = 2.0

_LOG_COUNTS_SECONDS = 8.0
"""Less than REFUSED_FOR: one line alone never counts for so long."""

_LOG_LINES = 10

_ASK_AGAIN_SECONDS = 0.25

_NEXT_CHECK = timedelta(milliseconds=250)

_EVER = datetime.min.replace(tzinfo=UTC)


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


class ServiceInspector:
    """Inspects one service repeatedly. With `while_running` a service whose containers run is waited for, not lost."""

    def __init__(
        self,
        project: Project,
        declaration: ServiceDeclaration,
        journal: ProbeJournal | None = None,
        since: datetime | None = None,
        *,
        while_running: bool = False,
        next_check: bool = False,
        only: Sequence[str] = (),
        proven_before: bool = True,
    ) -> None:
        """With `next_check` a health check that failed before the first look is not the last word: the next is awaited.

        `only` are new containers, started for this attempt: they alone are looked at, and each of their ends counts.

        By default all containers of the service are looked at, and what ended before `since`, or now, does not count.
        Of one that was `proven_before` a login that stays refused ends the wait: a database that is made right now
        may refuse its users for a while.
        """
        self._while_running = while_running
        self._next_check = next_check
        self._first_checks: dict[str, tuple[HealthLogEntry, ...]] = {}
        self._only = only
        self._proven_before = proven_before
        self._refused_since: float | None = None
        self._needs_others = bool(declaration.depends_on or project.environment.service(declaration.name).dependencies)
        self._log_said: tuple[float, list[str], str] = (0.0, [], "")
        self._log_changed = 0.0
        self._judged: dict[str, bool] = {}
        self.journal = journal or ProbeJournal()
        self.project = project
        self.declaration = declaration
        self.answer: ProbeResult | None = None
        self.outages = 0
        self.up_at: float | None = None
        """When the service was up first, as a moment of the monotonic clock."""
        self._unasked: Unasked | None = None
        self._restarts: dict[str, int] = {}
        self._asked_at = _EVER if only else since or datetime.now(UTC)

    async def ask_engine(self, until: float, ask: Callable[..., Awaitable[T]], *arguments: Any) -> T:
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
        self._restarts |= {container.container_id: 0 for container in changed}

    async def inspect_and_judge(
        self, among: Sequence[str] | None = None, container_states: list[ContainerState] | None = None
    ) -> tuple[list[ContainerState], Readiness]:
        """Every container of the service now, or `container_states` of just now, and where that says it stands.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        if container_states is None or self.outages:
            container_states = await self.inspect(among)
        return container_states, await self._fail_if_refused(container_states, await self.readiness(container_states))

    async def _fail_if_refused(self, container_states: Sequence[ContainerState], now: Readiness) -> Readiness:
        """Lost where a login has been refused for some seconds: no wait makes a password right."""
        if now.progress is not Progress.WAITING or not self._proven_before:
            self._refused_since = None
            return now
        words = await self._refused_login(container_states)
        if not words:
            self._refused_since = None
            return now
        self._refused_since = self._refused_since or time.monotonic()
        return readiness_after_refusal(words, timedelta(seconds=time.monotonic() - self._refused_since)) or now

    async def _refused_login(self, container_states: Sequence[ContainerState]) -> str:
        """The words of a refused login in the last answers of its checks, or at the end of its log; else nothing.

        A log counts of a service that needs others: a server's own says that some login was refused, not whose.
        """
        answers = [
            container.health_log[-1].output
            for container in container_states
            if container.health_log and container.health_log[-1].exit_code
        ]
        answers += [self.answer.detail] if self.answer is not None and not self.answer.ok else []
        judgements = self._judged
        self._judged = {
            text: judgements[text]
            if text in judgements
            else await asyncio.to_thread(is_refused_login, text, shipped_set())
            for text in filter(None, answers)
        }
        words = next((text for text, refused in self._judged.items() if refused), "")
        return words or (await self._refusal_in_log(container_states) if self._needs_others else "")

    async def _refusal_in_log(self, container_states: Sequence[ContainerState]) -> str:
        """Counts for a few seconds after it was written, so one line that was followed by nothing ends no wait."""
        read_at, written, words = self._log_said
        now = time.monotonic()
        if now - read_at >= _READ_LOG_EVERY_SECONDS:
            lines = await asyncio.to_thread(self._last_lines, container_states)
            if lines != written:
                words = await asyncio.to_thread(last_refusal_line, lines, shipped_set())
                self._log_changed = now
            self._log_said = now, lines, words
        return words if now - self._log_changed < _LOG_COUNTS_SECONDS else ""

    def _last_lines(self, container_states: Sequence[ContainerState]) -> list[str]:
        engine, last_lines = self.project.engine, list[str]()
        for container in container_states:
            try:
                lines = engine.containers.logs(container.container_id, _LOG_LINES).splitlines()
            except EngineUnreachableError:
                raise
            except EngineError:
                # Its log driver keeps nothing that could be read.
                continue
            last_lines += lines[last_run(lines, container.started_at) :]
        return last_lines

    async def inspect(self, among: Sequence[str] | None = None) -> list[ContainerState]:
        """Every container of the service now, but those of `compose run`.

        `among` are its containers where they are known, which saves asking for them.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        engine, name = self.project.engine, self.declaration.name
        among = self._only or among
        everything = await asyncio.to_thread(engine.containers.inspect_all, among) if among else []
        if not self._only and (not among or len(everything) < len(among)):
            everything = await asyncio.to_thread(self.project.inspect_containers, name)
        container_states = replicas(everything)
        for container in container_states:
            self._restarts.setdefault(container.container_id, 0 if self._only else container.restart_count)
        self.journal.note_health_log(container_states)
        return container_states

    def _failed_before(self, container_states: Sequence[ContainerState]) -> bool:
        """Whether one is unhealthy by a check that was made before the first look."""
        # Checks are compared with each other, not with this machine's clock: the engine's may differ.
        latest = {state.container_id: state.health_log[-1:] for state in container_states}
        first = {container_id: self._first_checks.setdefault(container_id, log) for container_id, log in latest.items()}
        return any(
            state.health == "unhealthy" and first[state.container_id] == latest[state.container_id]
            for state in container_states
        )

    async def readiness(self, container_states: list[ContainerState]) -> Readiness:
        """Where the service stands by the engine's word, and where that says up, by its own probe's too."""
        awaits_check = self._next_check and self._failed_before(container_states)
        before = sum(self._restarts.get(container.container_id, 0) for container in container_states)
        by_engine = judge_progress(self.declaration, container_states, asked_at=self._asked_at, restarts_before=before)
        probe = self.project.environment.service(self.declaration.name).probe
        if (
            by_engine.progress is Progress.LOST
            and all(container.state == "running" for container in container_states)
            and (self._while_running or awaits_check)
        ):
            return Readiness(progress=Progress.WAITING, reason=by_engine.reason)
        if by_engine.progress is not Progress.UP or probe is None:
            return by_engine
        engine, project, name = self.project.engine, self.project.environment.project, self.declaration.name
        try:
            self.answer = await run_probe(
                probe,
                name,
                project=project,
                engine=engine,
                secrets=await asyncio.to_thread(self.project.secrets),
                container_states=container_states if self._only else None,
            )
        except ProbeOutOfReachError as error:
            self._unasked = Unasked(error.what)
            return replace(by_engine, reason=f"{by_engine.reason}; its probe is not asked: {error.what}")
        self.journal.keep_answer(self.answer)
        if self.answer.ok:
            return by_engine
        return Readiness(progress=Progress.WAITING, reason=f"its probe fails: {self.answer.detail}")

    def verdict(self, container_states: Sequence[ContainerState]) -> ServiceVerdict:
        """How healthy the service is by its containers and its probe's last answer."""
        spec = self.project.environment.service(self.declaration.name)
        if self._unasked is not None:
            return judge_without_probe(self.declaration, container_states, self._unasked, spec)
        return judge_declared(self.declaration, container_states, self.answer, spec)

    def timeout(self, stability: StabilityHold) -> timedelta:
        """How long to sleep at most: to the end of the stabilisation where that is near."""
        remaining = stability.remaining
        if remaining is None:
            return INSPECT_AGAIN_AFTER
        if remaining <= timedelta():
            # It waits for the next health check, of which the engine sends no event unless the state changes.
            return _NEXT_CHECK
        return max(timedelta(milliseconds=10), min(INSPECT_AGAIN_AFTER, remaining))
