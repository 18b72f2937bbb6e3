"""Canary: observe a new release for a while, and say whether it is worse than usual."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from core.common.dependencies import dependencies_of
from core.common.safe_text import shorten
from core.deployment.canary import Bounds, CanaryVerdict, judge_canary, observed_services
from core.deployment.hooks import minutes_in_words
from flows.common.judge_health import judge_now
from flows.update.context import Update
from models.failures import EngineError, StoreError
from models.health import UNHEALTHY_STATES
from models.hooks import CanarySample, CanarySpec, UsualErrors
from models.metrics import Baseline
from models.operations.record import CanaryRecord
from tasks.deployment.canary import errors_since, learnt_baselines, logged_failures, restarts, usual_errors
from tasks.monitoring.collect import sample_services

log = logging.getLogger("roas")

USUAL = "observed for the canary"
"""Step of an update: how often logs told of failures before; its detail is the lines and seconds by service."""

_OBSERVATIONS = 20
_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.5, 15.0
_REPORT_EVERY_SECONDS = 60.0


ContainerStarts = Mapping[str, tuple[int, datetime | None]]
"""How often each container was restarted, and when it was started last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _CanaryStart:
    """When a canary began, and how often the containers of its services had been restarted by then."""

    at: datetime
    restarts: Mapping[str, ContainerStarts]


async def remember_usual_errors(update: Update) -> str | None:
    """Count how often the logs tell of failures while the old containers are there; the detail of its step."""
    recorder = update.recorder
    if recorder.step_detail(USUAL) is not None:
        return None
    try:
        errors_by_service = await usual_errors(recorder.project, _observed_services(update))
    except EngineError as error:
        log.warning("how often failures were logged before is not known: %s", error)
        return None
    detail = {
        name: (errors.lines, errors.over.total_seconds(), tuple(sorted(errors.patterns or ())))
        for name, errors in errors_by_service.items()
    }
    recorder.record.errors_before = detail
    return json.dumps(detail)


def _observed_services(update: Update) -> tuple[str, ...]:
    dependencies = dependencies_of(update.environment, update.application)
    return observed_services(update.application, dependencies, update.changed_services)


async def observe(update: Update, spec: CanarySpec) -> CanaryVerdict:
    """Observe the changed services and those that depend on them, until the time is over or one is worse than usual.

    The figures go into the record.
    """
    recorder = update.recorder
    services, words = _observed_services(update), minutes_in_words(spec.minutes)
    bounds = await _bounds(update, services)
    seconds = 60 * spec.minutes
    every = min(max(seconds / _OBSERVATIONS, _SHORTEST_SECONDS), _LONGEST_SECONDS)
    began, reported, samples = time.monotonic(), 0, list[CanarySample]()
    since = datetime.now(UTC)
    start = _CanaryStart(at=since, restarts=await _starts(update, services))
    while True:
        await asyncio.sleep(max(0.0, min(every, began + seconds - time.monotonic())))
        now = datetime.now(UTC)
        try:
            samples += await _sample(update, services, since, now, start)
            since = now
        except EngineError as error:
            # What happened meanwhile is in the logs, so the next observation counts it.
            log.warning("canary: an observation is missing: %s", error)
        passed = time.monotonic() - began
        verdict = judge_canary(samples, bounds, words=words, over=passed >= seconds)
        recorder.record.canary = CanaryRecord(
            minutes=spec.minutes,
            observed_seconds=round(passed, 1),
            services=services,
            passed=verdict.passed,
            verdict=verdict.why,
            figures=verdict.figures,
        )
        if verdict.passed is not None:
            (log.info if verdict.passed else log.error)("canary: %s", verdict.why)
            return verdict
        if passed // _REPORT_EVERY_SECONDS > reported:
            reported = int(passed // _REPORT_EVERY_SECONDS)
            log.info("canary: %d of %s, %s", reported, words, verdict.why)


async def _bounds(update: Update, services: tuple[str, ...]) -> dict[str, Bounds]:
    environment, recorder = update.environment, update.recorder
    usual: Mapping[str, Mapping[str, Baseline]] = {}
    try:
        usual = await learnt_baselines(environment.name, services)
    except StoreError as error:
        log.warning("canary: what was learnt of %s cannot be read: %s", environment.name, error)
    detail = recorder.step_detail(USUAL)
    before = json.loads(detail) if detail is not None else recorder.record.errors_before
    bounds = {
        name: Bounds(
            usual=usual.get(name, {}),
            limits=environment.service(name).limits,
            errors=_usual(before[name]) if name in before else None,
        )
        for name in services
    }
    if not any(baseline.warning is not None for baselines in usual.values() for baseline in baselines.values()):
        log.info("canary: no baseline of %s is learnt yet, so limits and health decide", ", ".join(services))
    return bounds


async def _starts(update: Update, services: tuple[str, ...]) -> Mapping[str, ContainerStarts]:
    try:
        return await restarts(update.project, services)
    except EngineError as error:
        log.warning("canary: restarts of %s are not known: %s", ", ".join(services), error)
        return {}


def _usual(counts: Sequence[Any]) -> UsualErrors:
    """What was counted before the update; a record of an earlier version has no patterns."""
    return UsualErrors(
        lines=counts[0], over=timedelta(seconds=counts[1]), patterns=frozenset(counts[2]) if len(counts) > 2 else None
    )


async def _errors_on_record(environment: str, services: tuple[str, ...], since: datetime) -> dict[str, str]:
    try:
        return await errors_since(environment, services, since)
    except StoreError as error:
        log.warning("canary: errors of %s cannot be read: %s", environment, error)
        return {}


def _describe_restarts(before: ContainerStarts, now: ContainerStarts) -> str:
    for name, (count, at) in now.items():
        count_before, at_before = before.get(name, (count, at))
        if count > count_before:
            return f"the engine restarted {name} {_times(count - count_before)}"
        if at != at_before:
            return f"{name} was started again"
    return ""


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


async def _sample(
    update: Update, services: tuple[str, ...], since: datetime, now: datetime, start: _CanaryStart
) -> list[CanarySample]:
    environment = update.environment
    health, used, logged, recorded, counted = await asyncio.gather(
        judge_now(update.project, update.application, probed_services=services),
        sample_services(update.project),
        logged_failures(update.project, services, since),
        _errors_on_record(environment.name, services, start.at),
        restarts(update.project, services),
    )
    verdicts = {verdict.service: verdict for verdict in health.services}
    samples = []
    for name in services:
        usages, verdict = [usage for usage in used if usage.service == name], verdicts.get(name)
        limit = sum(usage.memory_limit_bytes for usage in usages)
        answers = [probe.latency_ms for probe in verdict.probes if probe.latency_ms is not None] if verdict else []
        unhealthy = verdict is not None and verdict.health in UNHEALTHY_STATES and environment.service(name).required
        failures = logged.get(name)
        samples.append(
            CanarySample(
                service=name,
                at=now,
                seconds=(now - since).total_seconds(),
                memory_percent=100.0 * sum(usage.memory_bytes for usage in usages) / limit if limit else None,
                response_ms=max(answers, default=None),
                error_lines=failures.lines if failures is not None else None,
                patterns=failures.patterns if failures is not None else {},
                problem=shorten(verdict.reason) if verdict is not None and unhealthy else "",
                recorded=recorded.get(name, ""),
                restarted=_describe_restarts(start.restarts.get(name, {}), counted.get(name, {})),
            )
        )
    return samples
