"""The agent: watch and monitoring of all environments of a host, side by side in one process.

Nothing here needs the Prefect server, and healing needs the engine alone: while the stores are away it goes on by what
was read last.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from adapters.config.environment_files import environment_files
from adapters.server.membership import member_with_own_stores
from core.monitoring.measurements import next_due
from flows.agent.clock import keep_bringing_up, keep_judging, prepare_after_boot
from flows.agent.contact import keep_contact
from flows.agent.isolation import KeptRunning, Progress
from flows.agent.left_operations import resume_left
from flows.agent.prefect_worker import PrefectWorker
from flows.agent.schedules import keep_schedules_paused
from flows.agent.shipping import keep_shipping
from flows.agent.watch_pages import WatchState, show_watches
from flows.monitoring.continuous import EnvironmentMonitor, leave_alone_what_is_loaded
from flows.monitoring.failures import CollectionFeed
from flows.recovery.error_recovery import recover_observed
from flows.recovery.watch import EnvironmentWatcher
from flows.server.automations import GONE_AFTER
from models.environments import Environment
from models.failures import RoasError
from models.settings import current_settings
from tasks.monitoring.event_hub import EventHub
from tasks.monitoring.watch_lock import AGENT, watching_alone
from tasks.runtime.clients import load_environment
from tasks.runtime.fair_threads import FairThreads
from tasks.runtime.hosts import refuse_owner, this_host
from tasks.runtime.plain_tasks import has_server, without_task_runs
from tasks.runtime.project import load_project
from tasks.runtime.store_access import StoreAccess, outliving_stores

log = logging.getLogger("roas")

LOOK_EVERY = timedelta(seconds=5)
"""So soon a new, changed or removed environment file is noticed."""

ENDS_WITHIN = timedelta(seconds=5)
"""Work that takes longer is left: its steps are recorded, and the next agent goes on with them."""

_THREADS_EACH = 8
_THREADS = 512
"""Each environment that hangs keeps its few; they are made only when they are needed."""

_WATCH_IS_SILENT = timedelta(minutes=5)
"""A watch evaluates at least once a minute."""

_COLLECTION_IS_SILENT = timedelta(minutes=15)
_BEGIN_AT_ONCE = 4
_BEGINS_WITHIN = timedelta(seconds=10)
_AGAIN = timedelta(seconds=5)
_FOR_EVER = timedelta(days=36_500)
_GOLDEN = 0.618_034
"""Multiples of it, without their whole part, spread evenly however many there are."""


@dataclass(slots=True)
class WatchedEnvironment:
    """What the agent does for one environment, as others may see it."""

    name: str
    place: int
    since: datetime | None = None
    """When it was watched first; None before, or where another process watches it."""
    watcher: EnvironmentWatcher | None = None
    collections: int = 0


@dataclass(slots=True)
class Agent:
    """Watches and monitors all environments that are known, until it is asked to end."""

    worker: PrefectWorker | None = None
    """Takes flow runs for this host; None: nothing does."""
    look_every: timedelta = LOOK_EVERY
    gone_after: timedelta = GONE_AFTER
    environments: dict[str, WatchedEnvironment] = field(default_factory=dict)
    _kept: KeptRunning = field(default_factory=KeptRunning)
    _hub: EventHub = field(default_factory=EventHub)
    _files: dict[str, tuple[Path, int, int]] = field(default_factory=dict)
    _begin: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_BEGIN_AT_ONCE))
    _places: itertools.count[int] = field(default_factory=itertools.count)
    _said: str = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until `stop` is set; operations that run then are left to be resumed."""
        asyncio.get_running_loop().set_default_executor(FairThreads(each=_THREADS_EACH, at_most=_THREADS))
        leave_alone_what_is_loaded()
        if self.worker is not None:
            self._kept.begin("", "Prefect worker", self.worker.carry)
        with without_task_runs():
            await prepare_after_boot()
            if has_server():
                self._kept.begin("", "pages of the UI", lambda _: show_watches(self._states), silent_for=_FOR_EVER)
                pausing = partial(keep_schedules_paused, self._carried_names, self.gone_after)
                self._kept.begin("", "schedules", lambda _: pausing(), silent_for=_FOR_EVER)
            self._kept.begin("", "contact", lambda _: keep_contact(), silent_for=_FOR_EVER)
            if (member := member_with_own_stores(current_settings())) is not None:
                self._kept.begin("", "shipping", lambda _: keep_shipping(member), silent_for=_FOR_EVER)
            self._kept.begin("", "clock", lambda _: keep_judging(self._carried_names), silent_for=_FOR_EVER)
            self._kept.begin("", "maintenance", lambda _: keep_bringing_up(), silent_for=_FOR_EVER)
            if (worker := self.worker) is not None:
                self._kept.begin("", "interrupted operations", lambda progress: resume_left(worker.pool, progress))
            try:
                while not stop.is_set():
                    await self._take_up()
                    try:
                        async with asyncio.timeout(self.look_every.total_seconds()):
                            await stop.wait()
                    except TimeoutError:
                        continue
            finally:
                await self._kept.end_all(within=ENDS_WITHIN)

    async def _take_up(self) -> None:
        """Begin with environments that are new, release those that are gone, and read changed files anew."""
        try:
            files = await asyncio.to_thread(_read_stamps)
        except (RoasError, OSError) as error:
            # The environments that are known are watched all the same.
            self._say(f"environments cannot be listed: {error}")
            return
        self._say(f"{len(files)} environments" if len(files) != 1 else "1 environment")
        for name in sorted(self._files.keys() - files.keys()):
            log.info("%s is no longer watched: its file is gone", name)
            await self._let_go(name)
        for name in sorted(files.keys() - self._files.keys()):
            self._begin_with(name)
        for name in files.keys() & self._files.keys():
            if files[name] != self._files[name]:
                log.info("the file of %s has changed", name)
                self._kept.hurry(name)
                watcher = self.environments[name].watcher
                if watcher is not None:
                    watcher.sweep_soon()
        self._files = files

    def _begin_with(self, name: str) -> None:
        environment = self.environments[name] = WatchedEnvironment(name, next(self._places))
        self._kept.begin(
            name, "watch", lambda progress: self._watch(environment, progress), silent_for=_WATCH_IS_SILENT
        )
        self._kept.begin(
            name, "monitoring", lambda progress: self._monitor(environment, progress), silent_for=_COLLECTION_IS_SILENT
        )

    async def _let_go(self, name: str) -> None:
        await self._kept.end(name, within=ENDS_WITHIN)
        self.environments.pop(name, None)

    async def _watch(self, environment: WatchedEnvironment, progress: Progress) -> None:
        """Watch an environment until its engine or project becomes another one."""
        project = await load_project(environment.name)
        access = StoreAccess(environment.name)
        with outliving_stores(access), ExitStack() as stack:
            await _alone(environment.name, stack, progress)
            async with self._hub.listen(project) as feed:
                watcher = EnvironmentWatcher(project, (), access, feed, act=True)
                try:
                    await self._begin_watching(watcher, access)
                    environment.since, environment.watcher = environment.since or datetime.now(UTC), watcher
                    log.info("watching %s", environment.name)
                    await watcher.run(
                        datetime.now(UTC) + _FOR_EVER, lambda: _go_on(watcher, project.environment, progress)
                    )
                except _ChangedPlace:
                    log.info("%s is watched anew: its engine or project is another one", environment.name)
                finally:
                    environment.watcher = None
                    await watcher.end()

    async def _begin_watching(self, watcher: EnvironmentWatcher, access: StoreAccess) -> None:
        """Read stores and application, a few environments at once: each runs Compose."""
        try:
            async with asyncio.timeout(_BEGINS_WITHIN.total_seconds()):
                await self._begin.acquire()
        except TimeoutError:
            # What takes so long with others must not keep this one from being watched.
            await access.begin()
            refuse_owner(watcher.declared.name, access.known.host_id)
            await watcher.survive(watcher.sweep())
            return
        released = asyncio.get_running_loop().call_later(_BEGINS_WITHIN.total_seconds(), self._begin.release)
        try:
            await access.begin()
            refuse_owner(watcher.declared.name, access.known.host_id)
            await watcher.survive(watcher.sweep())
        finally:
            if not released.cancelled() and released.when() > asyncio.get_running_loop().time():
                released.cancel()
                self._begin.release()

    async def _monitor(self, environment: WatchedEnvironment, progress: Progress) -> None:
        """Collect an environment again and again, at its own moment of the period."""
        feed = CollectionFeed(files=(), act=True, recover_with=recover_observed, hand_over=lambda: _sweep(environment))
        monitor = EnvironmentMonitor(environment.name, feed)
        access = StoreAccess(environment.name)
        with outliving_stores(access):
            every = timedelta(seconds=(await load_environment(environment.name)).collect_every_seconds)
            due_at = datetime.now(UTC) + every * (environment.place * _GOLDEN % 1)
            try:
                while True:
                    await _sleep_until(due_at, progress)
                    if environment.watcher is not None and not access.away:
                        every = await monitor.collect(every)
                        environment.collections = monitor.kept
                    progress()
                    due_at = next_due(due_at, every, datetime.now(UTC))
            finally:
                async with asyncio.timeout(ENDS_WITHIN.total_seconds()):
                    await monitor.end()

    def _carried_names(self) -> list[str]:
        return [name for name, environment in self.environments.items() if environment.watcher is not None]

    def _states(self) -> list[WatchState]:
        host = this_host().name
        return [
            WatchState(
                environment=environment.name,
                host=host,
                since=environment.since if environment.watcher is not None else None,
                collections=environment.collections,
            )
            for environment in self.environments.values()
        ]

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.info("%s", text)


