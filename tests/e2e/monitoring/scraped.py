"""A real Prometheus beside the sample, which is broken on purpose: python -m tests.e2e.monitoring.scraped.

`roas metrics` is scraped while the sample runs on the engine that `docker` talks to, is collected from and watched.
Every dashboard panel's query and every metric that an alert rule names must answer in the course of it, the alerts of
a broken part's rules must fire, and end when it is mended. The rules are a copy with their waiting times (`for`) cut
to 1 s. The stores lie on a small disk that fills up, with a past of 26 hours that says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import yaml

from flows.deployment.startup import startup
from flows.monitoring.collection import collection
from models.failures import RoasError
from tasks.runtime.stores import open_stores
from tests.e2e.healing.endured import watching
from tests.e2e.monitoring.living import Living, collect_each, own_folder, run, teach_a_past
from tests.integration.adapters.test_dashboards_and_rules import RULES, RULES_FILE
from tests.integration.adapters.test_redis_cache import PASSWORD as CACHE_PASSWORD
from tests.integration.adapters.test_redis_cache import RedisProcess
from tests.support.dashboards import queries
from tests.support.ports import free_port
from tests.support.prometheus_server import PrometheusForTests, prometheus
from tests.support.small_disk import disk_of, fill

EVERY = timedelta(seconds=5)
TIMEOUT_SECONDS = 600.0
"""Longer than an alert of ours stays after its cause is gone."""

SCRAPED_EVERY = "3s"
MEASURED_ROUNDS = 6
DISK_BYTES = 400 * 2**20
USED_SHARE = 0.6
ALL = frozenset(rule["alert"] for rule in RULES)

WELL = frozenset({"RoasLimitPredicted"})
"""What fires while all is well: the disk fills up from the beginning."""


@dataclass
class ScrapedMetric:
    """What Prometheus has answered so far."""

    server: PrometheusForTests
    unanswered: dict[str, str]
    fired: set[str] = field(default_factory=set)
    said: list[str] = field(default_factory=list)

    async def look(self) -> set[str]:
        """Ask what has not answered yet; the alerts that fire now."""
        self.unanswered = await asyncio.to_thread(
            lambda: {name: query for name, query in self.unanswered.items() if not self.server.ask(query)}
        )
        firing = await asyncio.to_thread(self.server.firing)
        self.fired |= firing
        return firing

    async def until(self, what: str, sample: Living, *, fire: Sequence[str] = (), end: Sequence[str] = ()) -> None:
        """Collect until those alerts fire, and these do not any more."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            await collection(sample.name, act=False)
            firing = await self.look()
            # Where the exporter was not scraped in time nothing fires, and nothing has ended.
            scraped = not end or bool(await asyncio.to_thread(self.server.ask, 'up{job="roas"} == 1'))
            if scraped and firing >= set(fire) and not firing & set(end):
                print(f"{what}: {', '.join(sorted(firing)) or 'nothing'} fires", flush=True)
                return
            if time.monotonic() > deadline:
                missing, left = set(fire) - firing, firing & set(end)
                self.said.append(f"{what}: {sorted(missing)} did not fire, {sorted(left)} did not end")
                print(self.said[-1], flush=True)
                return
            await asyncio.sleep(1)


async def live(folder: Path, disk: Path) -> list[str]:
    """Break the sample and mend it; all that is not as expected, in words."""
    sample, cache = Living(environments=folder, name="scraped"), RedisProcess(folder)
    cache.start()
    (folder / "password").write_text(CACHE_PASSWORD)
    os.environ |= {"ROAS_REDIS_URL": cache.url, "ROAS_REDIS_PASSWORD_FILE": str(folder / "password")}
    try:
        await sample.start(EVERY)
        fill(disk, leave=round(DISK_BYTES * (1 - USED_SHARE)))
        with sample.traffic():
            measured = await collect_each(sample.name, EVERY, act=False, goes_on=lambda done, _: done < MEASURED_ROUNDS)
            teach_a_past(sample.name, measured, EVERY, datetime.now(UTC), grown="disk_usage")
            port = free_port()
            with prometheus(folder, f"127.0.0.1:{port}", _hasty(folder), every=SCRAPED_EVERY) as server:
                names = {name for rule in RULES for name in re.findall(r"\broas_\w+", rule["expr"])}
                watched = ScrapedMetric(server, queries(sample.name, "bot") | {name: name for name in names})
                print(f"{len(watched.unanswered)} queries, {len(RULES)} rules", flush=True)
                with _exporter(port) as url:
                    await _break_and_mend(sample, watched, disk, cache)
                    reported = (await asyncio.to_thread(httpx.get, url, timeout=30)).text
                await watched.until("no exporter", sample, fire=["RoasExporterGone"])
                watched.said += [
                    f"{rule['name']} is {rule['health']}" for rule in server.rules() if rule["health"] != "ok"
                ]
    finally:
        cache.stop()
        await asyncio.to_thread(sample.clean)
    watched.said += [f"no data: {name}: {query}" for name, query in watched.unanswered.items()]
    watched.said += _promtool("metrics", reported=reported) + _promtool("rules", str(RULES_FILE))
    quiet = sorted(ALL - watched.fired)
    print(f"{len(watched.fired)} of {len(ALL)} rules fired; of parts not broken here {', '.join(quiet)}")
    return watched.said


