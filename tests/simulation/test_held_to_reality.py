"""Scenarios run in the simulated world and on the real engine: what is recorded is equal."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.recovery.error_recovery import error_recovery
from tests.e2e.conftest import made_stores  # noqa: F401 - fixture
from tests.simulation.real_engine import RealWorld
from tests.simulation.real_records import Records, to_lines
from tests.simulation.real_scenarios import SCENARIOS, scenario_of
from tests.simulation.world import plain
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture
from tests.support.registry import Registry, registry

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.engine, pytest.mark.flow]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry") / "own") as made:
        yield made


@pytest.fixture
def world(
    tmp_path: Path,
    images: Registry,
    monkeypatch: pytest.MonkeyPatch,
    made_stores: Path,  # noqa: F811 - fixture
) -> Iterator[RealWorld]:
    shutil.copytree(made_stores, tmp_path / "data")
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(tmp_path))
    # As in the simulated world, no server records the flow that a failure is handed to.
    for module in ("error_recovery", "escalate"):
        monkeypatch.setattr(f"flows.recovery.{module}.error_recovery", plain(error_recovery))
    made = RealWorld(tmp_path, images)
    yield made
    made.remove()


@pytest.fixture(scope="session")
def simulation() -> Iterator[subprocess.Popen[str]]:
    """A process that runs scenarios in the simulated world, and prints the records of each in a line."""
    command = [sys.executable, "-m", "tests.simulation.real_simulated"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def simulate(simulation: subprocess.Popen[str], number: int) -> Records:
    """The records of a scenario in the simulated world."""
    assert simulation.stdin is not None
    assert simulation.stdout is not None
    simulation.stdin.write(f"{number}\n")
    simulation.stdin.flush()
    records: Records = json.loads(simulation.stdout.readline())
    assert "failed" not in records, records["failed"][0]["why"]
    return records


@pytest.mark.campaign(seconds=35)
@pytest.mark.parametrize("number", range(SCENARIOS))
async def test_a_scenario_leaves_the_same_records_on_the_real_engine(
    number: int, world: RealWorld, simulation: subprocess.Popen[str]
) -> None:
    simulated = simulate(simulation, number)
    real = await world.run(scenario_of(number))
    if folder := os.environ.get("ROAS_TEST_RECORDS"):
        Path(folder, f"{number}-simulated.json").write_text("\n".join(to_lines(simulated)))
        Path(folder, f"{number}-real.json").write_text("\n".join(to_lines(real)))
    differences = list(difflib.unified_diff(to_lines(simulated), to_lines(real), "simulated", "real", lineterm="", n=4))
    assert differences == [], "\n".join([*world.timeline, *differences])
