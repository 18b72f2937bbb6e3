"""Start in dependency order, side by side where allowed, and prove each service before the whole counts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from core.compose import start_deadline
from flows.recording import Story
from models.compose import Application, DependencyCondition, InjectedFile, Plan, ServiceDeclaration
from models.environments import Environment
from models.evidence import Occasion
from models.failures import StartFailedError
from models.operations import StateChange
from models.results import ServiceStart
from tasks.bringing_up import Milestone, Proof, bring_up
from tasks.evidence import ProbeJournal, take_evidence
from tasks.records import record_changes
from tasks.services import read_injected_files
from tasks.watching import Watch, watch_project

log = logging.getLogger("roas")

_AWAITED = {
    DependencyCondition.STARTED: Milestone.STARTED,
    DependencyCondition.HEALTHY: Milestone.HEALTHY,
    DependencyCondition.COMPLETED: Milestone.COMPLETED,
}


async def start_in_order(
    story: Story,
    environment: Environment,
    application: Application,
    *,
    plan: Plan | None = None,
    document: Mapping[str, Any] | None = None,
) -> tuple[ServiceStart, ...]:
    """Bring every service up, each as soon as what it depends on allows.

    `document` is the release's configuration that the containers were made from, where it was not the files.

    One service that fails does not stop the ones that do not need it: the record then shows the whole.

    Raises:
        StartFailedError: A required service did not come up; the first one that failed is named, since the
            later ones are often its consequence.
    """
    start = _Start(story, environment, application, await read_injected_files(environment, document))
    async with watch_project(environment) as start.watch:
        try:
            async with asyncio.timeout(environment.start_timeout_seconds):
                results = await asyncio.gather(*(start.one(service) for service in application.services.values()))
        except TimeoutError as error:
            await start.keep_evidence(start.awaited(), "the whole start took too long")
            raise StartFailedError(
                f"{environment.name} did not start within {environment.start_timeout_seconds:.0f} s, "
                f"still awaited: {', '.join(start.awaited())}",
                advice="see the logs of what was awaited, or raise start_timeout_seconds.",
            ) from error
    story.facts["waits"] = {one.service: round(one.waited_seconds, 3) for one in results}
    story.facts["kept"] = [one.service for one in results if one.kept]
    failed = [one for one in start.failures if environment.service(one.service).required]
    if failed:
        raise StartFailedError(
            f"{failed[0].service} did not start: {failed[0].reason.removeprefix(f'{failed[0].service}: ')}",
            advice=f"look at its log: docker compose -p {environment.project} logs {failed[0].service}",
            service=failed[0].service,
        )
    return tuple(results)


class _Start:
    """One start while it runs: who has reached which milestone."""

    def __init__(
        self,
        story: Story,
        environment: Environment,
        application: Application,
        files: dict[str, tuple[InjectedFile, ...]],
    ) -> None:
        self.watch = Watch()
        self.journal = ProbeJournal()
        self.failures: list[ServiceStart] = []
        self._story = story
        self._environment = environment
        self._application = application
        self._files = files
        self._reached = {(name, stone): asyncio.Event() for name in application.services for stone in Milestone}
        self._ended = {name: asyncio.Event() for name in application.services}

    def awaited(self) -> list[str]:
        return [name for name, ended in self._ended.items() if not ended.is_set()]

    async def keep_evidence(self, services: list[str], reason: str) -> None:
        """Keep what is to be seen of services that failed, before anything is undone or replaced."""
        await take_evidence(
            self._environment,
            self._application,
            services,
            deployment_id=self._story.deployment_id,
            reason=reason,
            journal=self.journal,
            occasion=Occasion.FAILURE,
        )

    async def one(self, declaration: ServiceDeclaration) -> ServiceStart:
        name, began = declaration.name, time.monotonic()
        lacking = await self._dependencies(declaration)
        waited = time.monotonic() - began
        try:
            result = self._not_tried(name, lacking, waited) if lacking else await self._bring_up(declaration, waited)
        finally:
            self._ended[name].set()
        if not result.ok:
            self.failures.append(result)
            log.error("%s failed after %.1f s: %s", name, result.took_seconds, result.reason)
        elif result.kept:
            log.info("%s kept: %s", name, result.reason)
        else:
            log.info("%s is %s after %.1f s: %s", name, result.state, result.took_seconds, result.reason)
        return result

    async def _dependencies(self, declaration: ServiceDeclaration) -> str | None:
        """Wait for what the service depends on; the sentence says which required one is lacking."""
        for name, needed in declaration.depends_on.items():
            if name not in self._application.services:
                if needed.required:
                    return f"it needs {name}, which is not part of this start"
                continue
            reached = self._reached[name, _AWAITED[needed.condition]]
            await _first(reached, self._ended[name])
            if needed.required and not reached.is_set():
                return f"it needs {name}, which did not become {_AWAITED[needed.condition].value}"
        return None

    async def _bring_up(self, declaration: ServiceDeclaration, waited: float) -> ServiceStart:
        name, began = declaration.name, time.monotonic()

        def reached(stone: Milestone) -> None:
            self._reached[name, stone].set()

        own = self._environment.service(name).start_timeout_seconds
        deadline = start_deadline(declaration).total_seconds() if own is None else own
        try:
            proof = await bring_up.with_options(name=name, task_run_name=name)(
                self._environment, declaration, self.watch, reached, self._files.get(name, ()), deadline, self.journal
            )
        except StartFailedError as error:
            await self.keep_evidence([name], error.what)
            proof = Proof(previous="", state="failed", reason=error.what, kept=False, ok=False)
        took = time.monotonic() - began
        if not proof.kept:
            await self._record(name, proof, waited, took)
        return ServiceStart(
            service=name,
            previous_state=proof.previous,
            state=proof.state,
            reason=proof.reason,
            kept=proof.kept,
            waited_seconds=waited,
            took_seconds=took,
            ok=proof.ok,
        )

    async def _record(self, name: str, proof: Proof, waited: float, took: float) -> None:
        await record_changes(
            [
                StateChange(
                    deployment_id=self._story.deployment_id,
                    service=name,
                    previous_state=proof.previous or None,
                    new_state=proof.state,
                    changed_at=datetime.now(UTC),
                    reason=proof.reason,
                    details={"waited_seconds": round(waited, 3), "took_seconds": round(took, 3)} | proof.facts,
                )
            ]
        )

    def _not_tried(self, name: str, why: str, waited: float) -> ServiceStart:
        return ServiceStart(
            service=name,
            previous_state="",
            state="not started",
            reason=why,
            kept=False,
            waited_seconds=waited,
            took_seconds=0.0,
            ok=False,
        )


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