class _ChangedPlace(Exception):  # noqa: N818 - no error
    """The environment's engine or project is another one."""


def _go_on(watcher: EnvironmentWatcher, declared: Environment, progress: Progress) -> None:
    progress()
    now = watcher.declared
    if (now.engine, now.project) != (declared.engine, declared.project):
        raise _ChangedPlace


async def _sleep_until(due_at: datetime, progress: Progress) -> None:
    """Wait in parts: a period may be longer than what counts as hanging."""
    while (remaining := due_at - datetime.now(UTC)) > timedelta():
        await asyncio.sleep(min(remaining, _COLLECTION_IS_SILENT / 3).total_seconds())
        progress()


def _sweep(environment: WatchedEnvironment) -> None:
    if environment.watcher is not None:
        environment.watcher.sweep_soon()


async def _alone(name: str, stack: ExitStack, progress: Progress) -> None:
    """Become the only watch of an environment on this host; wait for another one to end."""
    is_logged = False
    while (other := stack.enter_context(watching_alone(name, AGENT))) is not None:
        stack.pop_all().close()
        if not is_logged:
            is_logged = True
            log.info("%s is watched by %s; this agent begins when that ends", name, other)
        progress()
        await asyncio.sleep(_AGAIN.total_seconds())


def _read_stamps() -> dict[str, tuple[Path, int, int]]:
    """The files of all environments that are watched here, with what shows that one has changed."""
    stamps, settings = {}, current_settings()
    for name, path in environment_files(settings).items():
        if name in settings.foreign_environments:
            continue
        try:
            status = path.stat()
            stamps[name] = (path, status.st_mtime_ns, status.st_size)
        except OSError:
            # It is gone since, or cannot be read; what is known of it is kept until the list is read again.
            stamps[name] = (path, 0, 0)
    return stamps
