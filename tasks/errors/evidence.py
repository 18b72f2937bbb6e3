"""Evidence: gathered side by side before anything is replaced, redacted before anything is written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx
from prefect.artifacts import acreate_markdown_artifact
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectHTTPStatusError
from pydantic import TypeAdapter

from adapters.docker.memory_signs import memory_signs
from adapters.host.machine import sample_host
from adapters.pattern_files import shipped_set
from adapters.stores.recovery_writes import KeepEvidence
from core.common.dependencies import dependencies_of, needs_of, reachable
from core.common.stamps import moment_of
from core.errors.evidence import container_evidence, first_cause
from core.errors.evidence_page import page
from core.errors.evidence_size import excerpt, fit_bundle
from models.compose import Application
from models.containers import ContainerEvent, ContainerState, SystemSample, replicas
from models.environments import Environment
from models.evidence import EvidenceBundle, EvidenceOccasion, MemorySigns, ProbeOutput
from models.failures import ImageFetchError, RoasError, StoreError
from models.health import ProbeResult
from models.settings import current_settings
from tasks.runtime.identifiers import new_evidence_id
from tasks.runtime.naming import artifact_key
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import READ, WRITE
from tasks.runtime.shown_later import show_later
from tasks.runtime.store_access import to_stores
from tasks.runtime.stores import open_stores
from tasks.runtime.task import task

log = logging.getLogger("roas")

_LOG_LINES = 200
_EVENTS = 200
_LOOK_BACK = timedelta(minutes=15)
_PAGE_SECONDS = 3
_PART_SECONDS = 20
"""Time limit of one part, so that a part that hangs does not use up the task's time."""

_CUT_BY_ENGINE = 4096
_LONGEST_SECRET = 512

_ANSWERS = 100
_FIRST_ANSWERS = 20

_bundles = TypeAdapter(EvidenceBundle)
Part = TypeVar("Part")


class ProbeJournal:
    """Answers of health checks and probes as they came: the engine keeps the last five only.

    A repeated answer is counted. Of very many different answers of a service the first and the latest are kept.
    """

    def __init__(self) -> None:
        self._answers: dict[str, list[ProbeOutput]] = {}
        self._known: dict[str, frozenset[str]] = {}
        self.standing: dict[str, str] = {}
        """Why each service is still waited for, as it was seen last."""

    def note_health_log(self, container_states: Iterable[ContainerState]) -> None:
        """Keep the new answers in the engine's log of each container's health check."""
        for container in container_states:
            recorded_ends = self._known.get(container.container_id, frozenset())
            for entry in container.health_log:
                if entry.ended_at not in recorded_ends:
                    code = "" if entry.exit_code == 0 else f"exit code {entry.exit_code}"
                    output = _whole(entry.output).strip()
                    self._keep(
                        container.service,
                        f"health check of {container.name}",
                        entry.exit_code == 0,
                        ": ".join(filter(None, (code, output))),
                        moment_of(entry.ended_at) or container.seen_at,
                    )
            if container.health_log:
                self._known[container.container_id] = frozenset(entry.ended_at for entry in container.health_log)

    def keep_answer(self, answer: ProbeResult) -> None:
        """Keep an answer of the environment's own probe of a service."""
        self._keep(answer.service, f"{answer.kind} probe", answer.ok, answer.detail, answer.checked_at)

    def outputs_of(self, service: str) -> tuple[ProbeOutput, ...]:
        """Return every answer of a service in order."""
        return tuple(self._answers.get(service, ()))

    def _keep(self, service: str, source: str, ok: bool, output: str, at: datetime) -> None:
        answers = self._answers.setdefault(service, [])
        place = next((i for i in range(len(answers) - 1, -1, -1) if answers[i].source == source), None)
        if place is not None and (answers[place].ok, answers[place].output) == (ok, output):
            answers[place] = replace(answers[place], last_at=at, times=answers[place].times + 1)
            return
        answers.append(ProbeOutput(service=service, source=source, ok=ok, output=output, first_at=at, last_at=at))
        if len(answers) > _ANSWERS:
            del answers[_FIRST_ANSWERS]


def _whole(output: str) -> str:
    """Return an answer without its end where the engine cut it, since half a secret is not recognised."""
    if len(output.encode()) < _CUT_BY_ENGINE:
        return output
    return output.rpartition("\n")[0] or output[:-_LONGEST_SECRET]


