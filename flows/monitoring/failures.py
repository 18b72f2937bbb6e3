"""Feed of collections into the reconciler: what fails is triaged and recovered, one service after another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from core.monitoring.assess import Assessment, SourceAnswers
from core.recovery.tracker import NO_SERVICE, SETTLE
from core.recovery.triage import (
    Decision,
    ServiceFailure,
    ServiceObservation,
    TriageContext,
    TriageResult,
    observe_health,
)
from flows.common.judge_health import judge_now
from flows.recovery.error_recovery import error_recovery
from flows.recovery.reconcile import Reconciler
from models.compose import Application
from models.environments import Environment
from models.health import Health, HealthReport
from models.metrics import HOST
from models.recovery import RecoveryMethod, RecoveryOutcome
from tasks.recovery.records import PREDICTION
from tasks.runtime.project import Project

Predicted = tuple[str, str, bool]
"""A failure that is predicted: its service or HOST, its text, and whether it is critical."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """One stored collection: its environment, the answers of its sources, and their assessment."""

    project: Project
    seen: SourceAnswers
    judged: Assessment


@dataclass(slots=True, kw_only=True)
class CollectionFeed:
    """Observes what collections saw, and recovers from what the triage dispatches.

    `recover_with` recovers from one failure. `hand_over`, where there is one, tells the watch in this process that a
    service fails; the watch then recovers it.
    """

    files: tuple[str, ...]
    act: bool
    recover_with: Callable[..., Awaitable[RecoveryOutcome]] = error_recovery
    hand_over: Callable[[], None] | None = None
    reconciler: Reconciler = field(default_factory=Reconciler)

    def decide(self, collected: Collected) -> TriageResult:
        """Triage one collection; a source that did not answer is a failure without a service."""
        answers = collected.seen
        if answers.health is not None and answers.application is not None:
            return self._triage(collected, answers.health, ())
        reasons = gap_reasons(answers.gaps)
        gap = ServiceObservation(
            service=NO_SERVICE, decision=Decision.RECOVER, reason=reasons, fingerprint=reasons, unhealthy=True
        )
        return self.reconciler.decide([gap], TriageContext(), datetime.now(UTC))

    async def recover(self, collected: Collected, result: TriageResult) -> list[RecoveryOutcome]:
        """Recover from the failures, causes first; a dependant is recovered only if it stays unhealthy."""
        declared, answers = collected.project.environment, collected.seen
        if answers.health is None or answers.application is None:
            return [await self._recover(declared, failure, act=False) for failure in result.failures]
        outcomes: list[RecoveryOutcome] = []
        tried: set[str] = set()
        while result.recover:
            tried |= {observation.service for observation in result.recover}
            outcomes += [await self._recover(declared, failure, act=self.act) for failure in result.failures]
            if not any(outcome.method is RecoveryMethod.AUTOMATIC and outcome.success for outcome in outcomes):
                break
            result = self._triage(collected, await _settle(collected.project, answers.application), tried)
        return outcomes

    async def warn(self, environment: str, predicted: Sequence[Predicted]) -> list[RecoveryOutcome]:
        """Record predicted failures; only a critical one is acted on, since its service still serves."""
        return [
            await self.recover_with(
                environment=environment,
                text=text,
                service=None if service == HOST else service,
                source=PREDICTION,
                compose_files=list(self.files),
                act=self.act and critical,
                predictive=True,
            )
            for service, text, critical in predicted
        ]

    def _triage(self, collected: Collected, health: HealthReport, tried: Collection[str]) -> TriageResult:
        answers = collected.seen
        observations = [observe_health(verdict, answers.container_states or ()) for verdict in health.services]
        observations = [
            replace(observation, decision=Decision.IGNORE, reason="it was tried in this collection")
            if observation.service in tried
            else observation
            for observation in observations
        ]
        context = TriageContext(dependencies=answers.needs, muted=collected.judged.outcome.muted)
        return self.reconciler.decide(observations, context, datetime.now(UTC))

    async def _recover(self, declared: Environment, failure: ServiceFailure, *, act: bool) -> RecoveryOutcome:
        outcome = None
        self.reconciler.begin(failure.service)
        try:
            outcome = await self.recover_with(
                environment=declared.name,
                text=failure.text,
                service=failure.service or None,
                source="collection",
                compose_files=list(self.files),
                act=act,
                failing_services=failure.failing,
            )
        finally:
            self.reconciler.finish(failure.service, outcome, datetime.now(UTC))
        return outcome


def gap_reasons(gaps: Sequence[str]) -> str:
    """Return why the sources did not answer; several fail for one reason, in the same words."""
    return "; ".join(dict.fromkeys(gap.partition(": ")[2] for gap in gaps))


async def _settle(project: Project, application: Application) -> HealthReport:
    """Return the health after a recovery, once dependants have had time to notice it."""
    deadline = datetime.now(UTC) + SETTLE
    while True:
        health = await judge_now(project, application)
        if health.overall is not Health.UNHEALTHY or datetime.now(UTC) >= deadline:
            return health
        await asyncio.sleep(1)
