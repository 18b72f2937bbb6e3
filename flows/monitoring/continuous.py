"""Monitoring: collect again and again, for hours, in one process; failures are recovered beside it."""

from __future__ import annotations

import asyncio
import gc
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from prefect import flow
from pydantic import Field

from core.monitoring.measurements import next_due
from flows.common.parameters import ACT, COMPOSE_FILES, ENVIRONMENT, ComposeFiles, EnvironmentName, Hours
from flows.monitoring.collection import collect, predicted_failures, report_of, say, show
from flows.monitoring.failures import Collected, CollectionFeed, Predicted
from flows.recovery.watch import WATCH_HOURS
from models.failures import RoasError
from models.results import MonitoringReport
from tasks.deployment.belonging import refuse_taken
from tasks.monitoring.collect import last_round
from tasks.monitoring.watch_lock import agent_that_watches
from tasks.recovery.notify import notify_where_asked
from tasks.runtime.clients import load_environment, open_clients_in_parallel
from tasks.runtime.store_access import StoreAccess, outliving_stores
from tasks.runtime.traces import pause_tracing

log = logging.getLogger("roas")


@flow(name="monitoring", flow_run_name="monitor {environment}")
async def monitoring(
    environment: EnvironmentName = ENVIRONMENT,
    compose_files: ComposeFiles = COMPOSE_FILES,
    act: bool = ACT,
    hours: Hours = Field(WATCH_HOURS, description="How long; a scheduled run is begun again after it."),
) -> MonitoringReport:
    """Collect every so many seconds, as the environment says, for so many hours.

    A collection that fails is logged, and the next one made. One that another process made a moment ago is not
    repeated. Where the agent of this host collects the environment, this ends at once.

    Raises:
        EnvironmentFileError: The environment cannot be read at the beginning.
        WrongHostError: The environment belongs to another host, or was moved to it meanwhile.
    """
    files = tuple(compose_files or ())
    if (other := agent_that_watches(environment)) is not None:
        log.info("this monitoring of %s ends, because %s collects it", environment, other)
        return MonitoringReport(environment=environment, collections=0, failed=0)
    monitor = EnvironmentMonitor(environment, CollectionFeed(files=files, act=act))
    every = timedelta(seconds=(await load_environment(environment, files)).collect_every_seconds)
    due_at = datetime.now(UTC)
    until = due_at + timedelta(hours=hours)
    log.info("monitoring %s until %s", environment, f"{until:%Y-%m-%d %H:%M} UTC")
    leave_alone_what_is_loaded()
    open_clients_in_parallel()
    with outliving_stores(StoreAccess(environment)), pause_tracing():
        try:
            while due_at < until:
                await asyncio.sleep((due_at - datetime.now(UTC)).total_seconds())
                await refuse_taken(environment)
                every = await monitor.collect(every)
                due_at = next_due(due_at, every, datetime.now(UTC))
        finally:
            await monitor.end()
    return MonitoringReport(environment=environment, collections=monitor.kept, failed=monitor.failed)


def leave_alone_what_is_loaded() -> None:
    """Exclude what is loaded by now from garbage collection, which took a tenth of each collection."""
    gc.collect()
    gc.freeze()


class EnvironmentMonitor:
    """Memory of monitoring from one collection to the next; the stores remember everything else."""

    def __init__(self, environment: str, feed: CollectionFeed) -> None:
        self.kept = 0
        self.failed = 0
        self._environment = environment
        self._files = feed.files
        self._feed = feed
        self._logged: tuple[str, ...] = ()
        self._predicted: list[Predicted] = []
        self._recovery: asyncio.Task[None] | None = None
        self._notifying: asyncio.Task[None] | None = None

    async def collect(self, every: timedelta) -> timedelta:
        """Collect, unless another process did so a moment ago; return the time between two collections."""
        try:
            before = await last_round(self._environment)
            if before is not None and datetime.now(UTC) - before < every / 2:
                return every
            collected = await collect(self._environment, self._files)
            await show(collected, report_of(collected, collected.judged.outcome.reported_alerts))
        except Exception as error:
            self.failed += 1
            text = f"{self._environment} was not collected: {error or type(error).__name__}"
            if not isinstance(error, RoasError | TimeoutError) and self._logged != (text,):
                # A defect of ours: it must be seen, and the next collection still made.
                log.exception("collecting %s broke off", self._environment)
                self._logged = (text,)
            self._log(text)
            return every
        self.kept += 1
        say(collected.judged.outcome)
        status = "unknown" if collected.judged.blind else collected.judged.health.summary
        self._log(f"{self._environment} is {status}", *collected.seen.gaps)
        self._predicted += predicted_failures(collected.judged.outcome)
        if not collected.judged.idle and (self._recovery is None or self._recovery.done()):
            self._recovery = self._recover(collected)
        if self._notifying is None or self._notifying.done():
            # Beside the collections: a receiver may be slow.
            self._notifying = asyncio.create_task(notify_where_asked(collected.project.environment))
        return timedelta(seconds=collected.project.environment.collect_every_seconds)

    async def end(self) -> None:
        """Let the recoveries and notifications that run come to their end."""
        for running in (self._recovery, self._notifying):
            if running is not None:
                await running

    def _recover(self, collected: Collected) -> asyncio.Task[None] | None:
        """Start to recover from what fails; None where nothing new does."""
        result = self._feed.decide(collected)
        if self._feed.hand_over is not None and any(failure.service for failure in result.recover):
            # The watch in this process recovers services; only failures of no service are left.
            self._feed.hand_over()
            result = replace(
                result,
                recover=tuple(observation for observation in result.recover if not observation.service),
                at_once=(),
            )
        if not self._predicted and not result.recover:
            return None
        new, self._predicted = self._predicted, []

        async def recover() -> None:
            try:
                await self._feed.recover(collected, result)
                await self._feed.warn(self._environment, new)
            except (RoasError, TimeoutError) as error:
                log.error("failures of %s were not recovered: %s", self._environment, error)
            except Exception:
                log.exception("recovering from failures of %s broke off", self._environment)

        return asyncio.create_task(recover())

    def _log(self, *texts: str) -> None:
        """Log texts once, until others follow."""
        if texts != self._logged:
            self._logged = texts
            for text in texts:
                log.info("%s", text)
