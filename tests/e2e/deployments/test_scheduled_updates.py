"""Updates by runs of the served deployment, with a client that sees what answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.deployments.scheduled import campaign

pytestmark = [pytest.mark.engine, pytest.mark.flow]

UPDATES = 6
SEED = 3


def test_each_scheduled_update_is_proven_or_leaves_the_version_before(tmp_path: Path) -> None:
    with campaign(tmp_path, SEED) as running:
        updates = [running.update(number) for number in range(1, UPDATES + 1)]

    assert [str(one) for one in updates if one.problems] == []
    assert {one.state for one in updates} == {"COMPLETED", "FAILED"}
    assert running.held_back
