"""Sixteen shards of the campaigns cost about the same, and each campaign is in one."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.support.tiers import SHARDS, shards

COSTS = st.dictionaries(st.text("abc/", min_size=1), st.floats(0.1, 300), min_size=SHARDS, max_size=80)


@given(COSTS)
def test_no_shard_costs_more_than_another_by_more_than_one_campaign(costs: dict[str, float]) -> None:
    given_to = shards(costs)

    totals = Counter(dict.fromkeys(range(SHARDS), 0.0))
    for unit, shard in given_to.items():
        totals[shard] += costs[unit]
    assert given_to.keys() == costs.keys()
    assert set(given_to.values()) == set(range(SHARDS))
    assert max(totals.values()) - min(totals.values()) <= max(costs.values()) + 1e-6


def test_the_shards_are_the_same_in_every_run() -> None:
    costs = {"a": 3.0, "b": 3.0, "c": 1.0}

    assert shards(costs) == shards(dict(reversed(costs.items()))) == {"a": 0, "b": 1, "c": 2}
