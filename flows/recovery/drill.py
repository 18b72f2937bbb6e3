"""Drill: make one declared fault on purpose, and measure how it is detected, repaired and reported."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated

from prefect import flow
from pydantic import Field

from core.recovery.drills import DrillFacts, judge_drill, measure_drill, refuse_drill
from flows.common import parameters
from flows.common.judge_health import judge_now
from flows.operation.recorder import OperationRecorder, OperationRequest, record_operation
from models.compose import Application
from models.drills import DrillRecord, Drills, Fault
from models.failures import BadInputError, EngineError
from models.health import Health
from models.operations import OperationType
from models.results import OperationResult
from tasks.deployment.lease import alone_in
from tasks.deployment.operations import is_meant_to_run
from tasks.deployment.services import read_application
from tasks.monitoring.watch_lock import watcher_of
from tasks.recovery.drills import (
    end_drill,
    fault_places,
    keep_drill,
    make_fault,
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
    seconds: Annotated[float, Field(ge=1, le=3600)] = Field(
        60.0, description="So long after the fault it is undone at the latest."
    ),
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
        with alone_in(environment, "drill") as other:
            if other is not None:
                raise BadInputError(f"A drill of {environment} is open: {other};", advice="wait for its end.")
            if await end_drill(project) is not None or recorder.interrupted:
                raise BadInputError("A drill was cut off, and its fault is undone;", advice="look, and begin another.")
            if confirm != environment:
                raise BadInputError("The drill was not confirmed;", advice=f"give the name again: {environment}.")
            application = await read_application(project)
            begun = await _begin(recorder, application, service, fault, seconds)
            try:
                await make_fault(project, begun)
                log.info("drill: %s of %s", fault, service)
                begun = await _measure(project, application, begun)
            except BaseException:
                begun = begun.cut_off(datetime.now(UTC))
                raise
            finally:
                recorder.record.drill = begun
                await end_drill(project)
            log.info("drill: %s", begun.verdict)
    return recorder.result(begun.verdict, success=bool(begun.passed))


async def _begin(
    recorder: OperationRecorder, application: Application, service: str, fault: Fault, seconds: float
) -> DrillRecord:
    """Decide whether the drill may begin, and write down what undoes it."""
    environment, places = recorder.environment, await fault_places(recorder.project, service, fault)
    facts = DrillFacts(
        now=datetime.now(UTC),
        watcher=watcher_of(environment.name),
        health=await judge_now(recorder.project, application),
        places=places,
        troubles=await troubles(environment, service),
    )
    if (refused := refuse_drill(environment, service, fault, facts)) is not None or places is None:
        what, advice = refused or ("", "")
        raise BadInputError(what, advice=advice)
    now, its = datetime.now(UTC), {"deployment_id": recorder.deployment_id, "service": service, "fault": fault}
    drill = DrillRecord(**dict(places), **its, made_at=now, until=now + timedelta(seconds=seconds))
    await note_drill(drill)
    await keep_drill(environment.name, drill)
    return drill


async def _measure(project: Project, application: Application, drill: DrillRecord) -> DrillRecord:
    """Look at the records until all is measured; undo the fault at its end, or where a person came."""
    environment, name = project.environment, project.environment.name
    wanted, expected = environment.drills or Drills(faults=(drill.fault,)), "failures" in environment.notify_about
    expected = expected and bool(environment.notify)
    longest = max(wanted.detect_seconds, wanted.repair_seconds, wanted.message_seconds if expected else 0)
    last, ended = max(drill.until, drill.made_at + timedelta(seconds=longest)), False
    while (now := datetime.now(UTC)) < last and not ended:
        await asyncio.sleep(_LOOK_EVERY)
        if drill.healthy_at is None and drill.undone_at is None:
            ended = open_drill(name) is None or not await is_meant_to_run(name)
            if ended or now >= drill.until:
                await end_drill(project)
                drill = drill.model_copy(update={"undone_at": now})
        healthy = False
        if drill.healthy_at is None:
            with suppress(EngineError):
                healthy = (await judge_now(project, application)).overall is Health.HEALTHY
        drill = measure_drill(drill, await read_reports(name, drill.made_at), healthy=healthy, now=datetime.now(UTC))
        ended = ended or (drill.healthy_at is not None and (drill.message_at is not None or not expected))
    return judge_drill(drill, wanted, message_expected=expected)
