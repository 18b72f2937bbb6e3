"""An operation that has begun outlasts an outage of the stores' server: it waits where it begins a transaction.

Nothing was said in that transaction yet, so nothing is done twice. What only reads, or has not begun, fails at once.
"""

from __future__ import annotations

import logging
import threading
import time
from contextvars import ContextVar
from datetime import timedelta

log = logging.getLogger("roas")

OUTLAST = timedelta(minutes=3)
"""An operation waits so long for a server that is restarted or cut off; after that it ends as failed."""

_ONE_CALL_SECONDS = 45.0
"""One call waits no longer: each has a time limit of its own, and is repeated."""

_AGAIN_SECONDS = 1.0
_outlasting: ContextVar[bool] = ContextVar("outlasting", default=False)


def outlast_outages() -> None:
    """Let what this context does from now on wait for the stores while their server is away."""
    _outlasting.set(True)


class Outage:
    """Whether a server is away, since when, and how long that is waited for. Safe for threads."""

    def __init__(self) -> None:
        """Take it for being there."""
        self._lock = threading.Lock()
        self._since: float | None = None

    def wait(self, since: float, why: str) -> bool:
        """Wait a moment before another try; False where none is worth it. `since`: when this call began."""
        if not _outlasting.get():
            return False
        now = time.monotonic()
        with self._lock:
            is_new, self._since = self._since is None, self._since or now
            is_over = now - since >= _ONE_CALL_SECONDS or now - self._since >= OUTLAST.total_seconds()
        if is_over:
            return False
        if is_new:
            log.warning("the stores are away; waiting for them, for %d minutes at most: %s", OUTLAST.seconds / 60, why)
        time.sleep(_AGAIN_SECONDS)
        return True

    def end(self) -> None:
        """The server answered."""
        if self._since is None:
            return
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            log.warning("the stores are back after %.0f s", time.monotonic() - since)
