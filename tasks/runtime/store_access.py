"""Access the stores so that recovery outlives them: within `outliving_stores` no call waits for a store that is away.

Reads are then answered from the last read, and writes are kept in a journal until the stores are back.
Elsewhere a store that fails raises its StoreError as always.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from adapters.stores import Stores
from adapters.stores.last_records import LastRecords
from adapters.stores.recovery_writes import Beat, read_records
from adapters.stores.repositories.repositories import import_repositories
from adapters.stores.write_behind import WriteBehind, leave_for_later
from adapters.stores.writes import Names, Write
from core.recovery.records import rename_attempts
from models.errors import Pattern
from models.failures import StoreConstraintError, StoreError
from models.records import RecoveryRecords
from models.recovery import RecoveryExecution
from models.settings import current_settings
from tasks.runtime.stores import open_stores, stores_at

log = logging.getLogger("roas")

# Recovery waits for no import, and forks of the warm process share these modules.
import_repositories()

Answer = TypeVar("Answer")
Otherwise = Callable[[RecoveryRecords], tuple[RecoveryRecords, Answer]]

ANSWER_WITHIN = timedelta(seconds=1)
"""A store that takes longer is taken for away: a service is down meanwhile."""

_OPENED_WITHIN = timedelta(seconds=20)
"""To open the stores for the first time may make or upgrade them."""

_ANSWERED_WITHIN = timedelta(seconds=5)
"""The same, where there is something to go on by without them."""

_READ_WITHIN = timedelta(minutes=1)
"""What nothing waits for may take longer: over a slow network all that is read takes many ways there and back."""

_READ_TRIES = 3
BUDGET_WINDOW = timedelta(days=1)
_pool = ThreadPoolExecutor(8, thread_name_prefix="stores")


def _leave_records(records: RecoveryRecords) -> tuple[RecoveryRecords, Any]:
    return records, None


class StoreAccess:
    """What one watcher knows of its environment by the stores, and its way to them."""

    def __init__(self, environment: str) -> None:
        self.known = RecoveryRecords(environment=environment)
        self.was_read = False
        """Whether the stores were read at all, by this process or an earlier one of this host, so that by memory is
        better than by nothing."""
        settings = current_settings()
        self._reading: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._changes = self._under_way = 0
        self._last = LastRecords(settings.data_dir.absolute() / "known", environment)
        self._writer = _writer(settings.data_dir.absolute(), settings.stores_url)

    @property
    def away(self) -> bool:
        """Whether the stores are taken for away."""
        return self._writer.behind

    async def refresh(self, now: datetime, *, within: timedelta = ANSWER_WITHIN) -> None:
        """Read all that a recovery may need, where the stores answer, and take over what dead processes left.

        What takes longer than `within` goes on beside the caller, and counts once it is read.
        """
        if self._reading is None or self._reading.done():
            if self._writer.behind:
                return
            self._reading = asyncio.create_task(self._read_all(now))
        await asyncio.wait([self._reading], timeout=within.total_seconds())
        if self._reading.done():
            self._reading.result()

    async def _read_all(self, now: datetime) -> None:
        name = self.known.environment
        for _ in range(_READ_TRIES):
            changes, waits_for_write = self._changes, self._under_way > 0
            records = await self.read(
                lambda stores: read_records(stores, name, now - BUDGET_WINDOW, now), lambda _: None, within=_READ_WITHIN
            )
            if records is None:
                return
            # What this process wrote meanwhile would be missing.
            if changes == self._changes and not waits_for_write:
                self.was_read = True
                self.known = replace(
                    records,
                    patterns=_shared_patterns(records.patterns),
                    executions=_shared_attempts(records.executions),
                )
                await asyncio.shield(self._keep())
                self._writer.look_for_left()
                return

    async def begin(self) -> None:
        """Open the stores and read them; the first time may take longer. While they are away, take the last read."""
        last = await asyncio.wrap_future(_pool.submit(self._last.read))
        await self.refresh(datetime.now(UTC), within=_OPENED_WITHIN if last is None else _ANSWERED_WITHIN)
        if not self.was_read and last is not None:
            self.was_read, self.known = True, last
            why = "away" if self.away else "slow"
            log.info("the stores are %s; %s is watched by what was read of it last", why, last.environment)

    def _keep(self) -> asyncio.Task[None]:
        """Keep what is known, one after the other; a process that starts without the stores must not act on less."""
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.create_task(self._keep_the_newest())
        return self._keeping

    async def _keep_the_newest(self) -> None:
        records = None
        while records is not self.known:
            records = self.known
            await asyncio.wrap_future(_pool.submit(self._last.keep, records))

    def beat(self, name: str, at: datetime) -> None:
        """Leave a heartbeat where the stores take it; nothing waits for that."""
        self._writer.put(Beat(name=name, at=at)).answer.add_done_callback(_note_answer_of)

    async def read(
        self,
        ask: Callable[[Stores], Answer],
        otherwise: Callable[[RecoveryRecords], Answer],
        *,
        within: timedelta = ANSWER_WITHIN,
    ) -> Answer:
        """Read the stores, or answer from the records known without them."""
        if not self._writer.behind:
            try:
                async with asyncio.timeout(within.total_seconds()):
                    return await asyncio.wrap_future(_pool.submit(lambda: ask(open_stores())))
            except StoreError as error:
                self._writer.fall_behind(str(error))
            except TimeoutError:
                self._writer.fall_behind(f"no answer within {within.total_seconds():g} s", is_slow=True)
        return otherwise(self.known)

    async def write(
        self,
        write: Write,
        otherwise: Otherwise[Answer] = _leave_records,
        learn: Callable[[RecoveryRecords, Answer], RecoveryRecords] | None = None,
    ) -> Answer:
        """Write; returns the answer of the stores, or that of `otherwise`, which also gives the records after it.

        `learn` gives the records after an answer of the stores, where that says more.

        Raises:
            StoreConstraintError: The stores refused it.
        """
        was_behind = self._writer.behind
        self._changes += 1
        self._under_way += 1
        pending = self._writer.put(write)
        answered = asyncio.wrap_future(pending.answer)
        answered.add_done_callback(self._note_answer)
        try:
            if not was_behind:
                async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
                    answer: Answer = await asyncio.shield(answered)
                    self.known = learn(self.known, answer) if learn else otherwise(self.known)[0]
                    if write.kept and self.was_read:
                        self._keep()
                    return answer
        except StoreConstraintError:
            raise
        except StoreError as error:
            self._writer.fall_behind(str(error))
        except TimeoutError:
            self._writer.fall_behind(f"no answer within {ANSWER_WITHIN.total_seconds():g} s", is_slow=True)
        answered.add_done_callback(_note_answer_of)
        await asyncio.wrap_future(_pool.submit(self._writer.keep, pending))
        self.known, assumed = otherwise(self.known)
        if write.kept and self.was_read:
            # The next process of this host must know of this attempt, whenever the stores are back.
            await asyncio.shield(self._keep())
        return assumed

    def _note_answer(self, _: asyncio.Future[Any]) -> None:
        self._under_way -= 1

    def with_local_ids(self, records: RecoveryRecords) -> RecoveryRecords:
        """Records with the ids that errors had here while the stores were away."""
        return replace(records, executions=rename_attempts(records.executions, self._writer.names.errors))


_mine: ContextVar[StoreAccess | None] = ContextVar("store_access", default=None)


@contextmanager
def outliving_stores(access: StoreAccess) -> Iterator[None]:
    """Within it no store that is away ends or delays what recovers an environment."""
    token = _mine.set(access)
    try:
        yield
    finally:
        _mine.reset(token)


_patterns: list[tuple[Pattern, ...]] = []


def _shared_patterns(patterns: tuple[Pattern, ...] | None) -> tuple[Pattern, ...] | None:
    """One copy of the patterns for all environments of this process; they are most of the records."""
    if patterns is None or (_patterns and _patterns[0] == patterns):
        return _patterns[0] if patterns is not None else None
    _patterns[:] = [patterns]
    return patterns


_attempts: list[RecoveryExecution] = []


def _shared_attempts(attempts: tuple[RecoveryExecution, ...]) -> tuple[RecoveryExecution, ...]:
    """One copy of each attempt for all environments of this process: all of them know all attempts of the host."""
    last = {attempt.attempt_id: attempt for attempt in _attempts}
    shared = tuple(
        attempt if (previous := last.get(attempt.attempt_id)) != attempt else previous for attempt in attempts
    )
    _attempts[:] = shared
    return shared


def stores_are_away() -> bool:
    """Whether the stores are known to be away, so that what can wait for them should."""
    access = _mine.get()
    return access is not None and access.away


def outlives_stores() -> bool:
    """Whether this is done within `outliving_stores`."""
    return _mine.get() is not None


async def from_stores(ask: Callable[[Stores], Answer], otherwise: Callable[[RecoveryRecords], Answer]) -> Answer:
    """Read the stores; while they are away, answer from the records known without them.

    Raises:
        StoreError: A store failed, outside of `outliving_stores`.
    """
    access = _mine.get()
    if access is None:
        return await asyncio.to_thread(lambda: ask(open_stores()))
    return await access.read(ask, otherwise)


async def to_stores(
    write: Write,
    otherwise: Otherwise[Answer] = _leave_records,
    learn: Callable[[RecoveryRecords, Answer], RecoveryRecords] | None = None,
) -> Answer:
    """Write; while the stores are away, keep the write in the journal. As `StoreAccess.write`.

    Raises:
        StoreError: A store failed, outside of `outliving_stores`, or refused the write.
    """
    access = _mine.get()
    if access is None:
        answer: Answer = await asyncio.to_thread(lambda: write.apply(open_stores(), Names()))
        return answer
    return await access.write(write, otherwise, learn)


def use_local_ids(records: RecoveryRecords) -> RecoveryRecords:
    """Records as this process names the errors in them."""
    access = _mine.get()
    return records if access is None else access.with_local_ids(records)


def _note_answer_of(answered: asyncio.Future[Any] | Future[Any]) -> None:
    """Ignore an answer that comes after its caller has stopped waiting."""
    if not answered.cancelled():
        answered.exception()


def journals_folder() -> Path:
    """Where writes wait for the stores."""
    return current_settings().data_dir.absolute() / "journal"


async def leave_in_journal(write: Write) -> bool:
    """Leave a write for when the stores are back; False where the disk, which may be full, does not take it."""
    folder = journals_folder()
    try:
        await asyncio.to_thread(leave_for_later, write, folder)
    except OSError as error:
        log.error("the journal in %s was not written: %s", folder, error)
        return False
    return True


@lru_cache(maxsize=8)
def _writer(data_dir: Path, stores_url: str | None) -> WriteBehind:
    return WriteBehind(lambda: stores_at(data_dir, stores_url), data_dir / "journal")