@task(name="collect evidence", task_run_name="collect evidence: {occasion}", **READ)
async def take_evidence(
    project: Project,
    application: Application | None,
    services: Sequence[str],
    *,
    deployment_id: str | None,
    reason: str,
    journal: ProbeJournal | None = None,
    occasion: EvidenceOccasion = EvidenceOccasion.REPLACEMENT,
    page_later: bool = False,
) -> list[str]:
    """Store evidence of services and their dependencies; return the ids of the bundles.

    With `page_later` an operation goes on while its page is made.
    Nothing here raises: a part that cannot be read is named in the bundle as missing, and a store error is logged.
    """
    bundles = await _take(project, application, services, deployment_id, reason, occasion, journal)
    await _keep(project.environment, bundles, page_later=page_later)
    return [bundle.bundle_id for bundle in bundles]


@task(name="collect evidence of the failure", **READ)
async def failure_evidence(
    project: Project,
    application: Application | None,
    service: str | None,
    *,
    deployment_id: str | None,
    reason: str,
    keep: bool = True,
) -> list[EvidenceBundle]:
    """Return the evidence stored when a service failed in this operation; without any, take and store it now.

    Without a service, return the evidence of all services that failed in the operation. With `keep` False
    `record_error` stores it and `show_evidence` shows it.
    """
    recorded_bundles = [] if deployment_id is None else await asyncio.to_thread(_kept_bundles, deployment_id)
    if service is None:
        return recorded_bundles
    service_bundles = [bundle for bundle in recorded_bundles if bundle.service == service]
    if service_bundles:
        return service_bundles[-1:]
    new_bundles = await _take(project, application, [service], deployment_id, reason, EvidenceOccasion.FAILURE)
    if keep:
        await _keep(project.environment, new_bundles)
    return new_bundles


@task(name="store the output of the fetch", **WRITE)
async def keep_fetch_evidence(project: Project, failure: ImageFetchError, *, deployment_id: str) -> None:
    """Store as evidence of a service what was printed while its image was pulled or built.

    Nothing here raises: a store error is logged.
    """
    redactor, now = await asyncio.to_thread(project.redactor), datetime.now(UTC)
    fetch = f"{failure.kind} of {failure.service}"
    bundle = EvidenceBundle(
        bundle_id=new_evidence_id(now),
        environment=project.environment.name,
        deployment_id=deployment_id,
        service=failure.service,
        taken_at=now,
        occasion=EvidenceOccasion.FAILURE,
        reason=f"the {fetch} failed",
        first_cause=f"the image of {failure.service} could not be fetched, and no container was touched",
        cause_service=failure.service,
        logs=(excerpt(failure.service, fetch, redactor.text(failure.output or failure.what), _LOG_LINES),),
    )
    await _keep(project.environment, [fit_bundle(bundle)])


@task(name="show the evidence", **WRITE)
async def show_evidence(environment: str, bundles: Sequence[EvidenceBundle]) -> None:
    """Publish a page of evidence as an artifact of the run."""
    if FlowRunContext.get() is None or not bundles:
        return
    key = artifact_key("evidence", environment)
    try:
        # A client whose server is away tries for a minute, in which the next failure would count as one at once.
        async with asyncio.timeout(_PAGE_SECONDS):
            await acreate_markdown_artifact(
                page(bundles), key=key, description=f"Evidence of {', '.join(bundle.service for bundle in bundles)}"
            )
    except (httpx.HTTPError, OSError, ValueError, PrefectHTTPStatusError) as error:
        log.warning("the page of evidence was not made: %s", error or type(error).__name__)


@dataclass(slots=True)
class _Gathered:
    """Parts of evidence; `missing` names those that could not be read, and why."""

    container_states: list[ContainerState] = field(default_factory=list)
    events: list[ContainerEvent] | None = None
    host: SystemSample | None = None
    logs: dict[str, str] = field(default_factory=dict)
    signs: dict[str, MemorySigns] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    async def part(self, name: str, get: Callable[[], Part]) -> Part | None:
        try:
            async with asyncio.timeout(_PART_SECONDS):
                return await asyncio.to_thread(get)
        except TimeoutError:
            self.missing.append(f"{name}: no answer within {_PART_SECONDS} s")
        except (RoasError, OSError) as error:
            self.missing.append(f"{name}: {error.what if isinstance(error, RoasError) else error}")
        return None


