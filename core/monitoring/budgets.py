"""Count good and bad samples of a service over the last three days, and judge how fast it spends its error budget."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from core.common.significance import wilson
from models.analysis import Level, Share, Signal
from models.failures import BadInputError

KEPT = timedelta(days=3)
"""Longest time that can be queried."""

_BIN_SECONDS = 300
_COLUMNS = 5

_Bins = np.ndarray[tuple[int, int], np.dtype[np.int32]]
"""One row for five minutes: its number since 1970, looks, good looks, answers, good answers."""


def count_sample(state: bytes | None, at: datetime, *, up: bool | None, answers: Share | None) -> bytes:
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
    recent_bins = bins[bins[:, 0] > bins[-1, 0] - KEPT // timedelta(seconds=_BIN_SECONDS) - 1]
    return zlib.compress(recent_bins.tobytes(), 1)


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


_FEWEST_FAILURES = 3
_FEW = 30


class BurnRule(NamedTuple):
    """An error budget burns so many times too fast, in a long and a short window at once."""

    long: timedelta
    short: timedelta
    times: float
    level: Level


BURN_RULES = (
    BurnRule(long=timedelta(hours=1), short=timedelta(minutes=5), times=14.4, level=Level.CRITICAL),
    BurnRule(long=timedelta(hours=6), short=timedelta(minutes=30), times=6.0, level=Level.CRITICAL),
    BurnRule(long=timedelta(days=3), short=timedelta(hours=6), times=1.0, level=Level.WARNING),
)
"""The usual rules for an objective over 30 days: page for the first two, a ticket for the third."""


def judge_burn(
    shares: Mapping[timedelta, Share], *, service: str, metric: str, at: datetime, objective: float = 0.999
) -> Signal:
    """Whether the error budget of a service burns too fast, as a signal for `evaluate_alerts`.

    `shares` has the good of the total for every window of BURN_RULES. A long window with fewer than 30
    requests burns only if even the upper end of the good share's Wilson interval does, and none with fewer
    than three failures; so few requests alone never page.
    """
    for rule in BURN_RULES:
        long, short = shares.get(rule.long), shares.get(rule.short)
        if long is None or short is None or long.total - long.good < _FEWEST_FAILURES:
            continue
        burn_long, burn_short = _burn(long, objective, _FEW), _burn(short, objective, 0)
        if burn_long >= rule.times and burn_short >= rule.times:
            hours = rule.long / timedelta(hours=1)
            return Signal(
                service=service,
                metric=metric,
                at=at,
                level=rule.level,
                value=burn_long,
                threshold=rule.times,
                reason=f"{long.total - long.good} of {long.total} failed in {hours:.0f} h: the error budget of "
                f"{100 * (1 - objective):.3g} % burns {burn_long:.1f} times too fast, and still does",
            )
    return Signal(service=service, metric=metric, at=at, level=Level.NONE, reason="within its error budget")


def _burn(share: Share, objective: float, least: int) -> float:
    if share.value is None:
        return 0.0
    good = share.value if share.total >= least else wilson(share.good, share.total)[1]
    return (1 - good) / (1 - objective)
