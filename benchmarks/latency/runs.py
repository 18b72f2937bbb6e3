"""How soon a run begins that a server is asked for, and whether one is lost or runs twice."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sqlite3
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from benchmarks.latency.serving import UiServer, served
from benchmarks.measure import checked, report, stack

_AT_ONCE = 10
_READING_FLOWS = ("health-check", "drift", "collection", "report", "lifecycle")
"""Flows that change no container; each deployment has one run at a time, so runs at once need several."""

_NOT_OF_THE_RUN = ("prefect.flow_runs.worker", "prefect.flow_runs.runner", "prefect.runner")
"""Loggers of what starts the run, whose lines come before its process."""

_ENDS_WITHIN_SECONDS = 120.0
_ASKED_EVERY_SECONDS = 0.25
_LOG_COMES_WITHIN_SECONDS = 10.0
_MOST_MEDIAN = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRun:
    """A run that was asked for, as the server knows it afterwards; times in seconds since it was scheduled."""

    id: UUID
    state: str
    first_line: float | None
    running: float | None
    times_running: int


def runs(folder: Path, chosen: argparse.Namespace) -> None:
    """Runs one after the other, then several at once."""
    if chosen.api:
        server = UiServer(url=chosen.api, auth_string=os.environ.get("PREFECT_API_AUTH_STRING", ""), data=chosen.data)
        _measure(server, chosen.deployment, chosen.runs)
        return
    service = checked(interval="5s", timeout="3s", retries=3)
    with ExitStack() as held:
        # Two, because each deployment of an environment has one run at a time.
        for name in ("latency", "second"):
            made = held.enter_context(stack(folder, name, {"one": service, "two": service}))
            made.compose("up", "--detach", "--wait")
        server, _ = held.enter_context(served(folder, environments=2))
        _measure(server, "health-check/latency", chosen.runs)


def run_one_by_one(server: UiServer, deployment: str, count: int) -> list[LatencyRun]:
    """Ask a server for runs of a deployment, each once the one before it has ended."""
    with _prefect_of(server):
        return asyncio.run(_one_by_one(deployment, count))


def _measure(server: UiServer, deployment: str, count: int) -> None:
    _report(f"{count} runs of {deployment}", run_one_by_one(server, deployment, count), server.data, most=_MOST_MEDIAN)
    with _prefect_of(server):
        at_once = asyncio.run(_at_once())
    _report(f"{len(at_once)} runs at once", at_once, server.data)


@contextmanager
def _prefect_of(server: UiServer) -> Iterator[None]:
    # Prefect reads these when it is imported.
    os.environ |= {"PREFECT_LOGGING_LEVEL": "ERROR", "PREFECT_API_URL": server.url}
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: server.url, PREFECT_API_AUTH_STRING: server.auth_string}):
        yield
    del os.environ["PREFECT_API_URL"], os.environ["PREFECT_LOGGING_LEVEL"]


async def _one_by_one(name: str, count: int) -> list[LatencyRun]:
    from prefect import get_client

    async with get_client() as client:
        deployment = await client.read_deployment_by_name(name)
        # The first one also waits for what is imported and made once.
        await _one_run(client, deployment.id)
        chance, found = random.Random(5), []
        for _ in range(count):
            # At any moment between two times that the runner or worker asks for new runs.
            await asyncio.sleep(chance.uniform(0, 1))
            found.append(await _one_run(client, deployment.id))
        return found


async def _at_once() -> list[LatencyRun]:
    from prefect import get_client

    async with get_client() as client:
        return list(await asyncio.gather(*(_one_run(client, one) for one in await _deployments_that_read(client))))


async def _deployments_that_read(client: object) -> list[UUID]:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName

    assert isinstance(client, PrefectClient)
    flow_filter = FlowFilter(name=FlowFilterName(any_=list(_READING_FLOWS)))
    found = await client.read_deployments(flow_filter=flow_filter, limit=_AT_ONCE)
    return [one.id for one in found]


async def _one_run(client: object, deployment: UUID) -> LatencyRun:
    """Ask for a run as `prefect deployment run` does, and wait until it has ended."""
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.client.schemas.sorting import LogSort
    from prefect.states import Scheduled
    from prefect.types._datetime import now

    assert isinstance(client, PrefectClient)
    scheduled = now("UTC")
    made = await client.create_flow_run_from_deployment(deployment, state=Scheduled(scheduled_time=scheduled))
    deadline = time.monotonic() + _ENDS_WITHIN_SECONDS
    while time.monotonic() < deadline:
        await asyncio.sleep(_ASKED_EVERY_SECONDS)
        found = await client.read_flow_run(made.id)
        if found.state is not None and found.state.is_final():
            break
    states = await client.read_flow_run_states(made.id)
    running = [one.timestamp for one in states if one.is_running()]
    first_line: datetime | None = None
    log_filter = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[made.id]))
    deadline = time.monotonic() + _LOG_COMES_WITHIN_SECONDS
    # A run's process sends its lines in batches, the last one when it ends.
    while first_line is None and time.monotonic() < deadline:
        lines = await client.read_logs(log_filter=log_filter, sort=LogSort.TIMESTAMP_ASC, limit=20)
        first_line = next((one.timestamp for one in lines if not one.name.startswith(_NOT_OF_THE_RUN)), None)
        await asyncio.sleep(0 if first_line else _ASKED_EVERY_SECONDS)
    return LatencyRun(
        id=made.id,
        state=(found.state and found.state.name) or "without state",
        first_line=(first_line - scheduled).total_seconds() if first_line else None,
        running=(min(running) - scheduled).total_seconds() if running else None,
        times_running=len(running),
    )


def _report(what: str, found: Sequence[LatencyRun], data: Path | None, *, most: float | None = None) -> None:
    for name, times in (
        ("first line", [one.first_line for one in found if one.first_line is not None]),
        ("Running", [one.running for one in found if one.running is not None]),
    ):
        if len(times) > 1:
            until = f"{what}: scheduled to {name}"
            report(f"{until}, median", statistics.median(times), "s", most=most if name == "first line" else None)
            report("  95 of 100 within", statistics.quantiles(times, n=20, method="inclusive")[-1], "s")
            report("  the slowest", max(times), "s")
    lost = [one for one in found if one.state != "Completed"]
    report(f"{what}: lost", len(lost), most=0)
    for one in lost:
        print(f"  {one.id} is {one.state}")
    recorded = _operations(data) if data else {}
    twice = [one for one in found if one.times_running > 1 or recorded.get(str(one.id), 0) > 1]
    report(f"{what}: twice", len(twice), most=0)
    if data:
        print(f"  {sum(str(one.id) in recorded for one in found)} of them recorded an operation")


def _operations(data: Path) -> dict[str, int]:
    """How many operations each flow run has recorded."""
    counted: dict[str, int] = {}
    with closing(sqlite3.connect(f"file:{data}/deployment_logs.db?mode=ro", uri=True)) as store:
        for (details,) in store.execute("SELECT metadata FROM deployment_operations"):
            run = json.loads(details or "{}").get("flow_run_id") or ""
            counted[run] = counted.get(run, 0) + 1
    return counted
