"""What a canary observes of services: failures that their logs tell of, errors on record, and restarts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from adapters.pattern_files import shipped_set
from core.common.safe_text import printable, shorten
from core.common.stamps import stamp_of, without_stamp
from core.deployment.canary import ANSWERS, MEMORY
from core.errors.classify import classify, reports_failure
from core.monitoring.baselines import baseline
from models.containers import ContainerState, replicas
from models.errors import Category
from models.failures import EngineError
from models.hooks import UsualErrors
from models.metrics import Baseline
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import make_async, retry_read
from tasks.runtime.stores import open_stores

_LINES = 2000
_LOOK_BACK = timedelta(hours=1)
_ERRORS = 100
_LONGEST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedFailures:
    """How many lines of a log tell of failures since a moment, and a line of each error pattern that they match."""

    lines: int
    since: datetime
    patterns: Mapping[str, str]


@retry_read
@make_async
def learnt_baselines(environment: str, services: Collection[str]) -> dict[str, dict[str, Baseline]]:
    """What collections have learnt of the services' memory and answers, by service and metric.

    Raises:
        StoreError: It cannot be read.
    """
    states = open_stores().baselines.states(environment)
    baselines: dict[str, dict[str, Baseline]] = {name: {} for name in services}
    for name in services:
        for metric in (MEMORY, ANSWERS):
            metric_baseline = baseline(states.get((name, metric)), service=name, metric=metric)
            if metric_baseline is not None:
                baselines[name][metric] = metric_baseline
    return baselines


@retry_read
@make_async
def usual_errors(project: Project, services: Collection[str]) -> dict[str, UsualErrors]:
    """How often the logs of services told of failures in the last hour; without those that cannot be read.

    Raises:
        EngineUnreachableError: The engine did not answer.
    """
    now, by_service = datetime.now(UTC), dict[str, UsualErrors]()
    for name in services:
        for container in _running_containers(project, name)[:1]:
            since = max(now - _LOOK_BACK, container.started_at or now)
            counted = _count(project, container, since)
            if counted is not None and now > counted.since:
                by_service[name] = UsualErrors(
                    lines=counted.lines, over=now - counted.since, patterns=frozenset(counted.patterns)
                )
    return by_service


@retry_read
@make_async
def logged_failures(project: Project, services: Collection[str], since: datetime) -> Mapping[str, LoggedFailures]:
    """What each service's log tells of failures since then; without those that cannot be read."""
    by_service: dict[str, LoggedFailures] = {}
    for name in services:
        counted = [_count(project, container, since) for container in _running_containers(project, name)]
        all_failures = [failures for failures in counted if failures is not None]
        if all_failures:
            patterns = {
                pattern: line for failures in reversed(all_failures) for pattern, line in failures.patterns.items()
            }
            by_service[name] = LoggedFailures(
                lines=sum(failures.lines for failures in all_failures), since=since, patterns=patterns
            )
    return by_service


@retry_read
@make_async
def restarts(project: Project, services: Collection[str]) -> dict[str, dict[str, tuple[int, datetime | None]]]:
    """How often the engine has restarted each container, and when it was started last, by service and container."""
    container_states = project.inspect_containers()
    return {
        name: {
            container.name: (container.restart_count, container.started_at)
            for container in replicas(container_states, name)
        }
        for name in services
    }


@retry_read
@make_async
def errors_since(environment: str, services: Collection[str], since: datetime) -> dict[str, str]:
    """The first error that was recorded of each service since then, in words.

    Raises:
        StoreError: It cannot be read.
    """
    latest = open_stores().errors.latest(environment, _ERRORS)
    return {
        error.service: f"{error.error_id}, {error.verdict.category}: {shorten(error.text, _LONGEST)}"
        for error in latest
        if error.service is not None
        and error.service in services
        and error.first_seen >= since
        and not error.predictive
        and error.verdict.category is not Category.BENIGN
    }


def _running_containers(project: Project, service: str) -> list[ContainerState]:
    return [container for container in replicas(project.inspect_containers(service)) if container.up]


def _count(project: Project, container: ContainerState, since: datetime) -> LoggedFailures | None:
    """What a container's log tells of failures; None where it cannot be read."""
    try:
        text = project.engine.containers.logs(container.container_id, _LINES, since)
    except EngineError:
        return None
    shipped = shipped_set()
    lines = [(stamp_of(line), without_stamp(line)) for line in text.splitlines()]
    first = lines[0][0] if len(lines) >= _LINES else None
    failures = [
        message for at, message in lines if (at is None or at > since) and reports_failure(message, shipped.reader)
    ]
    redactor, patterns = project.redactor(), dict[str, str]()
    for message in dict.fromkeys(failures):
        verdict = classify(message, shipped)
        if verdict.pattern_name and verdict.category is not Category.BENIGN:
            patterns.setdefault(verdict.pattern_name, shorten(printable(redactor.text(message)), _LONGEST))
    return LoggedFailures(lines=len(failures), since=since if first is None else max(first, since), patterns=patterns)
