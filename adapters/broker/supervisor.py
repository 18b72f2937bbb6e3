"""Supervisor of the control plane: it starts again what was killed, and leaves alone what a person stopped.

`python -m adapters.broker.supervisor` serves until it is terminated. The engine's restart policies start nothing that
`docker kill` ended. Two of these run, each in a container of the project that it supervises, so that each starts the
other one too; a second start of the same container does nothing. ROAS_BROKER_ENGINE names the engine's socket.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import h11
import orjson

from adapters.broker.lookups import connect, read_answer
from core.recovery.tracker import SETTLE, ServiceTracker
from models.containers import ContainerEvent
from models.failures import EngineUnreachableError

log = logging.getLogger("roas.supervisor")

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
FOLLOWS = Path("/tmp/follows")  # noqa: S108 - the container's own
"""A file that is touched while the engine's events are followed."""

_ACTIONS = ("kill", "die", "stop", "start", "destroy")
_POLICIES = frozenset({"always", "unless-stopped"})
_ENGINE_RESTARTS_WITHIN = timedelta(seconds=1)
_MISSED = timedelta(seconds=60)
"""What ended so shortly before this process began is looked after too; the engine keeps its last 256 events."""

_TICK_SECONDS = 1.0
_AGAIN_AT_MOST = timedelta(minutes=1)
_SECONDS = 60


@dataclass(slots=True)
class EndedContainer:
    """A container that was killed, until it runs again."""

    service: str
    ended_at: datetime
    due: datetime
    pause: timedelta = timedelta(seconds=1)


@dataclass(slots=True)
class Supervisor:
    """Follows the events of one project, and starts what was killed."""

    engine: str
    project: str
    _trackers: dict[str, ServiceTracker] = field(default_factory=dict)
    _killed: set[str] = field(default_factory=set)
    _ended: dict[str, EndedContainer] = field(default_factory=dict)
    _seen_at: datetime = field(default_factory=lambda: datetime.now(UTC) - _MISSED)

    async def run(self) -> None:
        """Supervise until cancelled; an engine that is away is asked again and again."""
        away = False
        while True:
            try:
                async with aclosing(_events(self.engine, self.project, self._seen_at)) as events:
                    async for event in events:
                        if away:
                            log.info("the engine is back")
                        away = False
                        _show_sign_of_life()
                        if event is not None:
                            self.take(event)
                        await self._start_due(datetime.now(UTC))
            except (EngineUnreachableError, TimeoutError) as error:
                if not away:
                    log.warning("the engine is away: %s", error)
                away = True
            await asyncio.sleep(_TICK_SECONDS)

    def take(self, event: ContainerEvent) -> None:
        """Learn from an event which container ended, and whether a person killed or stopped it."""
        # After the connection broke off the engine is asked for all since then, and repeats the last one.
        self._seen_at = event.happened_at
        name = event.container_id
        tracker = self._trackers[name] = self._trackers.get(name, ServiceTracker()).apply_event(event)
        if event.action in ("start", "destroy"):
            # What was remembered of it decides nothing any more.
            del self._trackers[name]
            self._killed.discard(name)
        if event.action == "kill":
            self._killed.add(name)
        elif event.action == "die" and name in self._killed and name not in tracker.stopped:
            # The engine reports a stop just before or after the end. What ends by itself it starts again itself.
            wait = SETTLE if tracker.end_requested_at is not None else _ENGINE_RESTARTS_WITHIN
            self._ended[name] = EndedContainer(event.service, event.happened_at, event.happened_at + wait)
        elif event.action in ("stop", "start", "destroy"):
            self._ended.pop(name, None)

    async def _start_due(self, now: datetime) -> None:
        for container, ended in list(self._ended.items()):
            if ended.due > now:
                continue
            if await self._is_settled(container, ended):
                del self._ended[container]
            else:
                ended.due = now + ended.pause
                ended.pause = min(2 * ended.pause, _AGAIN_AT_MOST)

    async def _is_settled(self, container: str, ended: EndedContainer) -> bool:
        """Start a container where it is still down; whether nothing is left to be done for it."""
        status, inspection = await _ask(self.engine, "GET", f"/containers/{container}/json")
        if status == HTTPStatus.NOT_FOUND:
            return True
        if status != HTTPStatus.OK or not isinstance(inspection, dict):
            return False
        state, policy = inspection["State"], (inspection["HostConfig"].get("RestartPolicy") or {}).get("Name")
        if state["Status"] != "exited" or policy not in _POLICIES:
            # It runs, or the engine itself starts it again, or it is one that ends.
            return bool(state["Status"] != "removing")
        code = state.get("ExitCode")
        status, answer = await _ask(self.engine, "POST", f"/containers/{container}/start")
        if status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED, HTTPStatus.NOT_FOUND):
            if status == HTTPStatus.NO_CONTENT:
                seconds = (datetime.now(UTC) - ended.ended_at).total_seconds()
                log.warning(
                    "%s was killed (exit code %s) and not stopped; started again %.1f s after its end",
                    ended.service, code, seconds,
                )  # fmt: skip
            return True
        why = answer.get("message", answer) if isinstance(answer, dict) else answer
        log.error("%s cannot be started again (tried again until it can): %s", ended.service, why)
        return False


