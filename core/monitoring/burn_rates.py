"""Judge how fast a service spends its error budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.common.intervals import wilson
from models.analysis import Level, Share, Signal
from models.failures import BadInputError

_FEWEST_FAILURES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnRule:
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
    shares: Mapping[timedelta, Share],
    *,
    service: str,
    metric: str,
    at: datetime,
    objective: float = 0.999,
    least: int = 30,
) -> Signal:
    """Whether the error budget of a service burns too fast, as a signal for `evaluate_alerts`.

    `shares` has the good of the total for every window of BURN_RULES. A long window with fewer than `least`
    requests burns only if even the upper end of the good share's Wilson interval does, and none with fewer
    than three failures; so few requests alone never page. Raises BadInputError for an impossible objective.
    """
    if not 0 < objective < 1:
        raise BadInputError(f"An objective of {objective} is none;", advice="give a share like 0.999.")
    for rule in BURN_RULES:
        long, short = shares.get(rule.long), shares.get(rule.short)
        if long is None or short is None or long.total - long.good < _FEWEST_FAILURES:
            continue
        burn_long, burn_short = _burn(long, objective, least), _burn(short, objective, 0)
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
