"""Monitoring: collect in rounds, for hours, in one process; what is wrong is handed over beside them."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from prefect import flow
from pydantic import Field

from core.monitoring.measurements import next_look
from core.recovery.triage import AGAIN, SETTLE, fingerprint
from flows.monitoring.collection import Collected, collect, dispatch, in_one, predicted, report_of, say, show
from flows.recovery.watch import WATCH_HOURS
from flows.runtime.parameters import ACT, COMPOSE_FILES, ENVIRONMENT, ComposeFiles, EnvironmentName, Hours
from flows.runtime.server_outages import keep_runs_without_lease
from models.failures import RoasError
from models.health import UNHEALTHY_STATES
from models.metrics import HOST
from models.recovery import RecoveryMethod, RecoveryOutcome
from models.results import MonitoringReport
from tasks.monitoring.collect import last_round
from tasks.runtime.clients import load_environment, open_clients_in_parallel
from tasks.runtime.store_access import StoreAccess, outliving_stores

log = logging.getLogger("roas")
keep_runs_without_lease()


@flow(name="monitoring", flow_run_name="monitor {environment}")
async def monitoring(
    environment: EnvironmentName = ENVIRONMENT,
    compose_files: ComposeFiles = COMPOSE_FILES,
    act: bool = ACT,
    hours: Hours = Field(WATCH_HOURS, description="How long; a scheduled run is begun again after it."),
) -> MonitoringReport:
    """Collect every so many seconds, as the environment says, for so many hours.

    A round that fails is told and the next one tried. What somebody else collected a moment ago is not
    collected again.

    Raises:
        EnvironmentFileError: The environment cannot be read at the beginning.
    """
    files = tuple(compose_files or ())
    rounds = _Rounds(environment, files, act=act)
    every = timedelta(seconds=(await load_environment(environment, files)).collect_every_seconds)
    due = datetime.now(UTC)
    until = due + timedelta(hours=hours)
    log.info("monitoring %s until %s", environment, f"{until:%Y-%m-%d %H:%M} UTC")
    leave_alone_what_is_loaded()
    open_clients_in_parallel()
    with outliving_stores(StoreAccess(environment)):
        try:
            while due < until:
                await asyncio.sleep((due - datetime.now(UTC)).total_seconds())
                every = await rounds.take(every)
                due = next_look(due, every, datetime.now(UTC))
        finally:
            await rounds.end()
    return MonitoringReport(environment=environment, collections=rounds.kept, failed=rounds.failed)


def leave_alone_what_is_loaded() -> None:
    """What is loaded by now lives as long as the run: looking through it for garbage was a tenth of each round."""
    gc.collect()
    gc.freeze()


class _Rounds:
    """What monitoring remembers from one round to the next; the stores remember all that matters."""

    def __init__(self, environment: str, files: tuple[str, ...], *, act: bool) -> None:
        self.kept = 0
        self.failed = 0
        self._environment = environment
        self._files = files
        self._act = act
        self._said: tuple[str, ...] = ()
        self._predicted: list[tuple[str, str, bool]] = []
        self._handing: asyncio.Task[None] | None = None
        self._known: dict[str, tuple[str, datetime]] = {}

    async def take(self, every: timedelta) -> timedelta:
        """Collect, unless somebody did so a moment ago; gives back how long it is from one round to the next."""
        try:
            before = await last_round(self._environment)
            if before is not None and datetime.now(UTC) - before < every / 2:
                return every
            one = await collect(self._environment, self._files)
            await show(one, report_of(one, one.judged.outcome.reported))
        except (RoasError, TimeoutError) as error:
            self.failed += 1
            self._say(f"{self._environment} was not collected: {error or type(error).__name__}")
            return every
        except Exception as error:
            # A defect of ours: it must be seen, and the next round still taken.
            self.failed += 1
            words = f"collecting {self._environment} broke off: {error or type(error).__name__}"
            if self._said != (words,):
                log.exception("collecting %s broke off", self._environment)
            self._said = (words,)
            return every
        self.kept += 1
        say(one.judged.outcome)
        status = "unknown" if one.judged.blind else one.judged.health.overall
        self._say(f"{self._environment} is {status}", *one.seen.gaps)
        self._predicted += predicted(one.judged.outcome)
        if self._handing is not None and self._handing.done():
            self._handing = None
        if not one.judged.idle and self._handing is None:
            self._handing = self._dispatch(one)
        return timedelta(seconds=one.declared.collect_every_seconds)

    async def end(self) -> None:
        """Let what was handed over come to its end."""
        if self._handing is not None:
            await self._handing

    def _dispatch(self, one: Collected) -> asyncio.Task[None] | None:
        """Begin to hand over what is wrong and is not known as it is; None where there is nothing."""
        now = datetime.now(UTC)
        shown = _shown(one)
        known = frozenset(name for name, (was, until) in self._known.items() if shown.get(name) == was and now < until)
        if not self._predicted and shown.keys() <= known | one.judged.outcome.muted:
            return None
        news, self._predicted = self._predicted, []

        async def run_collection() -> None:
            try:
                outcomes = await dispatch(one, self._files, news, known=known, act=self._act)
            except (RoasError, TimeoutError) as error:
                log.error("what is wrong with %s was not handed over: %s", self._environment, error)
                return
            except Exception:
                log.exception("handing over what is wrong with %s broke off", self._environment)
                return
            self._note(shown, outcomes)

        return asyncio.create_task(run_collection())

    def _note(self, shown: dict[str, str], outcomes: Sequence[tuple[str, RecoveryOutcome]]) -> None:
        now = datetime.now(UTC)
        for service, outcome in outcomes:
            if service not in shown or (outcome.method is RecoveryMethod.AUTOMATIC and outcome.success):
                continue
            soon = SETTLE if outcome.method is RecoveryMethod.DEFERRED else AGAIN
            self._known[service] = (shown[service], outcome.again_at or now + soon)

    def _say(self, *words: str) -> None:
        """Once, until something else is to be said."""
        if words != self._said:
            self._said = words
            for one in words:
                log.info("%s", one)


def _shown(one: Collected) -> dict[str, str]:
    """What is wrong now, by service, and how it shows: the same as long as nothing happens to it."""
    seen = one.seen
    if seen.health is None or seen.container_states is None:
        return {HOST: in_one(seen.gaps)}
    return {
        verdict.service: f"{verdict.health} {fingerprint(verdict.service, seen.container_states)}"
        for verdict in seen.health.services
        if verdict.health in UNHEALTHY_STATES
    }