async def _take(
    project: Project,
    application: Application | None,
    services: Sequence[str],
    deployment_id: str | None,
    reason: str,
    occasion: EvidenceOccasion,
    journal: ProbeJournal | None = None,
) -> list[EvidenceBundle]:
    needs = needs_of(dependencies_of(project.environment, application))
    scopes = {service: (service, *reachable(service, needs)) for service in services}
    gathered = await _gather(project, {name for scope in scopes.values() for name in scope})
    answers = journal or ProbeJournal()
    answers.note_health_log(gathered.container_states)
    redactor = await asyncio.to_thread(project.redactor)
    clean = {container: redactor.text(text) for container, text in gathered.logs.items()}
    now, bundles = datetime.now(UTC), []
    declared = application.services if application else {}
    for service, scope in scopes.items():
        left = [f"{name}: {one}" for name in scope if name in declared for one in declared[name].left_aside]
        containers = [
            container for name in scope for container in gathered.container_states if container.service == name
        ]
        bundle = EvidenceBundle(
            bundle_id=new_evidence_id(now),
            environment=project.environment.name,
            deployment_id=deployment_id,
            service=service,
            taken_at=now,
            occasion=occasion,
            reason=reason,
            first_cause="",
            cause_service=service,
            containers=tuple(
                container_evidence(
                    container, gathered.signs.get(container.container_id, MemorySigns()), gathered.events
                )
                for container in containers
            ),
            probes=tuple(answer for name in scope for answer in answers.outputs_of(name)),
            events=tuple(gathered.events or ()),
            host=gathered.host,
            missing=(*gathered.missing, *left),
        )
        plain: dict[str, Any] = _bundles.dump_python(bundle, mode="json")
        # The logs were redacted whole, since a secret may have many lines.
        logs = tuple(
            excerpt(container.service, container.name, clean[container.container_id], _LOG_LINES)
            for container in containers
            if container.container_id in clean
        )
        bundle = replace(_bundles.validate_python(redactor.value(plain)), logs=logs)
        cause, sentence = first_cause(service, needs, bundle.containers, bundle.logs, bundle.probes, shipped_set())
        bundles.append(fit_bundle(replace(bundle, cause_service=cause, first_cause=sentence)))
    return bundles


async def _gather(project: Project, services: set[str]) -> _Gathered:
    environment = project.environment
    gathered, engine = _Gathered(), project.engine
    # A figure of this machine says nothing about an engine on another one.
    here = environment.engine.startswith("unix://")
    until = datetime.now(UTC)

    def events() -> list[ContainerEvent]:
        with engine.events.stream(environment.project, until - _LOOK_BACK, until) as stream:
            return list(stream)[-_EVENTS:]

    async def container(container_state: ContainerState) -> None:
        name = container_state.container_id
        if container_state.state != "created":
            written = await gathered.part(
                f"log of {container_state.name}", lambda: engine.containers.logs(name, _LOG_LINES)
            )
            if written is not None:
                gathered.logs[name] = written
        if here:
            gathered.signs[name] = (
                await gathered.part(f"memory signs of {container_state.name}", lambda: memory_signs(name))
                or MemorySigns()
            )

    if not here:
        gathered.missing.append(f"host and memory signs: engine {environment.engine} is on another machine")
    container_states, gathered.events, gathered.host = await asyncio.gather(
        gathered.part("containers", lambda: project.inspect_containers()),
        gathered.part("events of the engine", events),
        gathered.part("host", lambda: sample_host(current_settings().data_dir, until)) if here else asyncio.sleep(0),
    )
    gathered.container_states = [
        container_state for container_state in replicas(container_states or ()) if container_state.service in services
    ]
    await asyncio.gather(*(container(container_state) for container_state in gathered.container_states))
    return gathered


async def _keep(environment: Environment, bundles: Sequence[EvidenceBundle], *, page_later: bool = False) -> None:
    shown = show_evidence.fn(environment.name, bundles)
    if page_later:
        show_later("the page of evidence", shown)
    try:
        await asyncio.gather(to_stores(KeepEvidence(bundles=tuple(bundles))), *(() if page_later else (shown,)))
    except StoreError as error:
        log.warning("evidence of %s was not kept: %s", ", ".join(bundle.service for bundle in bundles), error)


def _kept_bundles(deployment_id: str) -> list[EvidenceBundle]:
    bundles = open_stores().evidence.find(deployment_id=deployment_id)
    return [bundle for bundle in bundles if bundle.occasion is EvidenceOccasion.FAILURE]
