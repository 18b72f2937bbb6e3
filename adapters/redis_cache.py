"""Publish snapshots, alerts and notifications in Redis for other programs (docs/how-to/read-from-redis.md)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import redis
from pydantic_core import to_json
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

from adapters.host.private_files import read_regular
from models.failures import BadInputError

STREAM_LENGTH = 1000
"""Entries a stream keeps; Redis may keep up to a hundred more, since trimming whole blocks is cheaper."""

_STREAM_LIFETIME = timedelta(days=7)
_to_text = partial(to_json, inf_nan_mode="null")
_ADVICE = "is it running and reachable, has it room, and does ROAS_REDIS_PASSWORD_FILE hold its password?"
# Only use shows that Redis closed a connection meanwhile. Time-outs are not retried.
_RETRY = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
_OPTIONS = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0, "retry": _RETRY, "protocol": 2}


class RedisCache:
    """Publishes from any thread. While Redis does not answer, a call takes a second at most, and `trouble` says why.

    It is tried again after `hold_off`. Then the last STREAM_LENGTH entries follow, in their order; one may come twice.
    """

    def __init__(self, url: str, password_file: Path | None = None, hold_off: timedelta = timedelta(seconds=2)) -> None:
        """Connect at the first use. Raises BadInputError where the URL is none that Redis has."""
        try:
            self._pool = redis.ConnectionPool(**parse_url(url) | _OPTIONS)  # type: ignore[no-untyped-call]
            self._pool.connection_class(**self._pool.connection_kwargs)
        except (TypeError, ValueError):
            # The message may quote a part of the URL, which may be a password.
            advice = "it looks like redis://HOST:6379/0, rediss://HOST:6379/0 with TLS, or unix:///PATH."
            raise BadInputError("The cache's URL (ROAS_REDIS_URL) cannot be read;", advice=advice) from None
        parts = urlsplit(url)
        self.address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self.trouble: str | None = None
        self._password_file, self._hold_off, self._away_until = password_file, hold_off, 0.0
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=STREAM_LENGTH)
        self._publishing = threading.Lock()

    def put(self, key: str, snapshot: dict[str, object], lifetime_seconds: int) -> None:
        """Store a snapshot for so many seconds (at least 1), replacing an earlier one."""
        self._write(lambda client: client.set(f"roas:{key}", _to_text(snapshot), ex=lifetime_seconds))

    def publish(self, stream: str, entry: dict[str, object]) -> None:
        """Append an entry to a stream; while Redis does not answer, once it does."""
        self._waiting.append((f"roas:{stream}", _to_text(entry)))
        self._write(lambda client: None)

    def check(self) -> None:
        """Ask whether Redis answers; `trouble` says so."""
        self._write(lambda client: client.ping())

    def _write(self, write: Callable[[redis.Redis], object]) -> None:
        if time.monotonic() < self._away_until:
            return
        try:
            if self._password_file is not None:
                # Each new connection uses it, so a changed one is used without a restart.
                self._pool.connection_kwargs["password"] = read_regular(self._password_file).decode().strip()
            client = redis.Redis(connection_pool=self._pool)
            write(client)
            self._publish_waiting(client)
            self.trouble = None
        except (redis.RedisError, OSError, ValueError) as error:
            self._pool.reset()
            # Each attempt may take its whole time limit, and many callers would wait one after another.
            self._away_until = time.monotonic() + self._hold_off.total_seconds()
            reason = str(error).rstrip(".") or type(error).__name__
            self.trouble = f"Redis at {self.address} did not take it ({reason}); {_ADVICE}"

    def _publish_waiting(self, client: redis.Redis) -> None:
        with self._publishing:
            while self._waiting:
                stream, text = first = self._waiting[0]
                with client.pipeline(transaction=True) as both:
                    both.xadd(stream, {b"entry": text}, maxlen=STREAM_LENGTH, approximate=True)
                    both.expire(stream, _STREAM_LIFETIME)
                    both.execute()
                # A full deque drops its first entry by itself.
                if self._waiting[0] is first:
                    self._waiting.popleft()
