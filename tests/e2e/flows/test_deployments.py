"""prefect.yaml and `roas serve` offer the same deployments; what an agent does is scheduled in prefect.yaml alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from prefect.events import DeploymentEventTrigger

from flows.monitoring.collection import SCHEDULED_EVERY
from flows.server.deployments import deployments_of

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_prefect_yaml_lists_what_serve_serves(environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(ROOT / "deployments/environments"))
    listed = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    mine = {entry["entrypoint"]: entry for entry in listed if entry["name"] == environment}

    served = {deployment.entrypoint: deployment for deployment in deployments_of(environment)}

    assert set(mine) == set(served)
    for entrypoint, deployment in served.items():
        entry = mine[entrypoint]
        assert entry.get("parameters", {}) == deployment.parameters
        limit = entry.get("concurrency_limit")
        assert (limit["limit"] if limit else None) == deployment.concurrency_limit
        listed_crons = [one["cron"] for one in entry.get("schedules", []) if "cron" in one]
        assert [getattr(one.schedule, "cron", None) for one in deployment.schedules or []] == listed_crons
        reported = [
            {"name": one.name, "match": one.match.model_dump(), "parameters": one.parameters}
            for one in deployment.triggers
            if isinstance(one, DeploymentEventTrigger)
        ]
        assert [
            {key: one[key] for key in ("name", "match", "parameters")} for one in entry.get("triggers", [])
        ] == reported


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_a_plain_worker_monitors_by_the_schedules_of_prefect_yaml(environment: str) -> None:
    listed = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]

    scheduled = {
        entry["entrypoint"].rpartition(".")[2]: entry["schedules"]
        for entry in listed
        if entry["name"] == environment and entry.get("schedules")
    }

    assert set(scheduled) == {"collection", "health_check", "drift", "lifecycle", "report"}
    assert scheduled["collection"] == [{"interval": SCHEDULED_EVERY.total_seconds()}]
    assert scheduled["health_check"] == [{"interval": 900}]
