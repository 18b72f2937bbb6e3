"""Connection to one Docker engine: requests with time limits, its failures as ours, its text redacted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any, TypeVar

import docker
import orjson
import requests
from docker.errors import APIError, DockerException, NotFound

from adapters.docker.unix_http import UnixHttp
from core.common.safe_text import printable
from core.errors.redact import Redactor
from models.failures import ContainerGoneError, EngineError, EnginePermissionError, EngineUnreachableError

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
READ_SECONDS = 10
_CHANGE_SECONDS = 120
_PARALLEL_CALLS = 16
_UNIX = "unix://"
_CLOCK_HOLDS_SECONDS, _CLOCK_READ_SECONDS = 60.0, 10.0
_CLOCK_AGAIN_SECONDS = 1.0
"""After a reading that failed where none has succeeded yet: until then all moments count as they are reported."""
_CLOCK_TOLERANCE = timedelta(seconds=1)

_LONGEST_KEPT = 16 * 1024

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class EngineClient:
    """Requests to one engine, at an address such as unix:///var/run/docker.sock. Threads may share one object.

    It connects at the first call, and again after the engine was away.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._clients: dict[int, Any] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=_PARALLEL_CALLS, thread_name_prefix="engine")
        self._direct = (
            UnixHttp(address.removeprefix(_UNIX), seconds=READ_SECONDS) if address.startswith(_UNIX) else None
        )
        self._secrets: frozenset[str] = frozenset()
        self._redactor = Redactor(())
        self._redact = _cache_of(self._redactor)
        self._ahead = timedelta()
        self._clock_read_at: float | None = None
        self._clock_is_known = False

    @property
    def read_client(self) -> Any:
        """The SDK's client for calls that answer at once."""
        return self._client(READ_SECONDS)

    @property
    def change_client(self) -> Any:
        """The SDK's client for calls that change something and may take minutes."""
        return self._client(_CHANGE_SECONDS)

    def get(self, path: str, **query: str | int) -> Any:
        """Read what the API answers at a path.

        A collection reads such paths of every container. On a Unix socket the request goes there directly, since the
        SDK takes longer to prepare a request than the engine to answer it. When that fails, the SDK repeats the
        request and raises the error.
        """
        client = self.read_client
        if self._direct is not None:
            try:
                body = self._direct.get(f"/v{client.api_version}{path}", query)
            except TimeoutError as error:
                raise requests.Timeout(error) from error
            if body is not None:
                return orjson.loads(body)
        return client._result(client._get(client._url(path), params=query), json=True)

    @property
    def ahead(self) -> timedelta:
        """How far the engine's clock is ahead of this machine's, to about two seconds; zero while they may be equal.

        The engine of a virtual or another machine has a clock of its own. All moments that it reports are shifted by
        this, and those that it is asked for: nothing else compares two clocks.
        """
        read_at = self._clock_read_at
        holds = _CLOCK_HOLDS_SECONDS if self._clock_is_known else _CLOCK_AGAIN_SECONDS
        if read_at is None or time.monotonic() - read_at > holds:
            self._clock_read_at = time.monotonic()
            with suppress(DockerException, requests.RequestException, OSError, KeyError, ValueError, TypeError):
                self._read_clock()
        return self._ahead

    def _read_clock(self) -> None:
        client, asked_at = self.read_client, datetime.now(UTC)
        answer = client.get(client._url("/_ping", versioned_api=False), timeout=_CLOCK_READ_SECONDS)
        engine_time = parsedate_to_datetime(answer.headers["Date"])
        # The engine names the second in which it answered. What is known stays while it may hold: else each moment of a
        # container would be another one at the next inspection, as if it had been restarted.
        least, most = engine_time - datetime.now(UTC), engine_time + timedelta(seconds=1) - asked_at
        may_differ = _CLOCK_TOLERANCE if self._clock_is_known else timedelta()
        self._clock_is_known = True
        if not least - may_differ <= self._ahead <= most + may_differ:
            self._ahead = timedelta() if least <= timedelta() <= most else (least + most) / 2

    def map(self, call: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
        """Call for each item in parallel; results come in the items' order."""
        return self._pool.map(call, items)

    def conceal(self, values: Iterable[str]) -> None:
        """Redact these values too, from now on and in every spelling."""
        new = frozenset(values)
        if new <= self._secrets:
            return
        with self._lock:
            self._secrets |= new
            self._redactor = Redactor(self._secrets)
            self._redact = _cache_of(self._redactor)

    @property
    def concealed_values(self) -> frozenset[str]:
        """The secret values known so far; for redacting elsewhere, never to be written."""
        return self._secrets

    def redact(self, text: str) -> str:
        """Remove secrets and control characters from text."""
        if len(text) > _LONGEST_KEPT:
            # A log, which is not asked for again as it was.
            return self._redactor.text(printable(text))
        return self._redact(text) if text else text

    @contextmanager
    def translate_errors(self, doing: str) -> Iterator[None]:
        """Raise our own errors for those of the docker package."""
        try:
            yield
        except NotFound as error:
            raise ContainerGoneError(
                f"Docker engine failed {doing}: {self.redact(_explanation(error))}.",
                advice="It may have been removed or replaced: list containers with `docker ps --all`.",
            ) from error
        except APIError as error:
            status = 0 if error.response is None else error.response.status_code
            if status == HTTPStatus.FORBIDDEN:
                raise EnginePermissionError(
                    f"Docker engine at {self.address} forbids {doing}: {self.redact(_explanation(error))}.",
                    advice="docker-compose.yml declares what the broker in front of the engine allows.",
                ) from error
            if status == HTTPStatus.SERVICE_UNAVAILABLE:
                # The broker in front of the engine answers so while the engine is away.
                raise EngineUnreachableError(self.address, self.redact(_explanation(error))) from error
            raise EngineError(f"Docker engine failed {doing}: {self.redact(_explanation(error))}.") from error
        except (DockerException, requests.RequestException, OSError) as error:
            if "PermissionError" in repr(error) or "Permission denied" in str(error):
                raise EnginePermissionError(
                    f"This user may not talk to the Docker engine at {self.address}.",
                    advice="Join the group that owns the socket, or use sudo.",
                ) from error
            if isinstance(error, TimeoutError):
                raise
            raise EngineUnreachableError(self.address, innermost(error)) from error

    def close(self) -> None:
        """Close connections and threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._direct is not None:
            self._direct.close()
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _client(self, seconds: int) -> Any:
        with self._lock:
            if seconds not in self._clients:
                version = next((client.api_version for client in self._clients.values()), "auto")
                client = docker.APIClient(
                    base_url=self.address,
                    version=version,
                    timeout=seconds,
                    max_pool_size=2 * _PARALLEL_CALLS,
                    use_ssh_client=self.address.startswith("ssh://"),
                )
                # No proxy stands before a socket of this machine: looking for one is a fifth of a quick call.
                client.trust_env = not self.address.startswith(_UNIX)
                self._clients[seconds] = client
            return self._clients[seconds]


def short(container_id: str) -> str:
    """The first twelve digits of an id, as `docker ps` shows it."""
    return container_id.removeprefix("sha256:")[:12]


def labels_of_owner(project: str | None) -> dict[str, str]:
    """The engine's filter for objects of a project, or for all."""
    return {} if project is None else {"label": f"{PROJECT_LABEL}={project}"}


def innermost(error: BaseException) -> str:
    """The system's own message, which the layers above wrap several times."""
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    if isinstance(cause, TimeoutError):
        return "timed out"
    return str(cause) or type(cause).__name__


def _explanation(error: APIError) -> str:
    return str(error.explanation or error).strip().rstrip(".")


def _cache_of(redactor: Redactor) -> Callable[[str], str]:
    """Health checks print the same few outputs again and again."""
    return lru_cache(maxsize=512)(lambda text: redactor.text(printable(text)))
