"""Find out which environments changed, by one read of the stores for all who have a page open."""

from __future__ import annotations

from collections.abc import Mapping

from models.operations import Operation
from models.overview import Overview
from models.settings import current_settings
from tasks.reporting.overview import read_overview

_STORES = ("deployment_logs", "monitoring", "errors")
Mark = tuple[int, ...]
"""What differs once a file of the stores was written; empty where they are no files of this machine."""


class ChangeReader:
    """Compares each reading of the stores with the one before. It keeps the last reading alone."""

    def __init__(self) -> None:
        self._mark: Mark | None = None
        self._states: Mapping[str, object] = {}

    def read(self) -> frozenset[str]:
        """The environments that changed since the last call; none at the first.

        An environment with a running operation counts as changed whenever anything was written.

        Raises:
            StoreError: The stores cannot be read.
        """
        mark = _read_mark()
        if mark and mark == self._mark:
            return frozenset()
        is_first, before = self._mark is None, self._states
        overview = read_overview()
        self._mark, self._states = mark, _states(overview)
        if is_first:
            return frozenset()
        running = {summary.environment for summary in overview.environments if summary.records.running is not None}
        changed = {name for name in {*before, *self._states} if before.get(name) != self._states.get(name)}
        return frozenset(changed | running)


def _states(overview: Overview) -> dict[str, object]:
    return {
        summary.environment: (
            summary.records.checked_at,
            summary.verdict,
            _state(summary.records.last_operation),
            summary.records.open_tickets,
            summary.records.open_alerts,
            summary.records.saved_at,
            summary.host,
        )
        for summary in overview.environments
    }


def _state(operation: Operation | None) -> object:
    return None if operation is None else (operation.deployment_id, operation.status, operation.ended_at)


def _read_mark() -> Mark:
    settings = current_settings()
    if settings.stores_url is not None:
        return ()
    marks = []
    for name in _STORES:
        path = settings.store_path(name)
        for file in (path, path.with_name(f"{path.name}-wal")):
            try:
                stat = file.stat()
            except FileNotFoundError:
                marks += [0, 0]
            else:
                marks += [stat.st_mtime_ns, stat.st_size]
    return tuple(marks)
