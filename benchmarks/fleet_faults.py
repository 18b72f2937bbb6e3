"""What an agent does in an hour of kills, while stores and server are away, and when it is killed itself.

    python -m benchmarks.fleet_faults soak --minutes 60 --every 20     a random service is killed again and again
    python -m benchmarks.fleet_faults away --minutes 10 --kills 20     the same without PostgreSQL and Prefect server
    python -m benchmarks.fleet_faults agent --kills 100                the agent is killed while it heals

The engine alone says when a service is healthy again; then the record is compared with what was done: each kill is one
error that is resolved, nothing is lost, doubled or left open. Budgets are raised, so that they last. The seed is
printed; `--seed` repeats a run.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from adapters.stores import Stores
from benchmarks.fleet import memory
from benchmarks.measure import report
from models.settings import Settings
from tests.e2e.fleet.conftest import LocalHost, made_host
from tests.e2e.fleet.control_plane import ControlPlane
from tests.support.postgresql_server import postgresql
from tests.support.prefect_server import own_server

SERVICES = ("web", "worker")
_SERVICE = """
{name}:
  image: debian:trixie-slim
  init: true
  network_mode: none
  command: [sh, -c, 'touch /tmp/well; exec sleep 100000']
  healthcheck:
    test: [CMD, test, -e, /tmp/well]
    interval: 5s
    timeout: 2s
    retries: 2
    start_period: 10s
    start_interval: 200ms
"""
_BUDGET = (
    "{attempts_per_error: 20, attempts_per_service_15min: 60, attempts_per_service_day: 500, "
    "points_per_host_15min: 500, points_per_host_day: 5000}"
)
_GIVE_UP_SECONDS = 120.0
_LOOK_EVERY_SECONDS = 0.1


def main() -> int:
    """Run one of them; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["soak", "away", "agent"])
    parser.add_argument("--environments", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--every", type=float, default=20, help="Seconds from kill to kill.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", type=Path, default=None, help="A new folder for log and records of the host.")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="roas-faults-") as folder:
        run = {"soak": _soak, "away": _away, "agent": _agent}[given.what]
        try:
            return 0 if run(Path(folder), given, random.Random(seed)) else 1
        finally:
            if given.keep is not None:
                shutil.copytree(Path(folder) / "host", given.keep)


@dataclass(slots=True)
class FleetRun:
    """Applications under an agent, and the seconds until each killed service was healthy again."""

    host: LocalHost
    names: list[str]
    chance: random.Random
    healed: list[float] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    killed: Counter[tuple[str, str]] = field(default_factory=Counter)
    last: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=4))
    _waiting: dict[tuple[str, str], threading.Thread] = field(default_factory=dict)

    def kill_one(self) -> None:
        """Kill a service that is well, and look until it is well again, in a thread of its own.

        Not one of the last four: a death that follows before the one before it is on record belongs to the same error.
        """
        free = [(name, service) for name in self.names for service in SERVICES]
        busy = {one for one, looking in self._waiting.items() if looking.is_alive()} | {*self.last}
        name, service = self.chance.choice([one for one in free if one not in busy])
        self.last.append((name, service))
        began = time.monotonic()
        self.host.kill(name, service)
        self.killed[name, service] += 1
        looking = threading.Thread(target=self._look, args=(name, service, began), daemon=True)
        self._waiting[name, service] = looking
        looking.start()

    def _look(self, name: str, service: str, began: float) -> None:
        at = datetime.now(UTC)
        while not self.host.runs(name, service):
            if time.monotonic() - began > _GIVE_UP_SECONDS:
                break
            time.sleep(_LOOK_EVERY_SECONDS)
        took = time.monotonic() - began
        self.healed.append(took)
        if took > 5:
            self.slow.append(f"{at:%H:%M:%S} {name}/{service} {took:.1f} s")

    def finish(self) -> None:
        for one in self._waiting.values():
            one.join(_GIVE_UP_SECONDS + 10)

    def figures(self, limit: float, share: float) -> bool:
        """Print how soon they were healthy again; False where too few were so within the limit."""
        within = sum(1 for took in self.healed if took <= limit) / len(self.healed)
        report("killed", len(self.healed))
        report("healthy again after, median", statistics.median(self.healed), "s")
        report("healthy again after, 95th percentile", sorted(self.healed)[int(len(self.healed) * 0.95)], "s")
        report("healthy again after, at most", max(self.healed), "s")
        if self.slow:
            print("after more than 5 s: " + "; ".join(self.slow))
        return report(f"healthy again within {limit:g} s", 100 * within, "%", least=share)

    def record_is_true(self, stores: Stores) -> bool:
        """Compare the record with what was done, once all of it has reached the stores."""
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        while (problems := self._problems(stores)) and time.monotonic() < deadline:
            time.sleep(1)
        for problem in problems:
            print(f"the record: {problem}", flush=True)
        print(f"the record has all {self.killed.total()} once" if not problems else "the record is WRONG")
        return not problems

    def _problems(self, stores: Stores) -> list[str]:
        found = []
        for name in self.names:
            killed = {service: self.killed[name, service] for service in SERVICES}
            runs = stores.recoveries.find(environment=name)
            errors = [one for one in stores.errors.latest(name, limit=1000) if one.service in SERVICES]
            for service, times in killed.items():
                healed = [one for one in runs if one.service == service and one.success]
                if len(healed) != times:
                    found.append(f"{name}/{service}: killed {times} times, {len(healed)} recoveries succeeded")
                of_service = [one for one in errors if one.service == service]
                if len(of_service) != times:
                    found.append(f"{name}/{service}: killed {times} times, {len(of_service)} errors")
                    found += [
                        f"  {one.first_seen:%H:%M:%S} {one.error_id} {one.verdict.category}: {one.text}"
                        for one in of_service
                    ]
            if len({one.attempt_id for one in runs}) != len(runs):
                found.append(f"{name}: a recovery is there twice")
            found += [f"{name}: recovery {one.attempt_id} has not ended" for one in runs if one.ended_at is None]
            found += [f"{name}: error {one.error_id} is open" for one in stores.errors.list_unresolved(name)]
            found += [
                f"{name}: ticket {one.ticket_id} is there: {one.title}" for one in stores.tickets.find(environment=name)
            ]
            found += [f"{name}: operation {one.deployment_id} runs" for one in stores.operations.list_running(name)]
        if left := list((self.host.folder / "data" / "journal").glob("*.jsonl")):
            found.append(f"{len(left)} files of the journal are not yet in the stores")
        return found


