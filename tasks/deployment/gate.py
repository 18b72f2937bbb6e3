"""The gate before an update: what policies judge, their answers, and scans of images."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapters.config.environments import environment_file
from adapters.gate.commands import judge_commands
from adapters.gate.expression_syntax import syntax_mistake
from adapters.gate.expressions import judge_expressions
from adapters.gate.scanners import ImageScanner, ScanCache, find_scanner
from core.deployment.gate import (
    CHANGED,
    gate_document,
    not_fetched,
    outcomes_of_policies,
    waits_for_images,
    without_secrets,
)
from core.deployment.scan import difference, not_scanned, scan_waits
from models.compose import Application, FetchOptions, ImageFact, Plan, PlannedAction
from models.environments import Environment
from models.failures import BadInputError, ScanFailedError
from models.gates import (
    LONGEST_EXPRESSION,
    GateOutcome,
    GatePolicy,
    GateReport,
    ImageScan,
    ImageScanResult,
    PolicyResult,
    ScanDifference,
    UpdateGate,
)
from models.settings import current_settings
from tasks.deployment.services import read_plan
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import EFFECT, retry_read
from tasks.runtime.task import task

log = logging.getLogger("roas")


def read_document(
    project: Project, application: Application, plan: Plan, *, pending: Sequence[str] = ()
) -> dict[str, Any]:
    """Read what the policies of an environment judge; no value of a secret is in it.

    The images of `pending` services are not fetched yet.

    Raises:
        EngineError: The engine did not answer, or refused.
    """
    engine = project.engine
    running: dict[str, ImageFact | None] = {}
    for container in project.inspect_containers():
        if not container.one_off and container.service not in running:
            running[container.service] = engine.images.inspect(container.image_id)
    new = {
        line.service: engine.images.inspect(application.services[line.service].image)
        if line.action in CHANGED
        else running.get(line.service)
        for line in plan.services
    }
    document = gate_document(
        project.environment.name, application, plan, new=new, running=running, now=datetime.now(UTC), pending=pending
    )
    redacted: dict[str, Any] = project.redactor().value(document)
    return redacted


@retry_read
async def gather_document(project: Project, application: Application, plan: Plan) -> dict[str, Any]:
    """Read the document once the images are fetched."""
    return await asyncio.to_thread(read_document, project, application, plan)


async def judge(
    environment: Environment,
    policies: Sequence[GatePolicy],
    document: Mapping[str, Any],
    pending: Sequence[str] = (),
) -> tuple[PolicyResult, ...]:
    """Judge policies; with `pending` services those that need their images wait for them."""
    ready_policies = [policy for policy in policies if not waits_for_images(policy, pending)]
    folder = await asyncio.to_thread(_folder_of_commands, environment)
    by_expression, by_command = await asyncio.gather(
        judge_expressions(ready_policies, document), judge_commands(ready_policies, document, folder)
    )
    return outcomes_of_policies(policies, by_expression | by_command, pending=pending)


def _folder_of_commands(environment: Environment) -> Path:
    """Where commands of policies run: of an environment with a source no revision may bring its own judge.

    Raises:
        EnvironmentFileError: The environment has no file any more.
    """
    if environment.source is None:
        return environment.compose_files[0].parent
    return environment_file(environment.name, current_settings()).absolute().parent


@task(name="judge policies", task_run_name="judge the policies of {environment.name}", **EFFECT)
async def judge_policies(environment: Environment, document: Mapping[str, Any]) -> tuple[PolicyResult, ...]:
    """Judge all policies of an environment, each within its own time."""
    gate = environment.gate
    return await judge(environment, gate.policies, document) if gate is not None else ()


def preview_gate(project: Project, plan: Plan) -> GateReport:
    """Judge before the fetch what can be judged then; the rest waits for the images, and so does the scan.

    Raises:
        RoasError: The Compose files cannot be read, or the engine did not answer.
    """
    environment = project.environment
    pending, gate = sorted(not_fetched(plan)), environment.gate or UpdateGate()
    document = read_document(project, project.compose().render(), plan, pending=pending)
    policies = asyncio.run(judge(environment, gate.policies, document, pending))
    waiting = tuple(scan_waits(line.service) for line in plan.changes if line.action in CHANGED)
    report = GateReport(
        environment=environment.name,
        policies=policies,
        scans=waiting if gate.scan is not None and gate.scan.program != "none" else (),
    )
    return without_secrets(report, project.redactor())


def policies_to_judge(environment: Environment, expression: str | None) -> tuple[GatePolicy, ...]:
    """The policies of an environment, or one of an expression that a user tries.

    Raises:
        BadInputError: The expression has a mistake in its syntax.
    """
    if expression is None:
        return environment.gate.policies if environment.gate else ()
    if not expression.strip() or len(expression) > LONGEST_EXPRESSION:
        raise BadInputError(
            f"An expression has 1 to {LONGEST_EXPRESSION} characters;", advice="give one like '!service.privileged'."
        )
    if (mistake := syntax_mistake(expression)) is not None:
        raise BadInputError(f"The expression cannot be used: {mistake};", advice="the guide has examples of CEL.")
    return (GatePolicy(name="try", expression=expression),)


def read_trial(project: Project) -> dict[str, Any]:
    """Read the document as if each service were replaced by the image of its name that the engine has now.

    Raises:
        RoasError: The Compose files cannot be read, or the engine did not answer.
    """
    compose = project.compose()
    application = compose.render()
    plan = read_plan(project, FetchOptions(update=True, fetched=True))
    lines = tuple(replace(line, action=PlannedAction.RECREATE) for line in plan.services)
    return read_document(project, application, replace(plan, services=lines))


def try_gate(project: Project, document: Mapping[str, Any], policies: Sequence[GatePolicy]) -> GateReport:
    """Judge policies on a document that `read_trial` gave."""
    results = asyncio.run(judge(project.environment, policies, document))
    return without_secrets(GateReport(environment=project.environment.name, policies=results), project.redactor())


@task(name="scan images", task_run_name="scan the images of {environment.name}", **EFFECT)
async def scan_images(
    environment: Environment, settings: ImageScan, images: Mapping[str, tuple[str, str | None]]
) -> tuple[ScanDifference, ...]:
    """Compare the known vulnerabilities of each service's new image with those of the one before.

    `images` are the ids of both by service. An image that cannot be scanned is named in the result.
    """
    try:
        scanner = find_scanner(settings, environment)
    except ScanFailedError as error:
        return tuple(not_scanned(name, settings, error.what) for name in images)
    if scanner is None:
        return ()
    scans = _Scans(scanner)
    return tuple([await scans.compare(name, settings, new, before) for name, (new, before) in images.items()])


class _Scans:
    """The scans of one update: each image is scanned once."""

    def __init__(self, scanner: ImageScanner) -> None:
        self._scanner = scanner
        self._cache = ScanCache(current_settings().data_dir)
        self._done: dict[str, ImageScanResult] = {}

    async def compare(self, service: str, settings: ImageScan, new: str, before: str | None) -> ScanDifference:
        """Compare the images of one service."""
        try:
            new_result = await self._scan(new)
            cached_result = None if before is None else self._done.get(before) or self._cached_result(before)
            old_result = cached_result or (None if before is None else await self._scan(before))
            decided = difference(service, settings, new_result, old_result)
            if cached_result is not None and before is not None and decided.outcome is not GateOutcome.PASSED:
                # What became known since the earlier scan is in both images.
                decided = difference(service, settings, new_result, await self._scan(before))
        except ScanFailedError as error:
            return not_scanned(service, settings, error.what)
        return decided

    def _cached_result(self, image_id: str) -> ImageScanResult | None:
        return self._cache.get(self._scanner.program, image_id)

    async def _scan(self, image_id: str) -> ImageScanResult:
        if image_id not in self._done:
            log.info("%s scans image %s", self._scanner.program, image_id.removeprefix("sha256:")[:12])
            self._done[image_id] = await self._scanner.scan(image_id)
            await asyncio.to_thread(self._cache.put, self._done[image_id])
        return self._done[image_id]
