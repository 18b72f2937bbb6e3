"""The sample application while it lives: traffic, a past that was taught, and real rounds of collection."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import os
import random
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import yaml

from core.monitoring.assess import evaluate
from core.monitoring.evaluators import JUDGED
from core.monitoring.snapshot import Evaluation, Observation
from flows.deployment.startup import startup
from flows.monitoring.collection import collection
from models.environments import Environment
from models.health import ServiceVerdict
from models.metrics import HOST, Alert, Metric, Prediction
from models.records import EvaluationRecord
from models.results import CollectionReport, OperationResult
from tasks.runtime.clients import find_environment
from tasks.runtime.stores import open_stores
from tests.e2e.healing.scenes import SERVICES, Sample
from tests.support.prefect_server import temporary_server

A_PAST = timedelta(hours=26)
"""Longer than baselines want before they speak."""

_DENSE = timedelta(hours=2)
_WELL_WITHIN_SECONDS = 300
_REQUESTS_A_SECOND = 4.0
_ROUNDS_OF_OTHERS = 20
_OTHERS_TAKE = {"cpu_usage": 100.0, "load_1m": 120.0, "memory_usage": 60.0}
_OTHERS_DELAY = {"response_time": 600.0}


@dataclass(frozen=True, kw_only=True)
class Living(Sample):
    """The sample on a machine whose other work may make it slow."""

    def declare(self, services: Mapping[str, Any] | str = "", /, **fields: object) -> None:
        """Write what differs from the sample's own Compose file, and the environment."""
        super().declare(services, **fields)
        file = self.environments / f"{self.name}.yaml"
        environment = yaml.safe_load(file.read_text())
        environment["services"]["prometheus"]["dependencies"] = [{"service": "bot", "type": "optional"}]
        file.write_text(yaml.safe_dump(environment))

    async def start(self, every: timedelta) -> None:
        """Deploy it, to be collected that often."""
        await asyncio.to_thread(self.set_up)
        self.declare(collect_every_seconds=round(every.total_seconds()))
        result = await startup(self.name)
        assert isinstance(result, OperationResult)
        assert result.success, result.reason

    def wait_until_well(self) -> None:
        """Come back once every service is healthy again by its own check."""
        deadline = time.monotonic() + _WELL_WITHIN_SECONDS
        while any(self.state().containers[name][-1] != "healthy" for name in SERVICES):
            assert time.monotonic() < deadline, self.state().containers
            time.sleep(1)

    @contextmanager
    def traffic(self) -> Iterator[None]:
        """People who ask the bot now and then, as ordinary use is."""
        ended = threading.Event()
        asking = threading.Thread(target=_ask, args=(self.port, ended), daemon=True)
        asking.start()
        try:
            yield
        finally:
            ended.set()
            asking.join()


async def collect_each(
    name: str, every: timedelta, *, act: bool, goes_on: Callable[[int, CollectionReport], bool]
) -> list[CollectionReport]:
    """Real collections, one each time, as long as that says; a late one is not made up for."""
    reports: list[CollectionReport] = []
    due = time.monotonic()
    while not reports or goes_on(len(reports), reports[-1]):
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        due = max(due + every.total_seconds(), time.monotonic())
        reports.append(await collection(name, act=act))
    return reports


def teach_a_past(
    name: str, measured: Sequence[CollectionReport], every: timedelta, until: datetime, *, grown: str = ""
) -> list[str]:
    """Collect a past in which all values are as measured, repeated over and over.

    Others work on this machine too, so every other while it was busier than measured, up to all there is, and the
    services answered later, by up to 0.6 s. `grown` is a metric of the host that has grown to
    what it is. What that past told is given back: where nothing has grown it was ordinary, and that is nothing.
    """
    environment = find_environment(name)
    looks = [_look(environment, report) for report in measured if report.health is not None]
    states: Mapping[tuple[str, str], bytes] = {}
    outcome: Evaluation | None = None
    reported: list[str] = []
    predictions: list[Prediction] = []
    for number, at in enumerate(_moments(until, every)):
        metrics, verdicts = looks[number % len(looks)]
        then = [_then(one, at, number) for one in metrics]
        share = 1 - (until - at) / A_PAST
        then = [replace(one, value=(1 + 5 * share) / 6 * one.value) if one.name == grown else one for one in then]
        outcome = evaluate(
            states,
            Observation(at=at, metrics=then, verdicts=verdicts),
            environment=environment,
            predictions=predictions,
        )
        states = {**states, **outcome.states}
        predictions += outcome.predictions
        reported += [f"{one.alert.service} {one.alert.reason}" for one in outcome.events]
    assert outcome is not None
    open_stores().evaluations.record(
        EvaluationRecord(
            environment=name,
            evaluated_at=outcome.at,
            states=states,
            baselines=outcome.baselines,
            alerts=outcome.alerts,
            predictions=predictions,
        )
    )
    return reported


def alerts_of(name: str) -> list[Alert]:
    """All alerts there are, the oldest first."""
    return sorted(open_stores().alerts.latest(name), key=lambda one: one.opened_at)


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder in which all of it lies: the environments, and the stores in `data`."""
    with tempfile.TemporaryDirectory(prefix="roas-living-") as folder:
        os.environ |= {"ROAS_DATA_DIR": f"{folder}/data", "ROAS_ENVIRONMENTS_DIR": folder}
        yield Path(folder)


def run(live: Callable[[], Sequence[str]]) -> NoReturn:
    """Run it on a Prefect server of its own and print what differs; exit with 1 if anything does."""
    logging.disable(logging.INFO)
    with temporary_server():
        complaints = live()
    for complaint in complaints:
        print(f"NOT AS EXPECTED: {complaint}")
    print(f"not as expected: {len(complaints)}")
    sys.exit(1 if complaints else 0)


def _look(environment: Environment, report: CollectionReport) -> tuple[list[Metric], Sequence[ServiceVerdict]]:
    assert report.health is not None
    at = report.health.checked_at
    metrics = [
        Metric(environment=environment.name, service=service, name=metric, value=value, sampled_at=at)
        for service, values in report.metrics.items()
        for metric, value in values.items()
        if metric in JUDGED or metric == "restarts_total"
    ]
    return metrics, report.health.services


def _moments(until: datetime, every: timedelta) -> list[datetime]:
    """When the rounds of the past were: the last hours as often as now, before that each minute."""
    began, dense, step = until - A_PAST, until - _DENSE, max(every, timedelta(minutes=1))
    sparse = [began + number * step for number in range((dense - began) // step)]
    return sparse + [until - number * every for number in range(_DENSE // every, 0, -1)]


def _then(metric: Metric, at: datetime, number: int) -> Metric:
    """The metric as it was at another time."""
    others = number // _ROUNDS_OF_OTHERS * 7 % 10 / 9
    most = (_OTHERS_TAKE if metric.service == HOST else _OTHERS_DELAY).get(metric.name, 0.0)
    value = max(metric.value, most * others * random.Random(number).uniform(0.8, 1.0))
    return replace(metric, sampled_at=at, value=value)


def _ask(port: int, ended: threading.Event) -> None:
    chance = random.Random()
    while not ended.wait(chance.expovariate(_REQUESTS_A_SECOND)):
        # A bot that is ill refuses, or hangs up: so do people see it, and ask again.
        with contextlib.suppress(OSError, http.client.HTTPException):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10).close()
