"""The two tiers of tests: what every run proves, and the campaigns, of which a run takes a sixteenth.

A campaign proves one promise under many faults, versions, hosts or images. `@pytest.mark.campaign(seconds=90)` marks
it, with the seconds that it takes on a quiet machine where that is more than `_USUAL_SECONDS`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from enum import StrEnum

import pytest

SHARDS = 16
_USUAL_SECONDS = 10.0


class Tier(StrEnum):
    """What a run takes of the tests."""

    ALL = "all"
    GATE = "gate"
    CAMPAIGNS = "campaigns"


def add_options(parser: pytest.Parser) -> None:
    """Let a run choose its tier and its share of the campaigns; without the options it takes every test."""
    group = parser.getgroup("tiers")
    group.addoption("--tier", type=Tier, choices=list(Tier), default=Tier.ALL, help="gate, campaigns or all")
    group.addoption(
        "--shard", type=int, choices=range(SHARDS), help=f"with --tier gate: also this 1/{SHARDS} of campaigns"
    )


def select(config: pytest.Config, items: list[pytest.Item], unit_of: Callable[[str], str]) -> None:
    """Keep the tests that this run takes; `unit_of` names what stays together of a test's node id."""
    tier, shard = config.getoption("tier"), config.getoption("shard")
    if tier is Tier.ALL:
        return
    campaigns = {item: seconds for item in items if (seconds := seconds_of(item)) is not None}
    costs: dict[str, float] = defaultdict(float)
    for item, seconds in campaigns.items():
        costs[unit_of(item.nodeid)] += seconds
    every = tier is Tier.CAMPAIGNS and shard is None
    of_shard = {unit for unit, of in shards(costs).items() if every or of == shard}
    taken, left = [], []
    for item in items:
        wanted = unit_of(item.nodeid) in of_shard if item in campaigns else tier is Tier.GATE
        (taken if wanted else left).append(item)
    items[:] = taken
    config.hook.pytest_deselected(items=left)


def seconds_of(item: pytest.Item) -> float | None:
    """What a campaign takes; None for other tests."""
    mark = item.get_closest_marker("campaign")
    return None if mark is None else float(mark.kwargs.get("seconds", _USUAL_SECONDS))


def shards(costs: dict[str, float]) -> dict[str, int]:
    """Give each unit a shard so that all shards cost about the same: the dearest first, to the cheapest shard."""
    totals = [0.0] * SHARDS
    given = {}
    for unit, cost in sorted(costs.items(), key=lambda pair: (-pair[1], pair[0])):
        given[unit] = min(range(SHARDS), key=lambda shard: (totals[shard], shard))
        totals[given[unit]] += cost
    return given
