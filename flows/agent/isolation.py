"""Run things for ever side by side in one event loop: what fails or hangs is begun again, unnoticed by the others."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from models.failures import RoasError
from tasks.runtime.fair_threads import count_for_environment

log = logging.getLogger("roas")

Progress = Callable[[], None]
"""Called by work that goes on; without it for too long it counts as hanging."""

_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_CANCELLED_WITHIN_SECONDS = 1.0
_MARGIN_SECONDS = 0.01


@dataclass(slots=True)
class _Kept:
    """Work that is kept running, and how it went."""

    work: Callable[[Progress], Awaitable[None]]
    silent_for: float
    task: asyncio.Task[None] | None = None
    keeper: asyncio.Task[None] | None = None
    progress_at: float = field(default_factory=time.monotonic)
    failures: int = 0
    reported: str = ""
    hurry: asyncio.Event = field(default_factory=asyncio.Event)

    def progress(self) -> None:
        self.progress_at = time.monotonic()
        self.failures = 0


class KeptRunning:
    """Work by its key, an environment and what is done for it. Each is begun again when it fails, ends or hangs.

    The pause before that grows with each failure in a row, from 1 s to a minute.
    """

    def __init__(self, *, pause_seconds: float = _PAUSE_SECONDS) -> None:
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._pause_seconds = pause_seconds

    def begin(
        self,
        environment: str,
        what: str,
        work: Callable[[Progress], Awaitable[None]],
        *,
        silent_for: timedelta = timedelta(minutes=10),
    ) -> None:
        """Keep work running; it hangs where it shows no progress for `silent_for`.

        Raises:
            ValueError: There is one of this key.
        """
        if (environment, what) in self._kept:
            raise ValueError(f"{what} of {environment} is kept running already")
        job = self._kept[environment, what] = _Kept(work, silent_for.total_seconds())
        with count_for_environment(environment):
            job.keeper = asyncio.create_task(self._keep(environment, what, job))

    def environments(self) -> frozenset[str]:
        """The environments for which something is kept running; an empty name is that of the host itself."""
        return frozenset(environment for environment, _ in self._kept)

    def failures(self, environment: str, what: str) -> int:
        """How often in a row this work failed."""
        return self._kept[environment, what].failures

    def hurry(self, environment: str) -> None:
        """Begin what failed again at once: its cause may be over."""
        for (name, _), job in self._kept.items():
            if name == environment:
                job.hurry.set()

    async def end(self, environment: str, *, within: timedelta) -> None:
        """End all work of an environment; what takes longer is left to itself."""
        jobs = {key: self._kept.pop(key) for key in list(self._kept) if key[0] == environment}
        await _note_cancel([job.keeper for job in jobs.values() if job.keeper is not None], within)

    async def end_all(self, *, within: timedelta) -> None:
        """End all work at once."""
        jobs, self._kept = list(self._kept.values()), {}
        await _note_cancel([job.keeper for job in jobs if job.keeper is not None], within)

    async def _keep(self, environment: str, what: str, job: _Kept) -> None:
        while True:
            job.progress_at = time.monotonic()
            job.task = asyncio.ensure_future(_note_begin(job))
            try:
                why = await self._why_it_ended(job)
            except asyncio.CancelledError:
                await _note_cancel([job.task], timedelta(days=1))
                raise
            job.failures += 1
            name = f"{what} of {environment}" if environment else what
            _report(job, f"{name} {why}; it is begun again")
            pause = self._pause_seconds * 2 ** min(job.failures - 1, 16)
            job.hurry.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(pause, _LONGEST_PAUSE_SECONDS)):
                    await job.hurry.wait()

    async def _why_it_ended(self, job: _Kept) -> str:
        """Wait until the work ends or hangs, and say which."""
        task = job.task
        assert task is not None  # noqa: S101 - it was begun just now
        while True:
            silent_for = time.monotonic() - job.progress_at
            if silent_for > job.silent_for:
                # A call that hangs in its thread stays there; the work goes on without it.
                task.cancel()
                await asyncio.wait([task], timeout=_CANCELLED_WITHIN_SECONDS)
                return f"hung for {job.silent_for:.0f} s"
            # Not sooner: many environments that are looked at each second would keep a host awake.
            await asyncio.wait([task], timeout=job.silent_for - silent_for + _MARGIN_SECONDS)
            if task.done():
                break
        if task.cancelled():
            return "was cancelled"
        error = task.exception()
        if error is None:
            return "ended"
        if not isinstance(error, RoasError | TimeoutError | OSError):
            # A defect of ours: it must be seen.
            log.error("%s broke off", job.work, exc_info=error)
        return f"failed: {error or type(error).__name__}"


async def _note_begin(job: _Kept) -> None:
    await job.work(job.progress)


async def _note_cancel(tasks: list[asyncio.Task[None]], within: timedelta) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=within.total_seconds())


def _report(job: _Kept, text: str) -> None:
    """Log why it is begun again once, until it is another reason."""
    if job.reported != text:
        job.reported = text
        log.warning("%s", text)
