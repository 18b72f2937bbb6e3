"""Monitoring: collect again and again in the agent's process; failures are recovered beside it."""

from __future__ import annotations

import asyncio
import gc
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from flows.monitoring.collection import collect, predicted_failures, report_of, say, show
from flows.monitoring.failures import Collected, CollectionFeed, Predicted
from models.failures import RoasError
from tasks.monitoring.collect import last_round
from tasks.recovery.notify import notify_where_asked

log = logging.getLogger("roas")


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
