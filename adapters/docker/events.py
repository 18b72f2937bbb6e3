"""Events of containers, as the engine reports them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

import requests
from docker.errors import DockerException
from docker.types import CancellableStream

from adapters.docker.client import PROJECT_LABEL, READ_SECONDS, SERVICE_LABEL, EngineClient, innermost
from core.common.safe_text import printable
from models.containers import ONE_OFF_LABEL, ContainerEvent
from models.failures import EngineUnreachableError

# Everything but exec_*: every health check makes three of those, and they show commands with their arguments.
_ACTIONS = (
    *("create", "start", "restart", "die", "oom", "kill", "stop", "pause", "unpause", "rename", "destroy"),
    "health_status",
)
_ENDS = frozenset({"kill", "stop", "die", "disconnect", "unmount", "destroy"})
_ATTRIBUTES = ("exitCode", "signal", "execDuration", "image", "name", "oldName", ONE_OFF_LABEL)


class Events:
    """Events of one engine."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    def stream(self, project: str | None, since: datetime, until: datetime | None = None) -> EventStream:
        """Open a stream of the events of a project's containers: past ones first, then new ones until `until`.

        Moments are by this machine's clock. Without a project it has the events of all Compose projects.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        label = PROJECT_LABEL if project is None else f"{PROJECT_LABEL}={project}"
        ahead = self._client.ahead
        query = {
            "since": _timestamp(since + ahead),
            # The engine refuses a span that ends before it begins, as where a clock was set meanwhile.
            "until": None if until is None else _timestamp(max(since, until) + ahead),
            "filters": json.dumps({"type": ["container"], "label": [label], "event": list(_ACTIONS)}),
        }
        with self._client.translate_errors("listening to events"):
            client = self._client.read_client
            # The SDK's own call has no time limit, neither between events nor for the first answer.
            answer = client.get(client._url("/events"), params=query, stream=True, timeout=READ_SECONDS)
            client._raise_for_status(answer)
            client._disable_socket_timeout(client._get_raw_response_socket(answer))
            stream = CancellableStream(client._stream_helper(answer, decode=True), answer)
        return EventStream(stream, answer, self._client.address, endless=until is None, ahead=ahead)

    def has_history(self, since: datetime, until: datetime) -> bool:
        """Whether the engine still reports an event other than an end between two past moments, of any project.

        An engine that started in between does not: before all else it stops what ran on while it was away (moby,
        daemon.restore without live-restore), and those events look like stops by a user.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        ahead = self._client.ahead
        with self._client.translate_errors("reading past events"):
            reported: Iterable[dict[str, Any]] = self._client.read_client.events(
                since=_timestamp(since + ahead), until=_timestamp(max(since, until) + ahead), decode=True
            )
            return any(event.get("Action") not in _ENDS for event in reported)


class EventStream:
    """Events of one project's containers. Any thread may close it, which ends the iteration."""

    def __init__(
        self, stream: Any, answer: requests.Response, address: str, *, endless: bool, ahead: timedelta = timedelta()
    ) -> None:
        self._stream = stream
        self._answer = answer
        self._address = address
        self._endless = endless
        self._ahead = ahead
        self._closed = threading.Event()
        self._read = False

    def __enter__(self) -> EventStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[ContainerEvent]:
        """Wait for each event in turn.

        Raises:
            EngineUnreachableError: The connection to the engine was lost.
        """
        self._read = True
        try:
            for reported in self._stream:
                yield _event(reported, self._ahead)
        except (DockerException, requests.RequestException, OSError, ValueError) as error:
            # Closing the stream during a read raises one of these, depending on the layer that notices.
            if not self._closed.is_set():
                raise EngineUnreachableError(self._address, innermost(error)) from error
        finally:
            # The SDK's stream closes its socket, which stays open until the answer that reads from it is closed too.
            self._answer.close()
        if self._endless and not self._closed.is_set():
            raise EngineUnreachableError(self._address, "its events ended")

    def close(self) -> None:
        """Stop listening and wake the thread that reads."""
        if not self._closed.is_set():
            self._closed.set()
            self._stream.close()
            if not self._read:
                self._answer.close()


def _timestamp(moment: datetime) -> str:
    return f"{moment.timestamp():.9f}"


def _event(reported: dict[str, Any], ahead: timedelta) -> ContainerEvent:
    actor = reported.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    nanoseconds = reported.get("timeNano") or reported["time"] * 1_000_000_000
    return ContainerEvent(
        happened_at=datetime.fromtimestamp(nanoseconds // 1000 / 1e6, UTC) - ahead,
        container_id=actor.get("ID", ""),
        service=printable(attributes.get(SERVICE_LABEL, "")),
        project=printable(attributes.get(PROJECT_LABEL, "")),
        action=reported.get("Action", ""),
        attributes={key: printable(attributes[key]) for key in _ATTRIBUTES if key in attributes},
    )
