"""A service that is killed for memory gets a larger limit, which an update applies and under which it lives."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime

import pytest

from flows.deployment.startup import startup
from flows.deployment.update import update
from models.failures import StartFailedError
from models.sizes import Size
from tasks.reporting.sizes import read_sizes
from tasks.runtime.clients import find_environment
from tests.e2e.flows.conftest import HEALTH, Place

pytestmark = [pytest.mark.engine, pytest.mark.flow]

MIB = 1024 * 1024
EATER = "import pathlib, time; kept = b'x' * 60_000_000; pathlib.Path('/tmp/well').touch(); time.sleep(600)"


@pytest.mark.campaign(seconds=20)
async def test_a_service_killed_for_memory_gets_a_larger_limit_and_lives(place: Place) -> None:
    place.declare(
        "eater:  # eats 60 MB\n  image: roas/sample-bot:local\n  pull_policy: never\n  network_mode: none\n"
        f"  healthcheck: {HEALTH}\n"
        f'  command: [python3, -c, "{EATER}"]\n  deploy:\n    resources:\n      limits:\n        memory: 16M  # small\n'
    )
    with pytest.raises(StartFailedError):
        await startup("test")

    report = read_sizes(find_environment("test"), (), datetime.now(UTC), write=True)

    (proposal,) = report.proposals
    assert proposal.kills.limit_bytes == 16 * MIB
    assert proposal.proposed == Size(memory_limit_bytes=134 * MIB)
    text = (place.folder / "compose.yaml").read_text()
    assert "eater:  # eats 60 MB" in text
    assert "memory: 134M  # small" in text

    assert (await update("test")).success

    assert place.health("eater") == "healthy"
    asked = ["docker", "inspect", "--format", "{{.HostConfig.Memory}} {{.State.OOMKilled}}", place.container("eater")]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split() == [
        str(134 * MIB), "false",
    ]  # fmt: skip
    assert read_sizes(find_environment("test"), (), datetime.now(UTC)).diff == ""
