"""The logs of a project's containers as they are written, through restarts and replacements."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, Full, Queue
from types import TracebackType

from adapters.docker.client import EngineClient
from adapters.docker.containers import Containers
from adapters.docker.events import Events, EventStream
from adapters.docker.log_stream import LogStream, open_log
from core.common.stamps import earlier, moment_of, stamp_of
from core.errors.redact_lines import LineRedactor
from models.containers import ContainerEvent, ContainerState
from models.failures import ContainerGoneError, EngineError, EngineUnreachableError, RoasError
from models.records import ContainerLog

_QUIET_SECONDS, _GATHER_SECONDS = 0.1, 0.5
"""What was written at once comes as several parts: lines are given when none came for so long, or after so long."""
_GATHER_LINES = 1000
_MOST_WAITING = 256
"""Parts that wait for who reads them; then the engine waits, as it does for its own client."""
_AGAIN_SECONDS = 2.0
_PUT_SECONDS = 0.5
_SIGN_OF_LIFE_SECONDS = 5.0
"""After so long without a line an empty batch is given, so that who reads can end."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Source:
    """A container whose log is followed. `last` is the stamp of its last line, by the engine's clock."""

    container_id: str
    service: str
    name: str
    redactor: LineRedactor
    last: str = ""
    stream: LogStream | None = None
    is_read: bool = False
    starts_again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedBatch:
    """What was written within a moment, one log a container; `remark` says what interrupts the logs.

    Without either it is a sign of life.
    """

    logs: tuple[ContainerLog, ...] = ()
    remark: str = ""


class FollowedLogs:
    """Follows logs in threads: one for each container and one for the engine's events. Close it, or leave its block."""

    def __init__(
        self,
        client: EngineClient,
        containers: Containers,
        events: Events,
        project: str,
        services: frozenset[str],
        since: datetime,
    ) -> None:
        self._client, self._containers, self._events = client, containers, events
        self._project, self._services = project, services
        self._since = f"{(since + client.ahead).timestamp():.9f}"
        self._parts: Queue[tuple[_Source, list[str]] | str | RoasError] = Queue(maxsize=_MOST_WAITING)
        self._sources: dict[str, _Source] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._event_stream: EventStream | None = None
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> FollowedLogs:
        self._run(self._watch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[FollowedBatch]:
        """Wait for what is written, without end.

        Raises:
            EngineError: The engine refuses its events or the list of containers. While it is away it is asked again.
        """
        while not self._closed.is_set():
            by_source: dict[_Source, list[str]] = {}
            parts = self._gather()
            if not parts:
                yield FollowedBatch()
            for part in parts:
                if isinstance(part, RoasError):
                    raise part
                if isinstance(part, str):
                    yield FollowedBatch(remark=part)
                else:
                    by_source.setdefault(part[0], []).extend(part[1])
            logs = tuple(self._log(source, lines) for source, lines in by_source.items())
            if logs:
                yield FollowedBatch(logs=logs)

    def close(self) -> None:
        """End all threads."""
        self._closed.set()
        with self._lock:
            open_streams = [source.stream for source in self._sources.values() if source.stream is not None]
        if self._event_stream is not None:
            self._event_stream.close()
        for stream in open_streams:
            stream.close()
        for thread in self._threads:
            thread.join(timeout=1)

    def _gather(self) -> list[tuple[_Source, list[str]] | str | RoasError]:
        try:
            parts = [self._parts.get(timeout=_SIGN_OF_LIFE_SECONDS)]
        except Empty:
            return []
        until = time.monotonic() + _GATHER_SECONDS
        while len(parts) < _GATHER_LINES and (left := until - time.monotonic()) > 0:
            try:
                parts.append(self._parts.get(timeout=min(left, _QUIET_SECONDS)))
            except Empty:
                break
        return parts

    def _log(self, source: _Source, lines: list[str]) -> ContainerLog:
        shifted = earlier("\n".join(lines), self._client.ahead).split("\n")
        return ContainerLog(service=source.service, container=source.name, lines=tuple(source.redactor.lines(shifted)))

    def _watch(self) -> None:
        """Read the log of every container that is there, and of each that starts."""
        is_away = False
        while not self._closed.is_set():
            try:
                with self._events.stream(self._project, datetime.now(UTC)) as self._event_stream:
                    for state in self._containers.inspect_project(self._project):
                        self._attach(state)
                    is_away = False
                    for event in () if self._closed.is_set() else self._event_stream:
                        self._notice(event)
            except EngineUnreachableError as error:
                if not is_away:
                    self._put(f"{error.what} It is asked again every {_AGAIN_SECONDS:.0f} s.")
                is_away = True
                self._closed.wait(_AGAIN_SECONDS)
            except RoasError as error:
                self._put(error)
                return

    def _notice(self, event: ContainerEvent) -> None:
        if event.action == "start":
            with suppress(ContainerGoneError):
                self._attach(self._containers.inspect(event.container_id))
        elif event.action == "destroy":
            with self._lock:
                self._sources.pop(event.container_id, None)

    def _attach(self, state: ContainerState) -> None:
        if state.one_off or state.state == "created" or (self._services and state.service not in self._services):
            return
        with self._lock:
            source = self._sources.get(state.container_id)
            if source is None:
                name = state.replaces[1] if state.replaces else state.name
                source = _Source(
                    container_id=state.container_id,
                    service=state.service,
                    name=name,
                    redactor=LineRedactor(self._client.redact),
                )
                self._sources[state.container_id] = source
            # The engine ends a log with its container, and may report the next start before that end.
            source.starts_again = source.is_read
            if not source.is_read and not self._closed.is_set():
                source.is_read = True
                self._run(self._read, source)

    def _read(self, source: _Source) -> None:
        """Read one log until its container ends and does not start again."""
        while True:
            is_lost = False
            try:
                self._read_once(source)
            except (ContainerGoneError, EngineUnreachableError):
                # Of an engine that is away, `_watch` speaks, and attaches again.
                is_lost = True
            except EngineError as error:
                self._put(f"The log of {source.name} cannot be followed: {error.what}")
                is_lost = True
            with self._lock:
                if is_lost or self._closed.is_set() or not source.starts_again:
                    source.is_read = source.starts_again = False
                    return
                source.starts_again = False

    def _read_once(self, source: _Source) -> None:
        before = source.last
        since = _seconds(before) or self._since
        with open_log(self._client, source.container_id, tail="all", since=since, follow=True) as source.stream:
            if self._closed.is_set():
                return
            for lines in source.stream:
                stamps = [line.partition(" ")[0] for line in lines]
                # All stamps of an engine have the same length, so they compare as texts.
                new = [line for line, stamp in zip(lines, stamps, strict=True) if stamp > before]
                source.last = max(source.last, *(stamp for stamp in stamps if stamp_of(f"{stamp} ") is not None), "")
                if new:
                    self._put((source, new))
        source.stream = None

    def _put(self, part: tuple[_Source, list[str]] | str | RoasError) -> None:
        while not self._closed.is_set():
            with suppress(Full):
                self._parts.put(part, timeout=_PUT_SECONDS)
                return

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=work, args=arguments, name="logs", daemon=True)
        self._threads.append(thread)
        thread.start()


def _seconds(stamp: str) -> str:
    """A stamp as the engine takes it, to the nanosecond; empty for what is none."""
    at = moment_of(stamp)
    if at is None:
        return ""
    fraction = stamp.partition(".")[2].rstrip("Z") or "0"
    return f"{int(at.timestamp())}.{fraction}"
