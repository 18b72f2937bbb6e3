"""Let a program take its time, within the limit that the product gives it."""

from __future__ import annotations

from adapters.snapshots.streams import Limit
from models.failures import SnapshotError
from tests.simulation import kernel

_LOOKS_EVERY = 0.2


def wait_for(seconds: float, limit: Limit, what: str) -> None:
    """Wait; one that is killed since its limit is reached fails as the product's runner lets it.

    Raises:
        SnapshotError: The limit was reached.
    """
    while seconds > 0:
        kernel.sleep(min(seconds, _LOOKS_EVERY))
        seconds -= _LOOKS_EVERY
        if reason := limit.end_reason():
            raise SnapshotError(f"{what} {reason}.")
