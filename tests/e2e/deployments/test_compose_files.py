from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from adapters.config.environments import load_environment
from models.environments import HttpProbe, PrometheusProbe, RedisProbe, TcpProbe

ROOT = Path(__file__).parents[3]
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
def test_every_service_is_checked_and_comes_back(file: Path) -> None:
    for name, service in rendered(file)["services"].items():
        if name not in ONE_SHOT:
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name


@pytest.mark.parametrize(("file", "name"), services(), ids=str)
def test_every_container_has_limits_of_memory_processor_time_and_processes(file: Path, name: str) -> None:
    limits = rendered(file)["services"][name]["deploy"]["resources"]["limits"]
    assert 0 < int(limits["memory"]) <= 2 * 2**30
    assert 0 < float(limits["cpus"]) <= 2
    assert 0 < limits["pids"] <= 2048


def networks_of(service: str) -> set[str]:
    return set(rendered(CONTROL_PLANE)["services"][service].get("networks", {}))


def services_in(network: str) -> set[str]:
    return {name for name in rendered(CONTROL_PLANE)["services"] if network in networks_of(name)}


def test_only_those_who_use_the_messages_share_a_network_with_them() -> None:
    assert networks_of("messaging") == {"backend"}
    assert services_in("backend") == {"postgres", "messaging", "server", "services"}
    assert rendered(CONTROL_PLANE)["networks"]["backend"]["internal"]
    assert services_in("api") == {"server", "deploy", "caddy"}
    assert services_in("cache") == {"cache", "exporter"}
    assert services_in("monitoring") == {"exporter", "prometheus", "alertmanager", "grafana"}


def test_the_password_of_the_cache_does_not_open_the_messages() -> None:
    holders: dict[str, set[str]] = {}
    for name, service in rendered(CONTROL_PLANE)["services"].items():
        for secret in service.get("secrets", []):
            holders.setdefault(secret["source"], set()).add(name)
    assert holders["messaging_password"] == {"messaging", "server", "services"}
    assert holders["cache_password"] == {"cache", "exporter", "worker"}
    assert holders["alert_url"] == {"alertmanager"}
    assert holders["otlp_headers"] == {"worker"}
    assert holders["prefect_encryption_key"] == {"server", "services"}


def test_the_api_of_the_control_plane_is_closed_to_pages_of_other_origins() -> None:
    environment = rendered(CONTROL_PLANE)["services"]["server"]["environment"]
    assert environment["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == (
        "http://127.0.0.1:4200,http://localhost:4200,https://localhost:4443"
    )
    assert environment["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"


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


def test_only_socket_proxy_and_supervisor_touch_the_engine_and_no_network_reaches_them() -> None:
    touching = {
        name
        for name, service in rendered(CONTROL_PLANE)["services"].items()
        for volume in service.get("volumes", [])
        if "docker.sock" in volume["source"]
    }
    assert touching == {"socket-proxy", "supervisor"}
    for name in touching:
        assert rendered(CONTROL_PLANE)["services"][name]["network_mode"] == "none"


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


def test_the_control_plane_leaves_dev_to_who_started_it_unless_configured_otherwise() -> None:
    for service in ("worker", "exporter"):
        assert rendered(CONTROL_PLANE)["services"][service]["environment"]["ROAS_UNWATCHED"] == "dev"


def test_dev_and_prod_run_side_by_side() -> None:
    dev, prod = (load_environment(name, ROOT / "deployments/environments") for name in ("dev", "prod"))
    assert dev.project != prod.project
    assert prod.env_files