def _show_sign_of_life() -> None:
    FOLLOWS.touch()


async def own_project(engine: str) -> str:
    """The Compose project of the container that this process runs in, whose name is that of its machine.

    Raises:
        EngineUnreachableError: The engine did not answer, or does not know it.
    """
    status, inspection = await _ask(engine, "GET", f"/containers/{socket.gethostname()}/json")
    project = (
        ((inspection.get("Config") or {}).get("Labels") or {}).get(PROJECT) if isinstance(inspection, dict) else None
    )
    if status != HTTPStatus.OK or not project:
        raise EngineUnreachableError(f"unix://{engine}", "it does not know the project of this container")
    return str(project)


async def _ask(engine: str, method: str, target: str) -> tuple[int, Any]:
    reader, writer = await connect(engine)
    try:
        head = f"{method} {target} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode())
        async with asyncio.timeout(_SECONDS):
            status, body = await read_answer(reader, method)
    finally:
        writer.close()
    try:
        return status, orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return status, body.decode(errors="replace")


async def _events(engine: str, project: str, since: datetime) -> AsyncGenerator[ContainerEvent | None, None]:
    """The events of a project's containers, past ones first; None each second without one.

    Raises:
        EngineUnreachableError: The engine did not answer, or its events ended.
    """
    filters = {"type": ["container"], "label": [f"{PROJECT}={project}"], "event": list(_ACTIONS)}
    target = f"/events?since={since.timestamp():.9f}&filters={quote(json.dumps(filters))}"
    reader, writer = await connect(engine)
    connection, buffer = h11.Connection(h11.CLIENT), b""
    try:
        writer.write(connection.send(h11.Request(method="GET", target=target, headers=[("Host", "docker")])) or b"")
        connection.send(h11.EndOfMessage())
        received = time.monotonic()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                data = None
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, received + _TICK_SECONDS - time.monotonic())):
                        data = await reader.read(64 * 1024)
                if data is None:
                    received = time.monotonic()
                    yield None
                else:
                    connection.receive_data(data)
            elif isinstance(event, h11.Response) and event.status_code != HTTPStatus.OK:
                raise EngineUnreachableError(f"unix://{engine}", f"it answered {event.status_code}")
            elif isinstance(event, h11.Data):
                *lines, buffer = (buffer + event.data).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield _read_event(orjson.loads(line))
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                raise EngineUnreachableError(f"unix://{engine}", "its events ended")
    except (OSError, h11.RemoteProtocolError, orjson.JSONDecodeError) as error:
        raise EngineUnreachableError(f"unix://{engine}", "its events broke off") from error
    finally:
        writer.close()


def _read_event(reported: dict[str, Any]) -> ContainerEvent:
    attributes = reported["Actor"]["Attributes"]
    return ContainerEvent(
        happened_at=datetime.fromtimestamp(reported["timeNano"] // 1000 / 1e6, UTC),
        container_id=reported["Actor"]["ID"],
        service=attributes.get(SERVICE, ""),
        project=attributes.get(PROJECT, ""),
        action=reported["Action"],
        attributes={key: attributes[key] for key in ("exitCode", "signal") if key in attributes},
    )


async def supervise(engine: str) -> None:
    """Supervise the project that this process belongs to, from the moment when the engine knows it."""
    while True:
        try:
            project = await own_project(engine)
            break
        except (EngineUnreachableError, TimeoutError) as error:
            log.warning("%s", error)
            await asyncio.sleep(_TICK_SECONDS)
    log.info("supervising project %s", project)
    await Supervisor(engine, project).run()


def main() -> None:
    """Run the supervisor."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(supervise(os.environ.get("ROAS_BROKER_ENGINE", "/run/host/docker.sock")))


if __name__ == "__main__":
    main()
