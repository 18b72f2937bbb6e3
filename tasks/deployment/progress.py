"""Record what happens during a start soon after, and show it in the Prefect UI."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from uuid import UUID

from prefect.artifacts import acreate_progress_artifact, acreate_table_artifact, aupdate_progress_artifact

from core.deployment.hold import NeededHold
from core.deployment.live_start import LiveStart
from core.errors.redact import Redactor
from models.compose import DependencyCondition, ServiceDeclaration
from models.operations import OperationStep, StateChange
from models.results import ServiceStart
from tasks.deployment.operations import record_changes
from tasks.runtime.naming import artifact_key
from tasks.runtime.shown_later import show_later

_WRITE_AFTER_SECONDS = 0.5
"""A runner that is killed loses at most what happened in so short a time; its containers still show it."""

_SHOW_EVERY_SECONDS = 1.0

Listener = Callable[[LiveStart], None]
_listeners: list[Listener] = []


@contextmanager
def listen(listener: Listener) -> Iterator[None]:
    """Call the listener with the state of each start of this process, at every change; what it raises is dropped."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class StartProgress:
    """How far a start is: changes close together are recorded in one transaction, and shown once a second."""

    def __init__(self, environment: str, services: Mapping[str, ServiceDeclaration], redactor: Redactor) -> None:
        self._environment = environment
        self._services = len(services)
        self._live = LiveStart(environment=environment, services=services, began=time.monotonic())
        self._redactor = redactor
        self._changes: list[StateChange] = []
        self._steps: list[OperationStep] = []
        self._news = asyncio.Event()
        self._proven = 0
        self._failed = 0
        self._over = asyncio.Event()
        self._artifact: UUID | None = None
        self.results: Sequence[ServiceStart] = ()
        self._report(self._live)

    def begin(self, service: str, waits: Mapping[str, float]) -> None:
        """A service is brought up now; it waited so many seconds for each dependency."""
        self._report(self._live.begin(service, self._live.seconds_at(time.monotonic()), waits))

    def reach(self, service: str, milestone: DependencyCondition) -> None:
        """A service has reached a milestone."""
        self._report(self._live.reach(service, milestone))

    def hold(self, service: str, hold: NeededHold | None) -> None:
        """A service serves and has to stay so, or does not any more."""
        self._report(self._live.hold(service, self._live.seconds_at(time.monotonic()), hold))

    def record(self, change: StateChange | None, step: OperationStep | None) -> None:
        """Record a change and the step it ends, together or not at all."""
        self._changes += [] if change is None else [change]
        self._steps += [] if step is None else [step]
        self._news.set()

    def count(self, result: ServiceStart) -> None:
        """One more service is proven, or has failed."""
        self._proven += result.ok
        self._failed += not result.ok
        self._report(self._live.end(result))

    def end(self) -> None:
        """Nothing more will happen."""
        self._report(replace(self._live, over_at=self._live.seconds_at(time.monotonic())))
        self._over.set()
        self._news.set()

    def _report(self, live: LiveStart) -> None:
        self._live = live
        for listener in _listeners:
            # A display that fails, because its terminal is gone, must not end the start.
            with suppress(Exception):
                listener(live)

    async def keep_recording(self) -> None:
        """Write until nothing more will happen, and all that did is written.

        Raises:
            StoreError: It cannot be written.
        """
        while self._news.is_set() or not self._over.is_set():
            await self._news.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), _WRITE_AFTER_SECONDS)
            self._news.clear()
            changes, self._changes = self._changes, []
            steps, self._steps = self._steps, []
            if changes or steps:
                await record_changes(changes, steps)

    async def keep_showing(self) -> None:
        """Show it once a second until the start is over, then show it once more, with the table."""
        shown = None
        while not self._over.is_set():
            try:
                # A start that is over at once is shown once, when it is.
                await asyncio.wait_for(self._over.wait(), _SHOW_EVERY_SECONDS)
            except TimeoutError:
                if (now := self._proven + self._failed) != shown:
                    await self._show()
                    shown = now
        await asyncio.gather(self._show(), self._show_table())

    async def _show(self) -> None:
        progress = 100.0 * self._proven / self._services if self._services else 100.0
        description = f"{self._proven} of {self._services} services of {self._environment} are proven"
        if self._failed:
            description += f", {self._failed} failed"
        if self._artifact is None:
            key = artifact_key("start", self._environment)
            self._artifact = await acreate_progress_artifact(progress, key=key, description=description)
        else:
            await aupdate_progress_artifact(self._artifact, progress, description=description)

    async def _show_table(self) -> None:
        table = [
            {
                "service": result.service,
                "state": result.state,
                "waited (s)": round(result.waited_seconds, 1),
                "took (s)": round(result.took_seconds, 1),
                "reason": self._redactor.text(result.reason),
            }
            for result in self.results
        ]
        if table:
            key, what = artifact_key("services", self._environment), f"How the services of {self._environment} came up"
            await acreate_table_artifact(table, key=key, description=what)


@asynccontextmanager
async def start_progress(
    environment: str, services: Mapping[str, ServiceDeclaration], redactor: Redactor
) -> AsyncIterator[StartProgress]:
    """Record and show how far the start is while the body runs; at its end, however it ends, all is written.

    The UI may show the end a little later. A failure to show it is only logged.

    Raises:
        StoreError: It cannot be written.
    """
    progress = StartProgress(environment, services, redactor)
    recording, showing = (asyncio.create_task(job()) for job in (progress.keep_recording, progress.keep_showing))
    try:
        yield progress
    finally:
        progress.end()
        show_later("how far the start came", showing)
        await recording
