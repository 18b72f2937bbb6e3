"""One container's log as the engine sends it: lines as they arrive, with the stamps of the engine's clock."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any

import requests
import urllib3

from adapters.docker.client import READ_SECONDS, EngineClient, innermost, short
from core.common.lines import LineAssembler
from models.failures import EngineUnreachableError

_CHUNK = 64 * 1024
_HEADER = struct.Struct(">BxxxL")


class LogStream:
    """The lines of one container's log, neither redacted nor made printable. Any thread may close it, which ends the
    iteration."""

    def __init__(self, client: EngineClient, answer: requests.Response, *, is_terminal: bool) -> None:
        self._client, self._answer, self._is_terminal = client, answer, is_terminal
        self._closed = threading.Event()

    def __enter__(self) -> LogStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._answer.close()

    def __iter__(self) -> Iterator[list[str]]:
        """Wait for lines in turn.

        Raises:
            EngineUnreachableError: The connection to the engine was lost.
        """
        assemblers: dict[int, LineAssembler] = {}
        try:
            for source, data in self._parts():
                if lines := assemblers.setdefault(source, LineAssembler()).feed(data):
                    yield lines
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # Closing the stream during a read raises one of these, depending on the layer that notices.
            if not self._closed.is_set():
                raise EngineUnreachableError(self._client.address, innermost(error)) from error
            return
        # Its connection may serve another request from now on.
        self._closed.set()
        for assembler in assemblers.values():
            if lines := assembler.rest():
                yield lines

    def close(self) -> None:
        """Stop reading and wake the thread that reads."""
        if not self._closed.is_set():
            self._closed.set()
            with suppress(OSError, AttributeError):
                _socket_of(self._client, self._answer).shutdown(socket.SHUT_RDWR)

    def _parts(self) -> Iterator[tuple[int, bytes]]:
        """What the engine sends, by output stream: of a container with a terminal as it is, else in frames."""
        raw, buffer = self._answer.raw, bytearray()
        while chunk := raw.read1(_CHUNK):
            if self._is_terminal:
                yield 0, chunk
                continue
            buffer += chunk
            while len(buffer) >= _HEADER.size:
                source, size = _HEADER.unpack_from(buffer)
                end = _HEADER.size + size
                if len(buffer) < end:
                    break
                yield source, bytes(buffer[_HEADER.size : end])
                del buffer[:end]


def open_log(client: EngineClient, container_id: str, *, tail: str, since: str, follow: bool = False) -> LogStream:
    """Open a container's log; `since` is in seconds by the engine's clock, empty for the beginning.

    Raises:
        EngineError: Among others when the container's log driver keeps nothing readable.
    """
    query = {"stdout": 1, "stderr": 1, "timestamps": 1, "tail": tail, "since": since or None, "follow": int(follow)}
    with client.translate_errors(f"reading the logs of container {short(container_id)}"):
        is_terminal = bool(client.get(f"/containers/{container_id}/json")["Config"]["Tty"])
        sdk = client.read_client
        # The SDK's own call reads frame by frame in several calls, and has no time limit for the first answer.
        address = sdk._url("/containers/{0}/logs", container_id)
        answer = sdk.get(address, params=query, stream=True, timeout=READ_SECONDS)
        sdk._raise_for_status(answer)
        if follow:
            sdk._disable_socket_timeout(sdk._get_raw_response_socket(answer))
    return LogStream(client, answer, is_terminal=is_terminal)


def _socket_of(client: EngineClient, answer: requests.Response) -> Any:
    raw_socket = client.read_client._get_raw_response_socket(answer)
    return getattr(raw_socket, "_sock", raw_socket)
