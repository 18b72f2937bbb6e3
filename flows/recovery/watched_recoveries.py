"""What a watch begins beside its observations: recoveries, records, and notifications."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

from core.recovery.policy import PROVEN_AFTER
from core.recovery.tracker import NO_SERVICE, SETTLE
from core.recovery.triage import (
    WELL,
    ServiceFailure,
)
from flows.recovery.diagnose import IncidentContext
from flows.recovery.error_recovery import context_of, continue_recovery, recover
from flows.recovery.reconcile import Reconciler
from models.compose import Application
from models.environments import Environment
from models.evidence import EvidenceBundle
from models.failures import RoasError
from models.health import HealthReport
from models.incidents import Incident
from models.recovery import RecoveryOutcome
from tasks.deployment.application_copy import end_left_copy
from tasks.deployment.belonging import bind_here
from tasks.monitoring.events import EventFeed, in_hand
from tasks.recovery.notify import notify_people
from tasks.recovery.records import cut_off_recoveries, settle_dependants, settle_well
from tasks.recovery.stops import stop_of
from tasks.runtime.project import Project, load_project
from tasks.runtime.store_access import StoreAccess
from tasks.storage.snapshots import end_left_pauses

log = logging.getLogger("roas")


class WatchedRecoveries:
    """One recovery a service of one environment, and the short work that goes with it."""

    def __init__(
        self, project: Project, files: tuple[str, ...], access: StoreAccess, feed: EventFeed, *, act: bool
    ) -> None:
        self.received = 0
        self.dispatched = 0
        self.reconciler = Reconciler()
        self.next_sweep = datetime.now(UTC)
        self._project = project
        self._files = files
        self._access = access
        self._feed = feed
        self._act = act
        self._failures = 0
        self._is_claimed = False
        self._application: Application | None = None
        self._recoveries: dict[str, asyncio.Task[None]] = {}
        self._recordings: set[asyncio.Task[None]] = set()
        self._short_tasks: set[asyncio.Task[None]] = set()
        self._evidence: dict[str, tuple[str, Sequence[EvidenceBundle]]] = {}
        self._logged: dict[str, str] = {}

    @property
    def declared(self) -> Environment:
        """The environment as its file was read last."""
        return self._project.environment

    def sweep_soon(self) -> None:
        """Sweep as soon as what runs now has ended: somebody saw a service fail."""
        self._sweep_after(timedelta())

    async def end(self) -> None:
        """Let running recoveries end; cancel those that only wait for their time."""
        for running in (*self._recoveries.values(), *self._recordings):
            running.cancel()
        await asyncio.gather(*self._recoveries.values(), *self._recordings, return_exceptions=True)
        # Notifications are recorded as sent, so they are sent.
        await asyncio.gather(*self._short_tasks, return_exceptions=True)

    def _claim(self) -> None:
        """Let what runs here belong to this host where it has none, once: another one could claim it otherwise."""
        if not self._act or self._is_claimed or self._access.away:
            return
        self._is_claimed = True
        if self._access.known.host_id is None:
            name = self.declared.name
            run_beside(self._short_tasks, self._bind(), f"{name} does not belong to this host yet")

    async def _bind(self) -> None:
        try:
            await bind_here(self.declared.name)
        except BaseException:
            self._is_claimed = False
            raise

    async def _record_stop(self, service: str) -> None:
        """Record a person's stop while the engine still knows of it; an operation records its own."""
        if await in_hand(self.declared.name) is None and await stop_of(self._project, service) is None:
            # An engine that was killed reports a stop of what it ends when it comes back.
            self.reconciler.forget_requests([service])
            self._sweep_after(timedelta())

    def _recover(self, failure: ServiceFailure, evidence: Sequence[EvidenceBundle]) -> None:
        self.dispatched += 1
        # The text came through the engine's client, which redacts secrets.
        incident = Incident(
            environment=self.declared.name,
            text=failure.text,
            service=None if failure.service == NO_SERVICE else failure.service,
            source="watch",
            failing_services=failure.failing,
            evidence=tuple(evidence),
        )
        self._begin(failure.service, lambda: recover(incident, self._context(), act=self._act))

    def _begin(self, service: str, recovery: Callable[[], Awaitable[RecoveryOutcome]]) -> None:
        self.reconciler.begin(service)
        self._recoveries[service] = asyncio.create_task(self._run_recovery(service, recovery))

    async def _run_recovery(self, service: str, recovery: Callable[[], Awaitable[RecoveryOutcome]]) -> None:
        outcome, about = None, self.declared.name if service == NO_SERVICE else service
        try:
            outcome = await recovery()
            self._notify()
        except (RoasError, TimeoutError) as error:
            log.error("recovery of %s ended: %s", about, error or type(error).__name__)
        except Exception:
            # A defect of ours: it must be seen, and the other services still watched.
            log.exception("recovery of %s broke off", about)
        finally:
            now = datetime.now(UTC)
            self._recoveries.pop(service, None)
            next_attempt_at = self.reconciler.finish(service, outcome, now)
            # By then its dependants have had time to notice.
            self._sweep_after(max(SETTLE, next_attempt_at - now) if next_attempt_at else SETTLE)

    async def _settle(self, health: HealthReport, holder: str | None, now: datetime) -> None:
        """Resolve errors of services that are healthy again, and end what dead runners left: recoveries and pauses.

        Where the sweep has read that no error is open, nothing is asked again; another's since then waits for the next.
        """
        name, recovering = self.declared.name, self.reconciler.recovering_services()
        healthy = {verdict.service for verdict in health.services if verdict.health in WELL} - recovering
        back, soon = self.reconciler.back_after_crash(healthy, now)
        if back:
            await settle_well(name, back, now, "the engine restarted it, and it is healthy again")
        for remaining in soon:
            self._sweep_after(remaining)
        known = self._access.known
        if back or known.open_errors:
            of_all = {NO_SERVICE} - recovering if len(healthy) == len(health.services) else set()
            why = "it has been well for ten minutes without a recovery"
            await settle_well(name, sorted(healthy | of_all), now - PROVEN_AFTER, why)
            await settle_dependants(name, sorted(healthy), now - SETTLE)
        if holder is not None or not self._act:
            return
        run_beside(self._short_tasks, end_left_pauses(self.declared), f"services of {name} may still be paused")
        run_beside(self._short_tasks, end_left_copy(self._project), f"a copy of {name} may still be there")
        if all(execution.ended_at is not None for execution in known.executions):
            return
        for cut_off in await cut_off_recoveries(name):
            if cut_off.service and not self.reconciler.tracker(cut_off.service).recovering:
                self._begin(cut_off.service, partial(continue_recovery, cut_off, self._context()))

    def _notify(self) -> None:
        """Send notifications that are due in a task of their own: a receiver may be slow, and others fail meanwhile."""
        run_beside(self._short_tasks, self._notify_people(), "notifications were not sent")

    async def _notify_people(self) -> None:
        with suppress(RoasError):
            # A receiver may have been named since the last sweep.
            self._project = await load_project(self.declared.name, self._files)
        await notify_people(self.declared)

    def _context(self) -> IncidentContext:
        return context_of(self._project, self._application)

    def _sweep_after(self, delay: timedelta) -> None:
        self.next_sweep = min(self.next_sweep, datetime.now(UTC) + delay)
        self._feed.wake()

    def _log(self, about: str, text: str) -> None:
        """Log a text about a service or NO_SERVICE once, until another follows."""
        if self._logged.get(about) != text:
            self._logged[about] = text
            log.info("%s", text)


def run_beside(tasks: set[asyncio.Task[None]], work: Awaitable[object], failed: str) -> None:
    """Do work in a task of its own, whose failure ends nothing; `failed` is what its failure means."""

    async def run() -> None:
        try:
            await work
        except (RoasError, TimeoutError) as error:
            log.warning("%s: %s", failed, error or type(error).__name__)
        except Exception:
            log.exception("%s", failed)

    task = asyncio.create_task(run())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
