"""The door to the cache: newest snapshots and a stream of alerts, in Redis or in this process."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from pydantic_core import to_json
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError, ConnectionError, RedisError, TimeoutError  # noqa: A004 - its own words
from redis.retry import Retry

from adapters.host.private_files import read_regular
from models.failures import BadInputError
from models.settings import Settings

STREAM_LENGTH = 1000
"""Entries a stream keeps; Redis may keep up to a hundred more, since trimming whole blocks is cheaper."""

STREAM_LIFETIME = timedelta(days=7)
"""How long a stream stays after its last entry."""

Answer = TypeVar("Answer")
_PREFIX = "roas:"
_TIMEOUT_SECONDS = 1.0
_HOLD_OFF = timedelta(seconds=2)
_FIELD = b"entry"
_NOTHING = b""
_Rows = list[tuple[bytes, dict[bytes, bytes]]]


class Cache(Protocol):
    """What several processes, or the parts of one, tell each other at once. Nothing in it is the only copy.

    Values go through JSON: what comes back has lists for tuples and text for times.
    """

    @property
    def trouble(self) -> str | None:
        """Why the last call was answered from this process alone; None when all is well."""

    def put(self, key: str, snapshot: dict[str, object], lifetime_seconds: int) -> None:
        """Keep a snapshot for so many seconds (at least 1) in the place of an earlier one."""

    def get(self, key: str) -> dict[str, object] | None:
        """The snapshot, or None where there is none or its time is over."""

    def publish(self, stream: str, entry: dict[str, object]) -> None:
        """Add an entry to the end of a stream, whose oldest entries go beyond STREAM_LENGTH."""

    def entries(self, stream: str) -> list[dict[str, object]]:
        """What a stream holds, oldest first."""

    def close(self) -> None:
        """Let go of connections. The cache may be used again."""


def open_cache(settings: Settings) -> Cache:
    """The cache that settings name, or without one this process's own. Connects at the first use.

    Raises:
        BadInputError: The URL is none that Redis has.
    """
    if settings.redis_url is None:
        return MemoryCache()
    return RedisCache(settings.redis_url, settings.redis_password_file)


class MemoryCache:
    """A cache of this process alone, safe for its threads."""

    def __init__(self) -> None:
        """Begin empty."""
        self._lock = threading.Lock()
        self._snapshots: dict[str, tuple[float, bytes]] = {}
        self._streams: dict[str, deque[bytes]] = {}

    @property
    def trouble(self) -> str | None:
        """Always None."""
        return None

    def put(self, key: str, snapshot: dict[str, object], lifetime_seconds: int) -> None:
        """Keep a snapshot for so many seconds."""
        text, now = _text(snapshot), time.monotonic()
        with self._lock:
            # Nobody asks again for the snapshot of an environment that is gone, so it is dropped here.
            self._snapshots = {name: kept for name, kept in self._snapshots.items() if kept[0] > now}
            self._snapshots[key] = (now + lifetime_seconds, text)

    def get(self, key: str) -> dict[str, object] | None:
        """The snapshot, or None where there is none or its time is over."""
        with self._lock:
            ends, text = self._snapshots.get(key, (0.0, b""))
        return _value(text) if ends > time.monotonic() else None

    def publish(self, stream: str, entry: dict[str, object]) -> None:
        """Add an entry to the end of a stream."""
        text = _text(entry)
        with self._lock:
            self._streams.setdefault(stream, deque(maxlen=STREAM_LENGTH)).append(text)

    def entries(self, stream: str) -> list[dict[str, object]]:
        """What a stream holds, oldest first."""
        with self._lock:
            texts = list(self._streams.get(stream, ()))
        return [value for text in texts if (value := _value(text)) is not None]

    def close(self) -> None:
        """Nothing to let go of."""


class RedisCache:
    """A cache in Redis, shared by processes and machines, safe for threads.

    A Redis that is lost costs a second at most and raises nothing: this process goes on with a cache of its
    own, `trouble` says why, and Redis is asked again after `hold_off`. What was published meanwhile (the
    last STREAM_LENGTH entries) follows, so after a loss an entry may come twice; none is out of order.
    """

    def __init__(self, url: str, password_file: Path | None = None, *, hold_off: timedelta = _HOLD_OFF) -> None:
        """Connect to nothing yet. The password is read again at every connection, so it may be changed.

        Raises:
            BadInputError: The URL is none that Redis has.
        """
        options = _options(url)
        self.address = _address(options)
        if password_file is not None:
            user = options.pop("username", None)
            options.pop("password", None)
            options["credential_provider"] = _PasswordFile(user, password_file)
        self._pool = _pool(options)
        self._redis = Redis(connection_pool=self._pool)
        self._hold_off = hold_off.total_seconds()
        self._own = MemoryCache()
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=STREAM_LENGTH)
        self._publishing = threading.Lock()
        self._lost_until = 0.0
        self._trouble: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why the last call was answered from this process alone; None when all is well."""
        return self._trouble

    def put(self, key: str, snapshot: dict[str, object], lifetime_seconds: int) -> None:
        """Keep a snapshot for so many seconds (at least 1)."""
        self._own.put(key, snapshot, lifetime_seconds)
        text = _text(snapshot)
        self._ask(lambda: self._redis.set(_PREFIX + key, text, ex=lifetime_seconds))

    def get(self, key: str) -> dict[str, object] | None:
        """The snapshot; while Redis is lost, the one this process put itself."""
        text = self._ask(lambda: cast("bytes | None", self._redis.get(_PREFIX + key)) or _NOTHING)
        if text is None:
            return self._own.get(key)
        return None if text is _NOTHING else self._read(key, text)

    def publish(self, stream: str, entry: dict[str, object]) -> None:
        """Add an entry to the end of a stream; while Redis is lost, once it is back."""
        self._own.publish(stream, entry)
        self._waiting.append((stream, _text(entry)))
        self._ask(lambda: None)

    def entries(self, stream: str) -> list[dict[str, object]]:
        """What a stream holds, oldest first; while Redis is lost, what this process published itself."""
        rows = self._ask(lambda: cast("_Rows", self._redis.xrange(_PREFIX + stream)))
        if rows is None:
            return self._own.entries(stream)
        texts = [fields.get(_FIELD, _NOTHING) for _, fields in rows]
        return [value for text in texts if (value := self._read(stream, text)) is not None]

    def close(self) -> None:
        """Close every connection."""
        self._redis.close()
        self._pool.disconnect()

    def _ask(self, question: Callable[[], Answer]) -> Answer | None:
        """What Redis answers, or None where it is lost."""
        if time.monotonic() < self._lost_until:
            return None
        try:
            answer = question()
        except RedisError as error:
            self._note(error)
            return None
        self._trouble = None
        try:
            self._publish_waiting()
        except RedisError as error:
            self._note(error)
        return answer

    def _note(self, error: RedisError) -> None:
        self._trouble = _trouble(self.address, error)
        if isinstance(error, (ConnectionError, TimeoutError)):
            # Each attempt may cost its whole patience, and many callers would pay it one after another.
            self._lost_until = time.monotonic() + self._hold_off

    def _publish_waiting(self) -> None:
        with self._publishing:
            while self._waiting:
                first = self._waiting[0]
                stream, text = first
                with self._redis.pipeline(transaction=True) as both:
                    both.xadd(_PREFIX + stream, {_FIELD: text}, maxlen=STREAM_LENGTH, approximate=True)
                    both.expire(_PREFIX + stream, STREAM_LIFETIME)
                    both.execute()
                # A full deque drops its first by itself, and then the first is another one already.
                if self._waiting[0] is first:
                    self._waiting.popleft()

    def _read(self, name: str, text: bytes) -> dict[str, object] | None:
        value = _value(text)
        if value is None:
            self._trouble = (
                f"Redis at {self.address} holds something under {_PREFIX}{name} that this program did not write; "
                "does another program use the same names?"
            )
        return value


