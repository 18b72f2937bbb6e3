"""Record the progress of an operation while it runs: changes close together in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from models.operations import OperationStep, StateChange
from tasks.deployment.operations import record_changes

WRITE_AFTER_SECONDS = 0.5
"""A runner that is killed loses at most what happened in so short a time; its containers still show it."""


class ProgressLog:
    """Takes what happened to services, and writes it soon after."""

    def __init__(self) -> None:
        self._changes: list[StateChange] = []
        self._steps: list[OperationStep] = []
        self._news = asyncio.Event()
        self._over = asyncio.Event()

    def add(self, *, change: StateChange | None = None, step: OperationStep | None = None) -> None:
        """Something happened; a change and the step it ends are written together or not at all."""
        self._changes += [] if change is None else [change]
        self._steps += [] if step is None else [step]
        self._news.set()

    def end(self) -> None:
        """Nothing more will happen."""
        self._over.set()
        self._news.set()

    async def keep_writing(self) -> None:
        """Write until nothing more will happen, and all that did is written.

        Raises:
            StoreError: It cannot be written.
        """
        while not self._over.is_set():
            await self._news.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), WRITE_AFTER_SECONDS)
            self._news.clear()
            changes, self._changes = self._changes, []
            steps, self._steps = self._steps, []
            if changes or steps:
                await record_changes(changes, steps)


@asynccontextmanager
async def progress_log() -> AsyncIterator[ProgressLog]:
    """Write what happens while the body runs; at its end, however it ends, all is written.

    Raises:
        StoreError: It cannot be written.
    """
    progress = ProgressLog()
    writing = asyncio.create_task(progress.keep_writing())
    try:
        yield progress
    finally:
        progress.end()
        await writing
