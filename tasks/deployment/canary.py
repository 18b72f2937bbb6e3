"""What a canary observes of services: their memory and the failures that their logs tell of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta

from adapters.pattern_files import shipped_set
from core.common.stamps import stamp_of, without_stamp
from core.deployment.canary import ANSWERS, MEMORY
from core.errors.classify import tells_of_failure
from core.monitoring.baselines import baseline
from models.containers import ContainerState
from models.environments import Environment
from models.failures import EngineError
from models.hooks import UsualErrors
from models.metrics import Baseline
from tasks.runtime.clients import engine_of
from tasks.runtime.retry_policy import in_thread, retry_read
from tasks.runtime.stores import open_stores

_LINES = 2000
_LOOK_BACK = timedelta(hours=1)


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
            if counted is not None and now > counted[1]:
                found[name] = UsualErrors(lines=counted[0], over=now - counted[1])
    return found


@retry_read
@in_thread
def error_lines(environment: Environment, services: Collection[str], since: datetime) -> Mapping[str, int]:
    """How many lines of each service's log tell of failures since then; without those that cannot be read."""
    found: dict[str, int] = {}
    for name in services:
        counted = [_count(environment, one, since) for one in _running(environment, name)]
        known = [one[0] for one in counted if one is not None]
        if known:
            found[name] = sum(known)
    return found


def _running(environment: Environment, service: str) -> list[ContainerState]:
    seen = engine_of(environment).containers.inspect_project(environment.project, service)
    return [one for one in seen if one.up and not one.one_off]


def _count(environment: Environment, seen: ContainerState, since: datetime) -> tuple[int, datetime] | None:
    """The number of lines that tell of failures, and since when they were read; None where no log can be read."""
    try:
        text = engine_of(environment).containers.logs(seen.container_id, _LINES, since)
    except EngineError:
        return None
    reader = shipped_set().reader
    lines = [(stamp_of(line), without_stamp(line)) for line in text.splitlines()]
    first = lines[0][0] if len(lines) >= _LINES else None
    failures = sum(tells_of_failure(said, reader) for at, said in lines if at is None or at > since)
    return failures, since if first is None else max(first, since)