async def _break_and_mend(sample: Living, watched: ScrapedMetric, disk: Path, cache: RedisProcess) -> None:
    ordinary = sorted(ALL - WELL)
    async with watching(sample):
        await watched.until("all is well", sample, fire=[*WELL], end=ordinary)
        await asyncio.to_thread(sample.inside, "bot", "fail", "unhealthy")
        await watched.until("bot says 503", sample, fire=["RoasServiceDown", "RoasEnvironmentUnhealthy"])
        await watched.until("bot restarted by the watch", sample, end=["RoasServiceDown", "RoasEnvironmentUnhealthy"])
    await _with(sample, watched, "prometheus stopped", "prometheus", ["RoasEnvironmentDegraded"])
    await _with(
        *(sample, watched, "Redis stopped", "redis"),
        ["RoasServiceDown", "RoasEnvironmentUnhealthy", "RoasDependencyFailed", "RoasCriticalAlert"],
    )
    for _ in range(4):
        await asyncio.to_thread(sample.inside, "bot", "fail", "exit")
        await asyncio.to_thread(sample.wait_until_well)
    await watched.until("bot ends again and again", sample, fire=["RoasServiceRestarts"])
    await asyncio.to_thread(cache.stop)
    await watched.until("the cache stopped", sample, fire=["RoasCacheLost"])
    await asyncio.to_thread(cache.start)
    await watched.until("the cache started again", sample, end=["RoasCacheLost"])
    await asyncio.to_thread(fill, disk, leave=DISK_BYTES * 3 // 100)
    await watched.until("the disk is nearly full", sample, fire=["RoasStoreDiskNearlyFull"])
    await asyncio.to_thread(fill, disk, leave=round(DISK_BYTES * (1 - USED_SHARE)))
    await watched.until("there is room again", sample, end=["RoasStoreDiskNearlyFull"])
    sample.declare({"bot": {"command": ["false"]}})
    with contextlib.suppress(RoasError):
        await startup(sample.name)
    await watched.until("a start failed", sample, fire=["RoasOperationFailed"])


async def _with(sample: Living, watched: ScrapedMetric, what: str, stopped: str, fire: Sequence[str]) -> None:
    """Something is stopped, kept so until those alerts fire, and started again until they do not."""
    await asyncio.to_thread(sample.docker, "stop", sample.container(stopped))
    await watched.until(what, sample, fire=fire)
    await asyncio.to_thread(sample.docker, "start", sample.container(stopped))
    await watched.until(f"{what}, and started again", sample, end=fire)


@contextmanager
def _exporter(port: int) -> Iterator[str]:
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("roas")), "metrics", "--port", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        yield f"http://127.0.0.1:{port}/metrics"
    finally:
        process.terminate()
        process.wait()


def _hasty(folder: Path) -> Path:
    """The rules with almost no waiting."""
    document = yaml.safe_load(RULES_FILE.read_text())
    for group in document["groups"]:
        for rule in group["rules"]:
            rule["for"] = "1s"
    file = folder / "rules.yml"
    file.write_text(yaml.safe_dump(document))
    return file


def _promtool(*words: str, reported: str = "") -> list[str]:
    done = subprocess.run(["promtool", "check", *words], input=reported, capture_output=True, text=True, check=False)
    return [done.stdout + done.stderr] if done.returncode else []


def main() -> list[str]:
    """Run it in a folder of its own."""
    with own_folder() as folder, disk_of(folder / "disk", megabytes=DISK_BYTES // 2**20) as disk:
        os.environ["ROAS_DATA_DIR"] = str(disk / "data")
        complaints = asyncio.run(live(folder, disk))
        open_stores().close()
        return complaints


if __name__ == "__main__":
    run(main)
