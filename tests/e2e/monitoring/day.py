"""A day of collection in which the engine, Redis and the disk are away for a while, on a clock of its own."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from core.monitoring.assess import RememberedState, SourceAnswers, assess
from core.monitoring.snapshot import Evaluation
from flows.monitoring.collection import ask_sources
from models.analysis import AlertChange
from models.environments import Environment
from models.failures import StoreError
from tasks.monitoring.collect import read_memory, store_round, update_cache
from tasks.runtime.plain_tasks import without_task_runs
from tasks.runtime.project import Project
from tasks.runtime.stores import open_stores
from tests.e2e.monitoring.simulated import simulated
from tests.integration.adapters.test_redis_cache import PASSWORD, RedisProcess
from tests.support.engines import IMAGE, OwnEngine
from tests.support.small_disk import disk_of, fill

EVERY = timedelta(seconds=15)
SERVICES = ("bot", "redis", "web")
_RUN_AGAIN_WITHIN_SECONDS = 300


class DayEngine(Protocol):
    """What shows the containers of the day, until it is stopped and after it is started again."""

    address: str

    def stop(self) -> None: ...

    def start(self) -> None: ...

    async def look(self, environment: Environment, at: datetime, number: int) -> SourceAnswers:
        """What a collection sees at a moment of the day."""


class SimulatedEngine:
    """Simulated containers, for a quick day."""

    address = "unix:///run/docker.sock"

    def __init__(self) -> None:
        self._chance = random.Random(3)
        self._away = False
        self._started_at = 0

    def stop(self) -> None:
        self._away = True

    def start(self) -> None:
        self._away = False

    async def look(self, environment: Environment, at: datetime, number: int) -> SourceAnswers:
        if self._away:
            self._started_at = number
            seen = simulated(at, number, self._chance, SERVICES)
            gaps = [f"{one}: {_away(self.address)}" for one in ("container statistics", "containers")]
            return replace(seen, samples=None, container_states=None, health=None, gaps=gaps)
        # The containers were started again with the engine: their counters begin anew.
        return simulated(at, number - self._started_at, self._chance, SERVICES)


class RealEngine:
    """Containers of an engine of the tests' own, which is really asked at each look; the host is simulated.

    Their statistics are those of the real moment, told at the day's own time.
    """

    def __init__(self, engine: OwnEngine, folder: Path) -> None:
        self.address = engine.address
        self._engine = engine
        self._chance = random.Random(3)
        services = {
            name: {"image": IMAGE, "init": True, "command": ["sleep", "infinity"], "restart": "unless-stopped"}
            for name in SERVICES
        }
        (folder / "c.yaml").write_text(yaml.safe_dump({"services": services}))
        engine.docker("compose", "--project-name", "day", "--file", str(folder / "c.yaml"), "up", "--detach")

    def stop(self) -> None:
        self._engine.stop()

    def start(self) -> None:
        self._engine.start()
        deadline = time.monotonic() + _RUN_AGAIN_WITHIN_SECONDS
        while len(self._engine.docker("ps", "--quiet").split()) < len(SERVICES):
            assert time.monotonic() < deadline, "the containers did not come back with their engine"
            time.sleep(0.1)

    async def look(self, environment: Environment, at: datetime, number: int) -> SourceAnswers:
        with without_task_runs():
            seen = await ask_sources(Project(environment))
        return replace(
            seen,
            at=at,
            system=simulated(at, number, self._chance, ()).system,
            samples=None if seen.samples is None else [replace(one, sampled_at=at) for one in seen.samples],
            container_states=None
            if seen.container_states is None
            else [replace(one, seen_at=at) for one in seen.container_states],
            health=None if seen.health is None else replace(seen.health, checked_at=at),
        )


@dataclass
class Day:
    """So many rounds; in each third of them something is away for a while."""

    folder: Path
    begin: datetime
    rounds: int
    engine: DayEngine
    stop_redis: Callable[[], object]
    start_redis: Callable[[], object]
    fill_disk: Callable[[], object]
    free_disk: Callable[[], object]
    lost: list[datetime] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    reported: tuple[datetime, Evaluation] | None = None

    async def live(self) -> None:
        """Collect, whatever is away; a round that cannot be stored is lost, and the next one goes on."""
        environment = Environment.model_validate(
            {
                "name": "day",
                "project": "day",
                "engine": self.engine.address,
                "compose_files": [self.folder / "c.yaml"],
                "collect_every_seconds": 15,
            }
        )
        happens = {
            round(self.rounds * share): doing
            for share, doing in (
                (0.2, self.engine.stop),
                (0.25, self.engine.start),
                (0.4, self.stop_redis),
                (0.5, self.start_redis),
                (0.7, self.fill_disk),
                (0.8, self.free_disk),
            )
        }
        for number in range(self.rounds):
            if number in happens:
                await asyncio.to_thread(happens[number])
            at = self.begin + number * EVERY
            await self._round(environment, await self.engine.look(environment, at, number))

    async def _round(self, environment: Environment, seen: SourceAnswers) -> None:
        try:
            memory: RememberedState = await read_memory(environment.name, seen.at)
            judged = assess(environment, seen, memory)
            assert await store_round(environment.name, judged, memory.collected_at)
        except StoreError:
            self.lost.append(seen.at)
            return
        self.opened += [
            f"{one.alert.service} {one.alert.metric}"
            for one in judged.outcome.events
            if one.change is AlertChange.OPENED
        ]
        self.reported = (seen.at, judged.outcome)
        trouble = await self.tell_again()
        if trouble and trouble not in self.troubles:
            self.troubles.append(trouble)

    async def tell_again(self) -> str | None:
        """Tell the cache of the last round that was stored."""
        assert self.reported is not None
        at, outcome = self.reported
        return await update_cache("day", {"at": at.isoformat()}, outcome, EVERY)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What monitoring.db holds."""
        with contextlib.closing(sqlite3.connect(self.folder / "data" / "monitoring.db")) as store:
            return store.execute(query).fetchall()

    def look_for_complaints(self) -> list[str]:
        """Return all that is not as expected."""
        judged = self.rows("SELECT count(*), count(DISTINCT timestamp) FROM deployment_health_history")[0]
        blind = self.rows(
            "SELECT count(*) FROM deployment_health_history "
            f"WHERE overall_health = 'unhealthy' AND report LIKE '%{_away(self.engine.address)}%'"
        )[0][0]
        gaps = self.rows("SELECT count(*) FROM deployment_health_history WHERE report LIKE '%nothing was collected%'")
        doubled = self.rows(
            "SELECT count(*) FROM (SELECT series, ts FROM metric_samples GROUP BY series, ts HAVING count(*) > 1)"
        )
        # Health that stays as it is gets a row now and then; every collection's samples are there.
        looks = self.rows(
            "SELECT count(*) FROM metric_samples JOIN metric_series ON series = id "
            "WHERE service = 'host' AND metric = 'memory_usage'"
        )
        alerts = self.rows("SELECT service, metric, count(*), count(resolved_at) FROM alerts GROUP BY 1, 2")
        kept = self.rounds - len(self.lost)
        wrong = {
            # A round that found the disk full at its very end is judged, and lost all the same.
            f"{judged} judgements of {kept} rounds that were stored": judged[0] != judged[1] or judged[0] > kept,
            f"{blind} rounds without the engine": not 0 < blind <= round(self.rounds * 0.25) - round(self.rounds * 0.2),
            f"{looks} looks at the host": looks[0][0] < kept,
            f"{len(self.lost)} rounds lost, {gaps} gaps told": bool(self.lost) != (gaps[0][0] == 1),
            f"{doubled} samples twice": doubled != [(0,)],
            f"alerts {alerts}": alerts != [("host", "sources", 1, 1)],
            f"told {self.opened}": self.opened != ["host sources"],
            f"the cache said {self.troubles}": len(self.troubles) != 1,
        }
        return [words for words, bad in wrong.items() if bad]