class _PasswordFile(CredentialProvider):
    """Reads the password when a connection is made, so a changed one is used without a restart."""

    def __init__(self, user: str | None, file: Path) -> None:
        self._user = user
        self._file = file

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """The name, where the URL has one, and the password.

        Raises:
            AuthenticationError: The file cannot be read.
        """
        try:
            password = read_regular(self._file).decode("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise AuthenticationError(f"password file {self._file} cannot be read: {reason}") from error
        return (password,) if self._user is None else (self._user, password)


def _options(url: str) -> dict[str, Any]:
    try:
        options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:
        # Its words may quote a part of the URL, and that part may be a password.
        raise _bad_url() from None
    # These win over the URL's, so that nothing in it makes the waiting longer or the answers of another kind.
    return options | {
        "socket_timeout": _TIMEOUT_SECONDS,
        "socket_connect_timeout": _TIMEOUT_SECONDS,
        # A connection that Redis closed meanwhile is only found out by using it. What timed out is not tried again.
        "retry": Retry(NoBackoff(), 1, supported_errors=(ConnectionError,)),
        "decode_responses": False,
        "protocol": 2,
    }


def _pool(options: dict[str, Any]) -> ConnectionPool:
    pool = ConnectionPool(**options)
    try:
        pool.connection_class(**pool.connection_kwargs)
    except TypeError:
        raise _bad_url() from None
    return pool


def _bad_url() -> BadInputError:
    return BadInputError(
        "The cache's URL (ROAS_REDIS_URL) cannot be read;",
        advice="it looks like redis://HOST:6379/0, rediss://HOST:6379/0 with TLS, or unix:///PATH.",
    )


def _text(value: dict[str, object]) -> bytes:
    return to_json(value, inf_nan_mode="null")


def _value(text: bytes) -> dict[str, object] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _address(options: dict[str, Any]) -> str:
    """Where Redis is, without the name and the password that the URL may hold."""
    if "path" in options:
        return f"unix://{options['path']}"
    scheme = "rediss" if "connection_class" in options else "redis"
    return f"{scheme}://{options.get('host', 'localhost')}:{options.get('port', 6379)}/{options.get('db', 0)}"


def _trouble(address: str, error: RedisError) -> str:
    words = str(error).strip().rstrip(".") or type(error).__name__
    if isinstance(error, AuthenticationError):
        return f"Redis at {address} did not let us in ({words}); does ROAS_REDIS_PASSWORD_FILE hold its password?"
    if isinstance(error, (ConnectionError, TimeoutError)):
        return f"Redis at {address} did not answer ({words}); is it running, and reachable from here?"
    return f"Redis at {address} refused ({words}); look at its log and its memory."
