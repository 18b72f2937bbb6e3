"""Simulated workers: what the Prefect workers of many hosts, and their flow runs, ask of one Prefect server.

Each host is enrolled, and asks by its own credential, so that the checks in front of the API are measured as well: a
heartbeat every 30 s, the question for runs as often as workers of agents ask, a flow run an hour for each environment
with its states and log, and the page of each watch every quarter of an hour.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from adapters.server.host_keys import HostKeys
from models.enrolment import Membership
from tests.support.prefect_server import own_server

POLL_SECONDS = 1.0
"""Workers of agents ask every second: flows/agent/prefect_worker.py."""
_HEARTBEAT_SECONDS, _RUN_SECONDS, _PAGE_SECONDS = 30.0, 3600.0, 900.0
_STATES = ("PENDING", "RUNNING", "COMPLETED")
_TIMEOUT = 30.0


@contextmanager
def run_workers(home: Path, hosts: dict[int, list[str]], poll_seconds: float | None) -> Iterator[dict[str, Any]]:
    """Let the workers of all hosts ask a server while the body runs; the figures are there after it."""
    figures: dict[str, Any] = {}
    with own_server(home) as url:
        base = url.removesuffix("/api")
        members = [_enrolled(base, home, number) for number in hosts]
        load = _Load(url, members, hosts, poll_seconds or POLL_SECONDS)
        server = _server_process()
        used, at = _processor(server), time.monotonic()
        thread = threading.Thread(target=lambda: asyncio.run(load.run()))
        thread.start()
        try:
            yield figures
        finally:
            took = time.monotonic() - at
            load.ended.set()
            thread.join()
            figures["processor of the Prefect server, %"] = 100 * (_processor(server) - used) / took
            figures |= load.figures(took)


def _enrolled(base: str, home: Path, number: int) -> Membership:
    invited = HostKeys(home).invite(f"s{number}", datetime.now(UTC), timedelta(hours=1))
    asked = {"token": invited.token, "host": f"h-{number:06}", "version": "1"}
    answer = httpx.post(f"{base}/roas/enrol", json=asked, timeout=_TIMEOUT)
    return Membership.model_validate(answer.raise_for_status().json())


class _Load:
    def __init__(self, url: str, members: list[Membership], hosts: dict[int, list[str]], poll_seconds: float) -> None:
        self.ended = threading.Event()
        self._url = url
        self._poll_seconds = poll_seconds
        self._hosts = dict(zip((one.pool for one in members), hosts.values(), strict=True))
        self._members = members
        self._took: list[float] = []
        self._answers: Counter[int | str] = Counter()

    async def run(self) -> None:
        """Ask until it shall end."""
        running = [asyncio.create_task(self._host(one)) for one in self._members]
        await asyncio.to_thread(self.ended.wait)
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def figures(self, took: float) -> dict[str, float]:
        """Requests a second, their time, and those that were not answered well."""
        ordered = sorted(self._took) or [float("nan")]
        wrong = {
            f"answers of the Prefect server: {code}": n
            for code, n in self._answers.items()
            if code not in (200, 201, 204)
        }
        return {
            "requests to the Prefect server a second": len(self._took) / took,
            "requests a second that its hosts would make": self._wanted(),
            "a request to the Prefect server, median, ms": ordered[len(ordered) // 2],
            "a request to the Prefect server, 95th percentile, ms": ordered[round(0.95 * (len(ordered) - 1))],
            **wrong,
        }

    def _wanted(self) -> float:
        environments = sum(map(len, self._hosts.values()))
        runs = (1 + len(_STATES) + 2) / _RUN_SECONDS
        each_host = 1 / self._poll_seconds + 1 / _HEARTBEAT_SECONDS
        return len(self._hosts) * each_host + environments * (runs + 1 / _PAGE_SECONDS)

    async def _host(self, member: Membership) -> None:
        names, pool = self._hosts[member.pool], f"/work_pools/{member.pool}"
        async with httpx.AsyncClient(
            auth=(member.pool, member.key), base_url=self._url, timeout=_TIMEOUT, trust_env=False
        ) as client:
            token = (await client.get("/csrf-token", params={"client": member.pool})).json()
            client.headers["Prefect-Csrf-Client"] = member.pool
            client.headers["Prefect-Csrf-Token"] = token.get("token", "")

            async def ask(path: str, body: Any) -> Any:
                began = time.perf_counter()
                try:
                    answer = await client.post(path, json=body)
                    self._answers[answer.status_code] += 1
                    return answer.json() if answer.is_success and answer.content else None
                except httpx.HTTPError as error:
                    self._answers[type(error).__name__] += 1
                    return None
                finally:
                    self._took.append(1000 * (time.perf_counter() - began))

            beat = {"name": "worker", "heartbeat_interval_seconds": 30}
            await asyncio.gather(
                _again(_HEARTBEAT_SECONDS, lambda: ask(f"{pool}/workers/heartbeat", beat)),
                _again(self._poll_seconds, lambda: ask(f"{pool}/get_scheduled_flow_runs", {})),
                _again(_RUN_SECONDS / len(names), lambda: _flow_run(ask, random.choice(names))),
                _again(_PAGE_SECONDS / len(names), lambda: ask("/artifacts/", _page(random.choice(names)))),
            )


async def _again(every: float, ask: Callable[[], Awaitable[Any]]) -> None:
    await asyncio.sleep(random.random() * every)
    while True:
        began = time.monotonic()
        await ask()
        await asyncio.sleep(max(0.0, began + every - time.monotonic()))


async def _flow_run(ask: Callable[[str, Any], Awaitable[Any]], environment: str) -> None:
    flow = await ask("/flows/", {"name": "drift"})
    made = await ask("/flow_runs/", {"flow_id": flow["id"], "tags": [environment]}) if flow else None
    if made is None:
        return
    run = made["id"]
    for state in _STATES:
        await ask(f"/flow_runs/{run}/set_state", {"state": {"type": state, "name": state.capitalize()}, "force": False})
    line = {"name": "roas", "level": 20, "message": "x" * 100, "timestamp": datetime.now(UTC).isoformat()}
    await ask("/logs/", [line | {"flow_run_id": run}] * 10)


def _page(environment: str) -> dict[str, Any]:
    return {"key": f"watch-{environment}-{uuid.uuid4().hex[:4]}", "type": "markdown", "data": "x" * 300}


def _server_process() -> int:
    """The server that this process began."""
    from pathlib import Path as _Path

    children = _Path("/proc/self/task").glob("*/children")
    found = [int(one) for file in children for one in file.read_text().split()]
    named = [one for one in found if b"server_process" in _Path(f"/proc/{one}/cmdline").read_bytes()]
    return named[-1] if named else found[-1]


def _processor(process: int) -> float:
    from benchmarks.fleet_scale import processor_of_tree

    return processor_of_tree(process)
