"""Cache of the newest snapshots and a stream of alerts, in Redis."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError, ConnectionError, RedisError, TimeoutError  # noqa: A004 - Redis names them so
from redis.retry import Retry

from adapters.cache import STREAM_LENGTH, Cache, read_text, to_text
from adapters.host.private_files import read_regular
from models.failures import BadInputError
from models.settings import Settings

STREAM_LIFETIME = timedelta(days=7)
"""How long a stream stays after its last entry."""

Answer = TypeVar("Answer")
_PREFIX = "roas:"
_TIMEOUT_SECONDS = 1.0
_HOLD_OFF = timedelta(seconds=2)
_FIELD = b"entry"
_NOTHING = b""
_Rows = list[tuple[bytes, dict[bytes, bytes]]]


def open_cache(settings: Settings) -> Cache:
    """Open the cache that settings name, or one of this process alone. It connects at the first use.

    Raises:
        BadInputError: The URL is none that Redis has.
    """
    return RedisCache(settings.redis_url, settings.redis_password_file) if settings.redis_url else Cache()


class RedisCache(Cache):
    """Cache in Redis, shared by processes and machines.

    When Redis does not answer, a call takes a second at most and raises nothing: this process uses its own cache,
    `trouble` gives the reason, and Redis is tried again after `hold_off`. Entries published meanwhile (the last
    STREAM_LENGTH) follow then, so an entry may appear twice; the order is kept.
    """

    def __init__(self, url: str, password_file: Path | None = None, *, hold_off: timedelta = _HOLD_OFF) -> None:
        """Prepare the connections. The password is read again at every connection, so it may be changed.

        Raises:
            BadInputError: The URL is none that Redis has.
        """
        super().__init__()
        try:
            options = _options(url)
            self.address = _address(options)
            if password_file is not None:
                user = options.pop("username", None)
                options.pop("password", None)
                options["credential_provider"] = _PasswordFile(user, password_file)
            pool = ConnectionPool(**options)
            pool.connection_class(**pool.connection_kwargs)
        except (TypeError, ValueError):
            # The message may quote a part of the URL, which may be a password.
            raise BadInputError(
                "The cache's URL (ROAS_REDIS_URL) cannot be read;",
                advice="it looks like redis://HOST:6379/0, rediss://HOST:6379/0 with TLS, or unix:///PATH.",
            ) from None
        self._redis = Redis(connection_pool=pool)
        self._hold_off = hold_off.total_seconds()
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=STREAM_LENGTH)
        self._publishing = threading.Lock()
        self._away_until = 0.0

    def put(self, key: str, snapshot: dict[str, object], lifetime_seconds: int) -> None:
        """Store a snapshot for so many seconds (at least 1)."""
        super().put(key, snapshot, lifetime_seconds)
        text = to_text(snapshot)
        self._ask(lambda: self._redis.set(_PREFIX + key, text, ex=lifetime_seconds))

    def get(self, key: str) -> dict[str, object] | None:
        """The snapshot; while Redis does not answer, the one this process stored."""
        text = self._ask(lambda: cast("bytes | None", self._redis.get(_PREFIX + key)) or _NOTHING)
        if text is None:
            return super().get(key)
        return None if text is _NOTHING else self._read(key, text)

    def publish(self, stream: str, entry: dict[str, object]) -> None:
        """Append an entry to a stream; while Redis does not answer, once it does."""
        super().publish(stream, entry)
        self._waiting.append((stream, to_text(entry)))
        self._ask(lambda: None)

    def entries(self, stream: str) -> list[dict[str, object]]:
        """The entries of a stream, oldest first; while Redis does not answer, those this process published."""
        rows = self._ask(lambda: cast("_Rows", self._redis.xrange(_PREFIX + stream)))
        if rows is None:
            return super().entries(stream)
        texts = [fields.get(_FIELD, _NOTHING) for _, fields in rows]
        return [value for text in texts if (value := self._read(stream, text)) is not None]

    def close(self) -> None:
        """Close every connection."""
        self._redis.connection_pool.disconnect()

    def _ask(self, question: Callable[[], Answer]) -> Answer | None:
        """Call Redis; None if it does not answer."""
        if time.monotonic() < self._away_until:
            return None
        try:
            answer = question()
        except RedisError as error:
            self._note(error)
            return None
        self.trouble = None
        try:
            self._publish_waiting()
        except RedisError as error:
            self._note(error)
        return answer

    def _note(self, error: RedisError) -> None:
        self.trouble = _trouble(self.address, error)
        if isinstance(error, (ConnectionError, TimeoutError)):
            # Each attempt may take its whole time limit, and many callers would wait one after another.
            self._away_until = time.monotonic() + self._hold_off

    def _publish_waiting(self) -> None:
        with self._publishing:
            while self._waiting:
                first = self._waiting[0]
                stream, text = first
                with self._redis.pipeline(transaction=True) as both:
                    both.xadd(_PREFIX + stream, {_FIELD: text}, maxlen=STREAM_LENGTH, approximate=True)
                    both.expire(_PREFIX + stream, STREAM_LIFETIME)
                    both.execute()
                # A full deque drops its first entry by itself.
                if self._waiting[0] is first:
                    self._waiting.popleft()

    def _read(self, name: str, text: bytes) -> dict[str, object] | None:
        value = read_text(text)
        if value is None:
            self.trouble = (
                f"Redis at {self.address} holds something under {_PREFIX}{name} that this program did not write; "
                "does another program use the same names?"
            )
        return value


@dataclass(frozen=True, slots=True)
class _PasswordFile(CredentialProvider):
    """Reads the password when a connection is made, so a changed one is used without a restart."""

    user: str | None
    file: Path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """The user, if the URL has one, and the password.

        Raises:
            AuthenticationError: The file cannot be read.
        """
        try:
            password = read_regular(self.file).decode("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise AuthenticationError(f"password file {self.file} cannot be read: {reason}") from error
        return (password,) if self.user is None else (self.user, password)


def _options(url: str) -> dict[str, Any]:
    options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    # These override the URL's options, so that it can change neither time limits nor the type of answers.
    return options | {
        "socket_timeout": _TIMEOUT_SECONDS,
        "socket_connect_timeout": _TIMEOUT_SECONDS,
        # Only use shows that Redis closed a connection meanwhile. Time-outs are not retried.
        "retry": Retry(NoBackoff(), 1, supported_errors=(ConnectionError,)),
        "decode_responses": False,
        "protocol": 2,
    }


def _address(options: dict[str, Any]) -> str:
    """Redis's address, without the user and password of the URL."""
    if "path" in options:
        return f"unix://{options['path']}"
    scheme = "rediss" if "connection_class" in options else "redis"
    return f"{scheme}://{options.get('host', 'localhost')}:{options.get('port', 6379)}/{options.get('db', 0)}"


def _trouble(address: str, error: RedisError) -> str:
    message = str(error).strip().rstrip(".") or type(error).__name__
    if isinstance(error, AuthenticationError):
        return f"Redis at {address} did not let us in ({message}); does ROAS_REDIS_PASSWORD_FILE hold its password?"
    if isinstance(error, (ConnectionError, TimeoutError)):
        return f"Redis at {address} did not answer ({message}); is it running, and reachable from here?"
    return f"Redis at {address} refused ({message}); look at its log and its memory."