@contextmanager
def _campaign(folder: Path, given: argparse.Namespace, chance: random.Random, **variables: str) -> Iterator[FleetRun]:
    with made_host(folder / "host", **variables) as host:
        services = "".join(_SERVICE.format(name=name) for name in SERVICES)
        names = [host.declare(services, recovery=_BUDGET) for _ in range(given.environments)]
        for name in names:
            host.up(name)
        yield FleetRun(host, names, chance)


def _watched(campaign: FleetRun, times: int = 1) -> None:
    for name in campaign.names:
        campaign.host.until(lambda name=name: campaign.host.text().count(f"watching {name}\n") >= times, seconds=120)


def _soak(folder: Path, given: argparse.Namespace, chance: random.Random) -> bool:
    with _campaign(folder, given, chance) as campaign:
        agent = campaign.host.begin()
        _watched(campaign)
        began, sizes = time.monotonic(), []
        while (passed := time.monotonic() - began) < given.minutes * 60:
            if passed >= len(sizes) * 60:
                sizes.append(memory(agent.pid))
                print(f"minute {len(sizes) - 1}: {sizes[-1]:.0f} MiB, {len(campaign.healed)} healed", flush=True)
            campaign.kill_one()
            time.sleep(given.every)
        campaign.finish()
        sizes.append(memory(agent.pid))
        well = [campaign.figures(10, 95)]
        tenth = max(1, len(sizes) // 6)
        early, late = statistics.median(sizes[tenth : 2 * tenth + 1]), statistics.median(sizes[-tenth:])
        report("memory (PSS) in the second sixth", early, "MiB")
        well.append(report("memory (PSS) in the last sixth, of that", late / early, "", most=1.1))
        with campaign.host.stores() as stores:
            well.append(campaign.record_is_true(stores))
        return all(well)


def _away(folder: Path, given: argparse.Namespace, chance: random.Random) -> bool:
    with ExitStack() as running:
        server = running.enter_context(postgresql())
        url = running.enter_context(server.database())
        prefect = ExitStack()
        running.callback(prefect.close)
        plane = ControlPlane(prefect.enter_context(own_server(folder / "plane")), folder / "plane")
        campaign = running.enter_context(_campaign(folder, given, chance, ROAS_STORES_URL=url))
        campaign.host.roas("join", plane.address, plane.invite("alpha"), "--no-service")
        campaign.host.begin(PREFECT_WORKER_QUERY_SECONDS="1")
        _watched(campaign)
        known = campaign.host.folder / "data" / "known"
        campaign.host.until(lambda: all((known / f"{name}.json").exists() for name in campaign.names))
        server.control("stop", "-m", "immediate")
        prefect.close()
        print(f"stores and server are away for {given.minutes:g} minutes", flush=True)
        try:
            pause = given.minutes * 60 / given.kills
            for _ in range(given.kills):
                time.sleep(pause * chance.random())
                campaign.kill_one()
                time.sleep(pause / 2)
            campaign.finish()
        finally:
            server.control("start")
        began = time.monotonic()
        well = [campaign.figures(5, 100)]
        with Stores.open(Settings(data_dir=folder / "reading", stores_url=url)) as stores:
            well.append(campaign.record_is_true(stores))
        report("stores filled after they were back", time.monotonic() - began, "s")
        return all(well)


def _agent(folder: Path, given: argparse.Namespace, chance: random.Random) -> bool:
    with _campaign(folder, given, chance) as campaign:
        campaign.host.begin()
        _watched(campaign)
        starts = folder / "starts"
        with starts.open("wb") as seen:
            events = subprocess.Popen(
                ["docker", "events", "--filter", "event=start", "--format", "{{.Actor.Attributes.name}}"], stdout=seen
            )
        try:
            for number in range(given.kills):
                campaign.kill_one()
                time.sleep(chance.uniform(0, 3))
                agent = campaign.host.agents[-1]
                agent.kill()
                agent.wait()
                campaign.host.begin()
                campaign.finish()
                # Then it may have done all, or still look after what its predecessor left.
                time.sleep(chance.uniform(0, 2))
                if number % 10 == 9:
                    print(f"{number + 1} kills, {datetime.now(UTC):%H:%M:%S}", flush=True)
        finally:
            events.terminate()
            events.wait()
        well = [campaign.figures(_GIVE_UP_SECONDS - 1, 100)]
        with campaign.host.stores() as stores:
            well.append(campaign.record_is_true(stores))
        started = Counter(starts.read_text().split())
        twice = {
            f"{name}-{service}-1": (times, started[f"{name}-{service}-1"])
            for (name, service), times in campaign.killed.items()
            if started[f"{name}-{service}-1"] != times
        }
        print(f"killed and started unlike often: {twice}" if twice else "each was started once for each kill")
        return all(well) and not twice


if __name__ == "__main__":
    sys.exit(main())
