"""Show a start in the Prefect UI: its progress while it runs, and a table at its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from prefect.artifacts import acreate_progress_artifact, acreate_table_artifact, aupdate_progress_artifact

from core.errors.redact import Redactor
from models.results import ServiceStart
from tasks.runtime.naming import artifact_key

log = logging.getLogger("roas")

_SHOW_EVERY_SECONDS = 1.0
_AT_MOST_SECONDS = 5.0


class StartShown:
    """How far a start is, as the UI is to show it."""

    def __init__(self, environment: str, services: int, redactor: Redactor) -> None:
        self._environment = environment
        self._services = services
        self._redactor = redactor
        self._proven = 0
        self._failed = 0
        self._ended = asyncio.Event()
        self._artifact: UUID | None = None
        self.results: Sequence[ServiceStart] = ()

    def add(self, result: ServiceStart) -> None:
        """One more service is proven, or has failed."""
        self._proven += result.ok
        self._failed += not result.ok

    def end(self) -> None:
        """The start is over."""
        self._ended.set()

    async def keep_showing(self) -> None:
        """Show it once a second until the start is over, then show it once more, with the table."""
        shown = None
        while not self._ended.is_set():
            try:
                # A start that is over at once is shown once, when it is.
                await asyncio.wait_for(self._ended.wait(), _SHOW_EVERY_SECONDS)
            except TimeoutError:
                if (now := self._proven + self._failed) != shown:
                    await self._show()
                    shown = now
        await asyncio.gather(self._show(), self._show_table())

    async def _show(self) -> None:
        progress = 100.0 * self._proven / self._services if self._services else 100.0
        said = f"{self._proven} of {self._services} services of {self._environment} are proven"
        if self._failed:
            said += f", {self._failed} failed"
        if self._artifact is None:
            self._artifact = await acreate_progress_artifact(
                progress, key=artifact_key("start", self._environment), description=said
            )
        else:
            await aupdate_progress_artifact(self._artifact, progress, description=said)

    async def _show_table(self) -> None:
        if self.results:
            await acreate_table_artifact(
                [
                    {
                        "service": one.service,
                        "state": one.state,
                        "waited (s)": round(one.waited_seconds, 1),
                        "took (s)": round(one.took_seconds, 1),
                        "reason": self._redactor.text(one.reason),
                    }
                    for one in self.results
                ],
                key=artifact_key("services", self._environment),
                description=f"How the services of {self._environment} came up",
            )


@asynccontextmanager
async def show_start(environment: str, services: int, redactor: Redactor) -> AsyncIterator[StartShown]:
    """Show in the UI how far the start is while the body runs; a failure to show it is logged only."""
    shown = StartShown(environment, services, redactor)
    showing = asyncio.create_task(shown.keep_showing())
    try:
        yield shown
    finally:
        shown.end()
        await asyncio.wait({showing}, timeout=_AT_MOST_SECONDS)
        showing.cancel()
        (ended,) = await asyncio.gather(showing, return_exceptions=True)
        if isinstance(ended, BaseException):
            log.warning("the UI does not show how far the start came: %s", str(ended) or type(ended).__name__)
