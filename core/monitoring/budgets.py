"""Count good and bad samples of a service over the last three days."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache

import numpy as np

from models.analysis import Share
from models.failures import BadInputError

KEPT = timedelta(days=3)
"""Longest time that can be queried."""

_BIN_SECONDS = 300
_COLUMNS = 5

_Bins = np.ndarray[tuple[int, int], np.dtype[np.int32]]
"""One row for five minutes: its number since 1970, looks, good looks, answers, good answers."""


def count_sample(state: bytes | None, at: datetime, *, up: bool | None, answers: Share | None = None) -> bytes:
    """Count one sample: whether the service was up, None if unknown, and its probe answers.

    Raises BadInputError for a state of another kind.
    """
    bins = _read(state).copy()
    number = int(at.timestamp()) // _BIN_SECONDS
    if not len(bins) or bins[-1, 0] < number:
        bins = np.concatenate([bins, np.array([[number, 0, 0, 0, 0]], np.int32)])
    # A clock that was set back counts into the newest bin: nothing is lost, and order is kept.
    good, total = (answers.good, answers.total) if answers else (0, 0)
    bins[-1, 1:] += np.array([up is not None, up is True, total, good], np.int32)
    kept = bins[bins[:, 0] > bins[-1, 0] - KEPT // timedelta(seconds=_BIN_SECONDS) - 1]
    return zlib.compress(kept.tobytes(), 1)


def shares(state: bytes | None, now: datetime, lengths: Sequence[timedelta]) -> list[tuple[Share, Share]]:
    """Return the good samples of all, and the good answers of all, for each length of time before now.

    Raises BadInputError for a state of another kind.
    """
    bins = _read(state)
    sums = np.zeros((len(bins) + 1, _COLUMNS - 1), np.int64)
    np.cumsum(bins[:, 1:], axis=0, out=sums[1:])
    # A bin that began before the time counts whole: five minutes too many are better than a sample too few.
    begins = [(now - length).timestamp() / _BIN_SECONDS - 1 for length in lengths]
    counted = (sums[-1] - sums[np.searchsorted(bins[:, 0], begins, side="right")]).tolist()
    return [(Share(good=up, total=looks), Share(good=good, total=answers)) for looks, up, answers, good in counted]


# One evaluation reads the same state several times.
@lru_cache(maxsize=256)
def _read(state: bytes | None) -> _Bins:
    if state is None:
        return np.empty((0, _COLUMNS), np.int32)
    try:
        return np.frombuffer(zlib.decompress(state), np.int32).reshape(-1, _COLUMNS)
    except (zlib.error, ValueError) as error:
        raise BadInputError("The counts of a service are not readable;", advice="count anew.") from error
