"""Cache of the newest snapshots and a stream of alerts, in this process."""

from __future__ import annotations

import json
import threading
import time
from collections import deque

from pydantic_core import to_json

STREAM_LENGTH = 1000
"""Entries a stream keeps; Redis may keep up to a hundred more, since trimming whole blocks is cheaper."""


class Cache:
    """Thread-safe cache of this process alone. Nothing in it is the only copy.

    Values are stored as JSON: tuples come back as lists, and times as text.
    """

    def __init__(self) -> None:
        self.trouble: str | None = None
        """Why the last call used this process's own cache; None while Redis answers, or without one."""
        self._lock = threading.Lock()
        self._snapshots: dict[str, tuple[float, bytes]] = {}
        self._streams: dict[str, deque[bytes]] = {}

    def put(self, key: str, snapshot: dict[str, object], lifetime_seconds: int) -> None:
        """Store a snapshot for so many seconds (at least 1), replacing an earlier one."""
        text, now = to_text(snapshot), time.monotonic()
        with self._lock:
            # Nothing reads the snapshot of a removed environment again, so expired ones are dropped here.
            self._snapshots = {name: entry for name, entry in self._snapshots.items() if entry[0] > now}
            self._snapshots[key] = (now + lifetime_seconds, text)

    def get(self, key: str) -> dict[str, object] | None:
        """The snapshot, or None if there is none or it has expired."""
        with self._lock:
            ends, text = self._snapshots.get(key, (0.0, b""))
        return read_text(text) if ends > time.monotonic() else None

    def publish(self, stream: str, entry: dict[str, object]) -> None:
        """Append an entry to a stream, which keeps the last STREAM_LENGTH."""
        text = to_text(entry)
        with self._lock:
            self._streams.setdefault(stream, deque(maxlen=STREAM_LENGTH)).append(text)

    def entries(self, stream: str) -> list[dict[str, object]]:
        """The entries of a stream, oldest first."""
        with self._lock:
            texts = list(self._streams.get(stream, ()))
        return [value for text in texts if (value := read_text(text)) is not None]

    def close(self) -> None:
        """Close connections. The cache may be used again."""


def to_text(value: dict[str, object]) -> bytes:
    """A value as a cache keeps it."""
    return to_json(value, inf_nan_mode="null")


def read_text(text: bytes) -> dict[str, object] | None:
    """A value as it was kept; None where it is none that this program wrote."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
