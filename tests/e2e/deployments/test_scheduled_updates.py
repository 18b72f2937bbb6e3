"""Updates by runs of the served deployment, with a client that sees what answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.deployments.scheduled import ScheduledUpdate, campaign
from tests.support.versions import Behaviour

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=90)]

OFFERED = (Behaviour.GOOD, Behaviour.CRASH, Behaviour.GOOD, Behaviour.WRONG)


def test_each_scheduled_update_is_proven_or_leaves_the_version_before(tmp_path: Path) -> None:
    updates: list[ScheduledUpdate] = []
    # Long enough for a good version on a busy machine.
    with campaign(tmp_path, seed=0, start_timeout_seconds=30) as running:
        for number, behaviour in enumerate(OFFERED, start=1):
            running.offer(behaviour)
            updates.append(running.update(number))

    assert [str(one) for one in updates if one.problems] == []
    assert [one.state for one in updates] == ["COMPLETED", "FAILED", "COMPLETED", "FAILED"]
    assert [one.served.name for one in updates if one.served] == ["1", "1", "3", "3"]
    assert len(running.held_back) == 2
