"""Drill: make one declared fault on purpose, and measure how it is detected, repaired and reported."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from prefect import flow
from pydantic import Field

from core.recovery.drills import DrillFacts, is_over, judge_drill, measure_drill, refuse_drill
from flows.common import parameters
from flows.common.judge_health import judge_now
from flows.operation.recorder import OperationRecorder, OperationRequest, record_operation
from models.compose import Application
from models.drills import DrillRecord, Fault
from models.failures import BadInputError, EngineError
from models.health import Health
from models.operations import OperationType
from models.results import OperationResult
from tasks.deployment.operations import is_meant_to_run
from tasks.deployment.services import read_application
from tasks.monitoring.watch_lock import watcher_of
from tasks.recovery.drills import (
    drilling_alone,
    end_drill,
    fault_places,
    keep_drill,
    note_drill,
    open_drill,
    read_reports,
    troubles,
)
from tasks.runtime.project import Project

log = logging.getLogger("roas")

_LOOK_EVERY = 1.0


@flow(name="drill", flow_run_name="drill: {fault} of {service} in {environment}")
async def drill(
    environment: parameters.EnvironmentName = parameters.ENVIRONMENT,
    service: str = Field(description="The service that gets the fault, in one of its containers."),
    fault: Fault = Field(description="The fault; the environment's file must allow it under `drills`."),
    confirm: str = Field("", description="The environment's name again: what is broken is real."),
    seconds: float = Field(60.0, ge=1, le=3600, description="So long after the fault it is undone at the latest."),
    asked_by: str | None = parameters.ASKED_BY,
    deployment_id: str | None = parameters.DEPLOYMENT_ID,
    compose_files: parameters.ComposeFiles = parameters.COMPOSE_FILES,
) -> OperationResult:
    """Make one fault in a healthy environment that is watched, undo it at its end, and record the times beside their
    objectives. It holds no lease, since recovery does the work.

    Raises:
        BadInputError: It may not begin, or was not confirmed; nothing was touched.
    """
    request = OperationRequest(asked_by, deployment_id, compose_files)
    async with record_operation(OperationType.HEALTH_CHECK, environment, request) as recorder:
        project = await recorder.open()
        with drilling_alone(environment) as other:
            if other is not None:
                raise BadInputError(f"A drill of {environment} is open: {other};", advice="wait for its end.")
            if recorder.interrupted:
                await end_drill(project)
                return recorder.result("the drill was interrupted; its fault is undone", success=False)
            if open_drill(environment) is not None:
                raise BadInputError(
                    f"An earlier drill of {environment} is not undone;",
                    advice=f"undo it: roas drill {environment} --end.",
                )
            if confirm != environment:
                raise BadInputError("The drill was not confirmed;", advice=f"give the name again: {environment}.")
            application = await read_application(project)
            begun = await _begin(recorder, application, service, fault, seconds)
            try:
                await asyncio.to_thread(project.engine.faults.make, begun)
                log.info("drill: %s was made in %s of %s", fault, service, environment)
                begun = await _measure(project, application, begun)
            finally:
                await end_drill(project)
                recorder.record.drill = begun
            recorder.record.drill = judge_drill(begun)
            log.info("drill: %s", recorder.record.drill.verdict)
    return recorder.result(recorder.record.drill.verdict, success=bool(recorder.record.drill.passed))


async def _begin(
    recorder: OperationRecorder, application: Application, service: str, fault: Fault, seconds: float
) -> DrillRecord:
    """Decide whether the drill may begin, and write down what undoes it."""
    project, environment = recorder.project, recorder.environment
    found = await fault_places(project, service)
    facts = DrillFacts(
        now=datetime.now(UTC),
        watcher=watcher_of(environment.name),
        health=await judge_now(project, application),
        places=found[1] if found else None,
        troubles=await troubles(environment, service),
    )
    refused = refuse_drill(environment, service, fault, facts)
    if refused is not None or found is None or environment.drills is None:
        what, _, advice = (refused or "").partition("; ")
        raise BadInputError(f"{what};", advice=advice)
    now = datetime.now(UTC)
    drill = DrillRecord(
        deployment_id=recorder.deployment_id,
        service=service,
        fault=fault,
        container_id=found[0],
        made_at=now,
        until=now + timedelta(seconds=seconds),
        objectives=environment.drills.objectives,
        message_expected=bool(environment.notify) and "failures" in environment.notify_about,
        places=found[1],
    )
    await note_drill(drill)
    await asyncio.to_thread(keep_drill, environment.name, drill)
    return drill


async def _measure(project: Project, application: Application, drill: DrillRecord) -> DrillRecord:
    """Look at the records until all is measured, and undo the fault at its end, or where a person ends it."""
    wanted, name = drill.objectives, project.environment.name
    longest = max(wanted.detect_seconds, wanted.repair_seconds, wanted.message_seconds if drill.message_expected else 0)
    last = max(drill.until, drill.made_at + timedelta(seconds=longest))
    while (now := datetime.now(UTC)) < last and not is_over(drill):
        await asyncio.sleep(_LOOK_EVERY)
        ended = open_drill(name) is None or not await is_meant_to_run(name)
        if drill.undone_at is None and drill.healthy_at is None and (ended or now >= drill.until):
            await end_drill(project)
            drill = drill.model_copy(update={"undone_at": now})
        reports = await read_reports(name, drill.made_at)
        healthy = False
        if drill.healthy_at is None:
            try:
                healthy = (await judge_now(project, application)).overall is Health.HEALTHY
            except EngineError as error:
                log.info("drill: %s cannot be judged: %s", name, error)
        drill = measure_drill(drill, reports, healthy=healthy, now=datetime.now(UTC))
        if drill.undone_at is not None and (ended or drill.healthy_at is not None):
            break
    return drill
