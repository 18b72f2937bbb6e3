"""Bring one service up: start its containers, wait until they serve, hold them, and say what was seen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from adapters.probes import run_probe

from adapters.secrets import secret_values
from core.health import judge_service
from models.compose import InjectedFile, ServiceDeclaration
from models.environments import Environment
from models.failures import StartFailedError
from models.health import ProbeResult, ServiceHealth, ServiceVerdict
from models.sightings import Sighting
from tasks.doors import engine_of
from tasks.patience import act
from tasks.watching import Watch

_SERVES = frozenset({ServiceHealth.HEALTHY, ServiceHealth.DEGRADED, ServiceHealth.UNPROVEN})


class Milestone(Enum):
    """What a dependant may wait for; the value reads in a sentence."""

    STARTED = "started"
    HEALTHY = "healthy"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How one service came up, and what proves it."""

    previous: str
    state: str
    reason: str
    kept: bool
    ok: bool = True
    facts: dict[str, Any] = field(default_factory=dict)


@act(name="bring up")
async def bring_up(
    environment: Environment,
    declaration: ServiceDeclaration,
    watch: Watch,
    reached: Callable[[Milestone], None],
    files: Sequence[InjectedFile],
    deadline_seconds: float,
) -> Proof:
    """Start what does not run, and wait until the service serves and has held for its stabilisation time.

    Raises:
        StartFailedError: It did not come up, or did not hold; the message says what was seen last.
    """
    attempt = _Attempt(environment, declaration, await asyncio.to_thread(secret_values, environment))
    before = await attempt.look()
    if not before:
        raise StartFailedError(f"no container of {declaration.name} was created", service=declaration.name)
    previous = _state_in_a_word(before)
    to_start = [seen for seen in before if seen.state in ("created", "exited", "dead")]
    already_done = declaration.one_shot and all(seen.state == "exited" and seen.exit_code == 0 for seen in before)
    if already_done:
        to_start = []
    engine = engine_of(environment)
    await asyncio.gather(*(asyncio.to_thread(engine.start, seen.container_id, files) for seen in to_start))
    reached(Milestone.STARTED)
    restarts = {seen.container_id: seen.restart_count for seen in before}
    verdict = await _until_well(attempt, watch, reached, restarts, deadline_seconds)
    if verdict.health is not ServiceHealth.COMPLETED:
        verdict = await _hold(attempt, watch, restarts, verdict)
    return Proof(
        previous=previous,
        state=str(verdict.health),
        reason=verdict.reason,
        kept=not to_start,
        facts={"containers": len(before), "started": len(to_start)},
    )


async def _until_well(
    attempt: _Attempt,
    watch: Watch,
    reached: Callable[[Milestone], None],
    restarts: dict[str, int],
    deadline_seconds: float,
) -> ServiceVerdict:
    name = attempt.declaration.name
    until = time.monotonic() + deadline_seconds
    while True:
        seen = await attempt.look()
        verdict = await attempt.judge(seen)
        attempt.demand_no_loss(seen, verdict, restarts)
        if verdict.health is ServiceHealth.COMPLETED:
            reached(Milestone.COMPLETED)
            reached(Milestone.HEALTHY)
            return verdict
        if verdict.health in _SERVES and not attempt.declaration.one_shot:
            reached(Milestone.HEALTHY)
            return verdict
        if time.monotonic() > until:
            raise StartFailedError(
                f"{name} was not healthy after {deadline_seconds:.0f} s, last seen {verdict.health}: {verdict.reason}",
                advice=f"look at its log: docker compose -p {attempt.environment.project} logs {name}",
                service=name,
            )
        await watch.change(name)


async def _hold(attempt: _Attempt, watch: Watch, restarts: dict[str, int], verdict: ServiceVerdict) -> ServiceVerdict:
    """Stay well for the stabilisation time; what has already run well for that long has held."""
    hold = attempt.environment.stabilisation(attempt.declaration.name).total_seconds()
    while True:
        seen = await attempt.look()
        verdict = await attempt.judge(seen)
        attempt.demand_no_loss(seen, verdict, restarts)
        if verdict.health is ServiceHealth.UNHEALTHY:
            raise StartFailedError(
                f"{verdict.service} became {verdict.health} while it had to hold for {hold:.0f} s: {verdict.reason}",
                service=verdict.service,
            )
        youngest = max((one.started_at for one in seen if one.started_at), default=datetime.now(UTC))
        left = hold - (datetime.now(UTC) - youngest).total_seconds()
        if left <= 0:
            return verdict
        await asyncio.wait([asyncio.create_task(watch.change(verdict.service))], timeout=left)


class _Attempt:
    """Looks at one service again and again."""

    def __init__(self, environment: Environment, declaration: ServiceDeclaration, secrets: dict[str, str]) -> None:
        self.environment = environment
        self.declaration = declaration
        self._secrets = secrets

    async def look(self) -> list[Sighting]:
        everything = await asyncio.to_thread(engine_of(self.environment).sightings, self.environment.project)
        return [seen for seen in everything if seen.service == self.declaration.name and not seen.one_off]

    async def judge(self, seen: list[Sighting]) -> ServiceVerdict:
        name, spec = self.declaration.name, self.environment.service(self.declaration.name)
        probe: ProbeResult | None = None
        if spec.probe is not None and any(one.state == "running" for one in seen):
            probe = await run_probe(
                spec.probe,
                name,
                project=self.environment.project,
                engine=engine_of(self.environment),
                secrets=self._secrets,
            )
        return judge_service(name, seen, probe, spec=spec, one_shot=self.declaration.one_shot)

    def demand_no_loss(self, seen: list[Sighting], verdict: ServiceVerdict, restarts: dict[str, int]) -> None:
        """Raise where waiting longer cannot help: it ended, was killed, or is being restarted by the engine."""
        for one in seen:
            grown = one.restart_count - restarts.get(one.container_id, 0)
            if grown > 0:
                raise StartFailedError(
                    f"{one.service} ended by itself and was restarted {grown} times (exit code {one.exit_code})",
                    service=one.service,
                )
            lost = one.state in ("exited", "dead") and not (self.declaration.one_shot and one.exit_code == 0)
            if lost:
                raise StartFailedError(
                    f"{one.service} ended with exit code {one.exit_code}"
                    f"{', killed for memory' if one.oom_killed else ''}{f': {one.error}' if one.error else ''}",
                    service=one.service,
                )


def _state_in_a_word(seen: list[Sighting]) -> str:
    states = {one.state for one in seen}
    return states.pop() if len(states) == 1 else "partly running"