async def live_on_small_disk(
    folder: Path, patch: pytest.MonkeyPatch, rounds: int, own_engine: OwnEngine | None = None
) -> Day:
    """Run a day with a Redis and a disk of its own, both of which really fail, and so does an engine."""
    server = RedisProcess(folder)
    server.start()
    (folder / "password").write_text(PASSWORD)
    patch.setenv("ROAS_REDIS_URL", server.url)
    patch.setenv("ROAS_REDIS_PASSWORD_FILE", str(folder / "password"))
    with disk_of(folder / "disk", megabytes=16 + rounds // 40) as disk:
        patch.setenv("ROAS_DATA_DIR", str(disk / "data"))
        day = Day(
            folder=disk,
            engine=SimulatedEngine() if own_engine is None else RealEngine(own_engine, disk),
            begin=datetime(2026, 3, 2, tzinfo=UTC),
            rounds=rounds,
            stop_redis=server.stop,
            start_redis=server.start,
            fill_disk=lambda: fill(disk),
            free_disk=(disk / "ballast").unlink,
        )
        try:
            await day.live()
            open_stores().writer.flush()
            day.complaints = day.look_for_complaints()
            # A cache that was lost is asked again only after a while, on the real clock.
            async with asyncio.timeout(300):
                while not server.client().exists("roas:snapshot:day"):
                    await day.tell_again()
                    await asyncio.sleep(0.2)
        finally:
            open_stores().close()
            server.stop()
    return day


def _away(address: str) -> str:
    return f"Docker engine at {address} did not answer"
