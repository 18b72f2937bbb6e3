"""Logs of containers: read to their end, or followed."""

from __future__ import annotations

from collections.abc import Collection, Generator
from datetime import datetime

from adapters.docker.client import EngineClient
from adapters.docker.containers import Containers
from adapters.docker.events import Events
from adapters.docker.followed_logs import FollowedLogs
from adapters.docker.log_stream import open_log
from core.common.stamps import earlier
from core.errors.redact_lines import LineRedactor

_BATCH_LINES = 500


class Logs:
    """Logs of one engine's containers. Lines are redacted, and each has the engine's stamp by this machine's clock."""

    def __init__(self, client: EngineClient, containers: Containers, events: Events) -> None:
        self._client, self._containers, self._events = client, containers, events

    def read(self, container_id: str, tail: int, since: datetime | None = None) -> Generator[list[str], None, None]:
        """The last `tail` lines of a container in batches, the oldest first; who has enough closes the iterator.

        Raises:
            EngineError: Among others when the container's log driver keeps nothing readable.
        """
        ahead, redactor = self._client.ahead, LineRedactor(self._client.redact)
        from_second = "" if since is None else f"{(since + ahead).timestamp():.9f}"
        with open_log(self._client, container_id, tail=str(tail), since=from_second) as stream:
            batch: list[str] = []
            for lines in stream:
                batch += lines
                if len(batch) >= _BATCH_LINES:
                    yield redactor.lines(earlier("\n".join(batch), ahead).split("\n"))
                    batch = []
            if batch:
                yield redactor.lines(earlier("\n".join(batch), ahead).split("\n"))

    def follow(self, project: str, services: Collection[str], since: datetime) -> FollowedLogs:
        """Follow the logs of `services`, or of all of a project, from a moment on."""
        return FollowedLogs(self._client, self._containers, self._events, project, frozenset(services), since)
