"""Stores that are away for a while end nothing: a killed container is healthy again, and on record afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.e2e.faults.outages import outage

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign]

SECONDS = 8.0


@pytest.fixture(autouse=True)
def own_settings() -> Iterator[None]:
    """The scenario sets variables of this process for those that it begins."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_a_watch_heals_and_records_while_its_stores_are_away(kind: str) -> None:
    outcome = outage(kind, SECONDS, ["one"])

    # How fast it was depends on the machine; `python -m tests.e2e.faults.outages` tells it.
    assert [complaint for complaint in outcome.complaints() if "was healthy again after" not in complaint] == []
    assert all(kill.recovery is not None for kill in outcome.kills)
