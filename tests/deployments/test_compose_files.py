from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from adapters.environment_files import load_environment
from models.environments import HttpProbe, PrometheusProbe, RedisProbe, TcpProbe

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "deployments/sample/compose.yaml"
CONTROL_PLANE = ROOT / "docker-compose.yml"
ONE_SHOT = {"migrate", "deploy"}


@cache
def rendered(file: Path) -> dict[str, Any]:
    """The file as Compose understands it, all profiles on."""
    done = subprocess.run(
        ["docker", "compose", "--profile", "*", "-f", file, "config", "--format", "json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"SAMPLE_REDIS_PASSWORD": "for-tests", "PWD": str(ROOT)},
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def services() -> list[tuple[Path, str]]:
    return [(file, name) for file in (SAMPLE, CONTROL_PLANE) for name in rendered(file)["services"]]


@pytest.mark.parametrize("file", [SAMPLE, CONTROL_PLANE], ids=["sample", "control plane"])
def test_every_service_is_checked_limited_and_comes_back(file: Path) -> None:
    for name, service in rendered(file)["services"].items():
        if name not in ONE_SHOT:
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name
            if name != "grafana":
                assert int(service["deploy"]["resources"]["limits"]["memory"]) > 0, name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name


@pytest.mark.parametrize("file", [SAMPLE, CONTROL_PLANE], ids=["sample", "control plane"])
def test_no_port_is_open_to_other_machines(file: Path) -> None:
    for name, service in rendered(file)["services"].items():
        for port in service.get("ports", []):
            assert port["host_ip"] == "127.0.0.1", name


def test_no_two_applications_here_want_the_same_port() -> None:
    published = [
        port["published"]
        for file in (SAMPLE, CONTROL_PLANE)
        for service in rendered(file)["services"].values()
        for port in service.get("ports", [])
    ]
    prod = dict(
        line.split("=")
        for line in (ROOT / "deployments/environments/prod.env").read_text().splitlines()
        if line and not line.startswith("#")
    )
    published += prod.values()
    assert len(set(published)) == len(published)


def test_no_password_stands_in_the_control_plane() -> None:
    text = json.dumps(rendered(CONTROL_PLANE)["services"])
    for secret in (ROOT / ".secrets").iterdir():
        assert secret.read_text() not in text


def test_only_the_socket_proxy_touches_the_engine() -> None:
    touching = {
        name
        for name, service in rendered(CONTROL_PLANE)["services"].items()
        for volume in service.get("volumes", [])
        if "docker.sock" in volume["source"]
    }
    assert touching == {"socket-proxy"}
    assert rendered(CONTROL_PLANE)["services"]["socket-proxy"]["network_mode"] == "none"


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_an_environment_knows_only_services_and_ports_that_its_application_has(name: str) -> None:
    environment = load_environment(name, ROOT / "deployments/environments")
    declared = rendered(environment.compose_files[0])["services"]
    ports = {"bot": 8080, "prometheus": 9090, "redis": 6379}
    for service, spec in environment.services.items():
        assert service in declared
        if isinstance(spec.probe, HttpProbe | TcpProbe | RedisProbe | PrometheusProbe):
            assert spec.probe.port == ports[service]
    assert {secret.name for secret in environment.secrets} == {"SAMPLE_REDIS_PASSWORD"}


def test_dev_and_prod_run_side_by_side() -> None:
    dev, prod = (load_environment(name, ROOT / "deployments/environments") for name in ("dev", "prod"))
    assert dev.project != prod.project
    assert prod.env_files
