"""A quick day of collection with everything away once; `python -m tests.e2e.monitoring` lives a whole one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.monitoring.day import live_on_small_disk

pytestmark = pytest.mark.campaign(seconds=40)


async def test_no_gap_is_hidden_and_nothing_is_doubled_while_things_are_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = await live_on_small_disk(tmp_path, monkeypatch, rounds=120)
    assert day.lost
    assert day.complaints == []
