"""What a canary observes of services: failures that their logs tell of, errors on record, and restarts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from adapters.pattern_files import shipped_set
from core.common.safe_text import printable, shorten
from core.common.stamps import stamp_of, without_stamp
from core.deployment.canary import ANSWERS, MEMORY
from core.errors.classify import classify, tells_of_failure
from core.monitoring.baselines import baseline
from models.containers import ContainerState
from models.environments import Environment
from models.errors import Category
from models.failures import EngineError
from models.hooks import UsualErrors
from models.metrics import Baseline
from tasks.runtime.clients import engine_of, redactor_of
from tasks.runtime.retry_policy import in_thread, retry_read
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
@in_thread
def learnt_baselines(environment: str, services: Collection[str]) -> dict[str, dict[str, Baseline]]:
    """What collections have learnt of the services' memory and answers, by service and metric.

    Raises:
        StoreError: It cannot be read.
    """
    states = open_stores().baselines.states(environment)
    found: dict[str, dict[str, Baseline]] = {name: {} for name in services}
    for name in services:
        for metric in (MEMORY, ANSWERS):
            known = baseline(states.get((name, metric)), service=name, metric=metric)
            if known is not None:
                found[name][metric] = known
    return found


@retry_read
@in_thread
def usual_errors(environment: Environment, services: Collection[str]) -> dict[str, UsualErrors]:
    """How often the logs of services told of failures in the last hour; without those that cannot be read.

    Raises:
        EngineUnreachableError: The engine did not answer.
    """
    now, found = datetime.now(UTC), dict[str, UsualErrors]()
    for name in services:
        for one in _running(environment, name)[:1]:
            since = max(now - _LOOK_BACK, one.started_at or now)
            counted = _count(environment, one, since)
            if counted is not None and now > counted.since:
                found[name] = UsualErrors(
                    lines=counted.lines, over=now - counted.since, patterns=frozenset(counted.patterns)
                )
    return found


@retry_read
@in_thread
def logged_failures(
    environment: Environment, services: Collection[str], since: datetime
) -> Mapping[str, LoggedFailures]:
    """What each service's log tells of failures since then; without those that cannot be read."""
    found: dict[str, LoggedFailures] = {}
    for name in services:
        counted = [_count(environment, one, since) for one in _running(environment, name)]
        known = [one for one in counted if one is not None]
        if known:
            patterns = {pattern: line for one in reversed(known) for pattern, line in one.patterns.items()}
            found[name] = LoggedFailures(lines=sum(one.lines for one in known), since=since, patterns=patterns)
    return found


@retry_read
@in_thread
def restarts(environment: Environment, services: Collection[str]) -> dict[str, dict[str, tuple[int, datetime | None]]]:
    """How often the engine has restarted each container, and when it was started last, by service and container."""
    seen = engine_of(environment).containers.inspect_project(environment.project)
    return {
        name: {one.name: (one.restart_count, one.started_at) for one in seen if one.service == name and not one.one_off}
        for name in services
    }


@retry_read
@in_thread
def errors_since(environment: str, services: Collection[str], since: datetime) -> dict[str, str]:
    """The first error that was recorded of each service since then, in words.

    Raises:
        StoreError: It cannot be read.
    """
    latest = open_stores().errors.latest(environment, _ERRORS)
    return {
        one.service: f"{one.error_id}, {one.verdict.category}: {shorten(one.text, _LONGEST)}"
        for one in latest
        if one.service is not None
        and one.service in services
        and one.first_seen >= since
        and not one.predictive
        and one.verdict.category is not Category.BENIGN
    }


def _running(environment: Environment, service: str) -> list[ContainerState]:
    seen = engine_of(environment).containers.inspect_project(environment.project, service)
    return [one for one in seen if one.up and not one.one_off]


def _count(environment: Environment, seen: ContainerState, since: datetime) -> LoggedFailures | None:
    """What a container's log tells of failures; None where it cannot be read."""
    try:
        text = engine_of(environment).containers.logs(seen.container_id, _LINES, since)
    except EngineError:
        return None
    shipped = shipped_set()
    lines = [(stamp_of(line), without_stamp(line)) for line in text.splitlines()]
    first = lines[0][0] if len(lines) >= _LINES else None
    failures = [said for at, said in lines if (at is None or at > since) and tells_of_failure(said, shipped.reader)]
    redactor, patterns = redactor_of(environment), dict[str, str]()
    for said in dict.fromkeys(failures):
        verdict = classify(said, shipped)
        if verdict.pattern_name and verdict.category is not Category.BENIGN:
            patterns.setdefault(verdict.pattern_name, shorten(printable(redactor.text(said)), _LONGEST))
    return LoggedFailures(lines=len(failures), since=since if first is None else max(first, since), patterns=patterns)
