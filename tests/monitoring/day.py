"""A day of collection in which the engine, Redis and the disk are away for a while, on a clock of its own."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.collected import Memory, Seen, judge_seen
from core.rounds import RoundOutcome
from models.analysis import AlertChange
from models.environments import Environment
from models.failures import StoreError
from tasks.monitoring import read_memory, store_round, tell_cache
from tasks.stores import open_stores
from tests.adapters.test_redis_cache import PASSWORD, Server
from tests.monitoring.simulated import simulated
from tests.small_disk import disk_of, fill

EVERY = timedelta(seconds=15)
SERVICES = ("bot", "redis", "web")
AWAY = "Docker engine at unix:///run/docker.sock did not answer"


@dataclass
class Day:
    """So many rounds; in each third of them something is away for a while."""

    folder: Path
    begin: datetime
    rounds: int
    stop_redis: Callable[[], None]
    start_redis: Callable[[], None]
    fill_disk: Callable[[], None]
    free_disk: Callable[[], None]
    lost: list[datetime] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    told: tuple[datetime, RoundOutcome] | None = None

    async def live(self) -> None:
        """Collect, whatever is away; a round that cannot be stored is lost, and the next one goes on."""
        chance = random.Random(3)
        environment = Environment.model_validate(
            {"name": "day", "project": "day", "compose_files": [self.folder / "c.yaml"], "collect_every_seconds": 15}
        )
        restarted_at = 0
        for number in range(self.rounds):
            place = number / self.rounds
            at = self.begin + number * EVERY
            if number == round(self.rounds * 0.4):
                self.stop_redis()
            if number == round(self.rounds * 0.5):
                self.start_redis()
            if number == round(self.rounds * 0.7):
                self.fill_disk()
            if number == round(self.rounds * 0.8):
                self.free_disk()
            if 0.2 <= place < 0.25:
                restarted_at = number
                seen = _without_engine(simulated(at, number, chance, SERVICES))
            else:
                # The containers were started again with the engine: their counters begin anew.
                seen = simulated(at, number - restarted_at, chance, SERVICES)
            await self._round(environment, seen)

    async def _round(self, environment: Environment, seen: Seen) -> None:
        try:
            memory: Memory = await read_memory.fn(environment.name, seen.at)
            judged = judge_seen(environment, seen, memory)
            await store_round.fn(environment.name, judged)
        except StoreError:
            self.lost.append(seen.at)
            return
        self.opened += [
            f"{one.alert.service} {one.alert.metric}"
            for one in judged.outcome.events
            if one.change is AlertChange.OPENED
        ]
        self.told = (seen.at, judged.outcome)
        trouble = await self.tell_again()
        if trouble and trouble not in self.troubles:
            self.troubles.append(trouble)

    async def tell_again(self) -> str | None:
        """Tell the cache of the last round that was stored."""
        assert self.told is not None
        at, outcome = self.told
        return await tell_cache.fn("day", {"at": at.isoformat()}, outcome, EVERY)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """What monitoring.db holds."""
        with contextlib.closing(sqlite3.connect(self.folder / "data" / "monitoring.db")) as store:
            return store.execute(query).fetchall()

    def look_for_complaints(self) -> list[str]:
        """All that is not as it must be."""
        judged = self.rows("SELECT count(*), count(DISTINCT timestamp) FROM deployment_health_history")[0]
        blind = self.rows(
            "SELECT count(*) FROM deployment_health_history "
            f"WHERE overall_health = 'unhealthy' AND report LIKE '%{AWAY}%'"
        )[0][0]
        gaps = self.rows("SELECT count(*) FROM deployment_health_history WHERE report LIKE '%nothing was collected%'")
        doubled = self.rows(
            "SELECT count(*) FROM (SELECT series, ts FROM metric_samples GROUP BY series, ts HAVING count(*) > 1)"
        )
        alerts = self.rows("SELECT service, metric, count(*), count(resolved_at) FROM alerts GROUP BY 1, 2")
        kept = self.rounds - len(self.lost)
        wrong = {
            # A round that found the disk full at its very end is judged, and lost all the same.
            f"{judged} judgements of {kept} rounds that were stored": judged[0] != judged[1] or not kept <= judged[0],
            f"{blind} rounds without the engine": blind
            != sum(0.2 <= one / self.rounds < 0.25 for one in range(self.rounds)),
            f"{len(self.lost)} rounds lost, {gaps} gaps told": bool(self.lost) != (gaps[0][0] == 1),
            f"{doubled} samples twice": doubled != [(0,)],
            f"alerts {alerts}": alerts != [("host", "sources", 1, 1)],
            f"told {self.opened}": self.opened != ["host sources"],
            f"the cache said {self.troubles}": len(self.troubles) != 1,
        }
        return [words for words, bad in wrong.items() if bad]


async def live_on_small_disk(folder: Path, patch: pytest.MonkeyPatch, rounds: int) -> Day:
    """Live through a day with a Redis and a disk of its own, both of which really fail."""
    server = Server(folder)
    server.start()
    (folder / "password").write_text(PASSWORD)
    patch.setenv("ROAS_REDIS_URL", server.url)
    patch.setenv("ROAS_REDIS_PASSWORD_FILE", str(folder / "password"))
    with disk_of(folder / "disk", megabytes=16 + rounds // 40) as disk:
        patch.setenv("ROAS_DATA_DIR", str(disk / "data"))
        day = Day(
            folder=disk,
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
            async with asyncio.timeout(60):
                while not server.client().exists("roas:snapshot:day"):
                    await day.tell_again()
                    await asyncio.sleep(0.2)
        finally:
            open_stores().close()
            server.stop()
    return day


def _without_engine(seen: Seen) -> Seen:
    gaps = [f"{source}: {AWAY}" for source in ("container statistics", "containers")]
    return replace(seen, samples=None, sightings=None, health=None, gaps=gaps)
