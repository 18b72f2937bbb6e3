"""Simulated agents: what the agents of many hosts read and write in the stores, each by a role of its own.

One thread a host, in a few processes. Each environment is collected and swept once a minute, as by default: what is
read for it, the samples and answers through the batch writer, the evaluation, the heartbeat of the watch. Each host
reports contact. What comes too late waits, and the lateness is measured: the machine cannot follow then.
"""

from __future__ import annotations

import heapq
import json
import multiprocessing
import random
import resource
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from adapters.stores import Stores
from adapters.stores.recovery_writes import read_records
from benchmarks.fleet_store import SAMPLED, SERVICES
from models.health import Health, HealthReport, ProbeResult
from models.hosts import CONTACT_EVERY, HostIdentity
from models.metrics import Metric
from models.records import EvaluationRecord
from models.settings import Settings
from tasks.monitoring.collect import read_state
from tasks.runtime.store_access import BUDGET_WINDOW

EVERY_SECONDS = 60.0
"""Between two collections of an environment, and between two sweeps of its watch."""
_STATE = bytes(200)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedHost:
    """A host, its environments, and the stores by its role."""

    number: int
    environments: list[str]
    stores_url: str


@dataclass(slots=True, kw_only=True)
class Took:
    """Milliseconds of each write and read, how late they began, and the processor seconds of the agents."""

    writes: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    collections: int = 0
    processor: float = 0.0
    troubles: list[str] = field(default_factory=list)

    def add(self, other: dict[str, object]) -> None:
        """Add what another process measured."""
        for name in ("writes", "reads", "late", "troubles"):
            getattr(self, name).extend(other[name])
        self.collections += int(str(other["collections"]))
        self.processor += float(str(other["processor"]))


def run_agents(hosts: list[SimulatedHost], folder: Path, seconds: float, processes: int = 2) -> Took:
    """Let the agents of hosts work for some seconds after they have opened their stores; what it took."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(min(processes, len(hosts)))
    parts = [hosts[place :: ready.parties] for place in range(ready.parties)]
    running = [
        context.Process(
            target=_run_part, args=(part, folder, seconds, ready, folder / f"took-{place}.json"), daemon=True
        )
        for place, part in enumerate(parts)
    ]
    for one in running:
        one.start()
    for one in running:
        one.join()
    took = Took()
    for place in range(ready.parties):
        took.add(json.loads((folder / f"took-{place}.json").read_text()))
    return took


def _run_part(hosts: list[SimulatedHost], folder: Path, seconds: float, ready: threading.Barrier, to: Path) -> None:
    took = Took()
    agents = [_Agent(one, folder, took) for one in hosts]
    ready.wait()
    used = _processor()
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=one.work, args=(until,)) for one in agents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took.processor = _processor() - used
    for one in agents:
        one.stores.close()
    to.write_text(
        json.dumps(
            {name: getattr(took, name) for name in ("writes", "reads", "late", "troubles", "collections", "processor")}
        )
    )


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class _Agent:
    def __init__(self, host: SimulatedHost, folder: Path, took: Took) -> None:
        self._host = host
        self._took = took
        self._identity = HostIdentity(host_id=f"h-{host.number:06}", name=f"host-{host.number}")
        self._collected: dict[str, datetime] = {}
        settings = Settings(data_dir=folder / f"agent-{host.number}", stores_url=host.stores_url)
        self.stores = Stores.open(settings)

    def work(self, until: float) -> None:
        """Do what is due until a moment."""
        now = time.monotonic()
        due: list[tuple[float, int, float, Callable[[], None]]] = []
        for place, name in enumerate(self._host.environments):
            for number, act in enumerate((self._collect, self._sweep)):
                at = now + random.random() * EVERY_SECONDS
                due.append((at, 2 * place + number, EVERY_SECONDS, lambda act=act, name=name: act(name)))  # type: ignore[misc]
        every = CONTACT_EVERY.total_seconds()
        due.append((now + random.random() * every, -1, every, self._contact))
        heapq.heapify(due)
        while True:
            at, number, again, act = heapq.heappop(due)
            if at >= until:
                return
            time.sleep(max(0.0, at - time.monotonic()))
            if time.monotonic() >= until:
                return
            self._took.late.append(time.monotonic() - at)
            try:
                act()
            except Exception as error:  # noqa: BLE001 - counted, and shown
                self._took.troubles.append(f"{type(error).__name__}: {error}"[:200])
            heapq.heappush(due, (at + again, number, again, act))

    def _timed(self, into: list[float], work: Callable[[], object]) -> None:
        began = time.perf_counter()
        work()
        into.append(1000 * (time.perf_counter() - began))

    def _collect(self, name: str) -> None:
        now = datetime.now(UTC)
        self._timed(self._took.reads, lambda: read_state(self.stores, name, now))
        metrics = [
            Metric(environment=name, service=service, name=metric, value=1.0, sampled_at=now)
            for service in SERVICES
            for metric in SAMPLED
        ]
        answers = [
            ProbeResult(service=one, kind="tcp", target="x", ok=True, detail="", checked_at=now, latency_ms=1)
            for one in SERVICES
        ]
        self.stores.writer.put_metrics(metrics)
        self.stores.writer.put_probes(answers, name)
        record = EvaluationRecord(
            environment=name,
            evaluated_at=now,
            states={(one.service, one.name): _STATE for one in metrics},
            health=HealthReport(environment=name, overall=Health.HEALTHY, checked_at=now, services=())
            if name not in self._collected
            else None,
        )
        self._collected[name] = now
        self._timed(self._took.writes, lambda: self.stores.evaluations.record(record))
        self._timed(self._took.writes, self.stores.writer.flush)
        self._took.collections += 1

    def _sweep(self, name: str) -> None:
        now = datetime.now(UTC)
        self._timed(self._took.reads, lambda: read_records(self.stores, name, now - BUDGET_WINDOW, now))
        self._timed(self._took.writes, lambda: self.stores.heartbeats.beat(f"watch/{name}", now))

    def _contact(self) -> None:
        self._timed(
            self._took.writes, lambda: self.stores.hosts.report(self._identity, version="1", engine="", backlog=0)
        )
        self._timed(self._took.reads, self.stores.hosts.has_news)


def spread(count: int, environments_a_host: int) -> dict[int, list[str]]:
    """The environments of each host by its number."""
    hosts = max(1, count // environments_a_host)
    return {one: [f"env-{place:05}" for place in range(one, count, hosts)] for one in range(hosts)}


LATE_SECONDS = timedelta(seconds=10).total_seconds()
"""Agents whose work begins later than this at the end were not followed."""
