from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.faults.endured import InjectedFault, endure_twice
from tests.e2e.faults.faults import FAULTS
from tests.e2e.faults.scenes import Scene

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=15)]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_a_fault_is_reported_truly_and_undone(folder: Path, fault: InjectedFault) -> None:
    scenes = Scene(environments=folder, name="proven"), Scene(environments=folder, name="fresh")
    try:
        endured = await endure_twice(fault, scenes)
        assert {one.scene.name: one.complaints() for one in endured} == {"proven": [], "fresh": []}
    finally:
        for scene in scenes:
            scene.clean()
