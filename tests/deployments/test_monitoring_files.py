from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.engine
@pytest.mark.parametrize("folder", ["deployments/prometheus", "deployments/sample"])
def test_prometheus_accepts_its_configuration(folder: str) -> None:
    checked = subprocess.run(
        [
            *("docker", "run", "--rm", "--volume", f"{ROOT / folder}:/config:ro", "roas/prometheus:local"),
            *("promtool", "check", "config", "/config/prometheus.yml"),
        ],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
