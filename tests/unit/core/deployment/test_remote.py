"""Which probes can be asked of an engine on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.deployment.remote import unasked_probes, with_unasked_probes
from models.compose import Application, Plan, PlannedAction, PlannedService, PublishedPort, ServiceDeclaration
from models.environments import Environment

TCP = {"kind": "tcp", "port": 80}


def environment(engine: str = "ssh://deploy@db.example", **probes: Any) -> Environment:
    return Environment.model_validate(
        {
            "name": "shop",
            "project": "shop",
            "compose_files": [Path("compose.yaml")],
            "engine": engine,
            "services": {name: {"probe": probe} for name, probe in probes.items()},
        }
    )


def application(*services: ServiceDeclaration) -> Application:
    return Application(project="shop", services={one.name: one for one in services})


def web(*ports: PublishedPort, network_mode: str = "") -> ServiceDeclaration:
    return ServiceDeclaration(name="web", image="web:1", ports=ports, network_mode=network_mode)


@pytest.mark.parametrize("engine", ["unix:///var/run/docker.sock", "tcp://127.0.0.1:2375", "tcp://localhost:2375"])
def test_every_probe_of_an_engine_of_this_machine_is_asked(engine: str) -> None:
    assert unasked_probes(environment(engine, web=TCP), application(web())) == {}


@pytest.mark.parametrize(
    ("port", "why"),
    [
        ((), "port 80 is not published there"),
        ((PublishedPort(target=80, published=8080, host_ip="127.0.0.1"),), "published there on 127.0.0.1 alone"),
        ((PublishedPort(target=80, published=8080, host_ip="10.0.0.5"),), "published there on 10.0.0.5 alone"),
        ((PublishedPort(target=80, published=8080, protocol="udp"),), "port 80 is not published there"),
        ((PublishedPort(target=81, published=8080),), "port 80 is not published there"),
    ],
)
def test_a_port_that_is_not_open_to_others_is_not_asked(port: tuple[PublishedPort, ...], why: str) -> None:
    [(name, said)] = unasked_probes(environment(web=TCP), application(web(*port))).items()
    assert name == "web"
    assert said.startswith("its engine is on another machine, and ")
    assert why in said


@pytest.mark.parametrize("host_ip", ["", "0.0.0.0", "::", "[::]"])
def test_a_published_port_is_asked(host_ip: str) -> None:
    published = PublishedPort(target=80, published=8080, host_ip=host_ip)
    assert unasked_probes(environment(web=TCP), application(web(published))) == {}


def test_a_command_and_a_service_on_its_hosts_network_are_asked() -> None:
    assert unasked_probes(environment(web={"kind": "command", "command": ["true"]}), application(web())) == {}
    assert unasked_probes(environment(web=TCP), application(web(network_mode="host"))) == {}


def test_a_service_in_the_network_of_another_is_asked_at_the_others_port() -> None:
    owner = ServiceDeclaration(name="proxy", image="p:1", ports=(PublishedPort(target=80, published=80),))
    assert unasked_probes(environment(web=TCP), application(owner, web(network_mode="service:proxy"))) == {}
    closed = ServiceDeclaration(name="proxy", image="p:1")
    assert "web" in unasked_probes(environment(web=TCP), application(closed, web(network_mode="service:proxy")))


def test_a_plan_says_which_probe_is_not_asked() -> None:
    line = PlannedService(service="web", wave=1, action=PlannedAction.START, because="it is stopped", note="before")
    planned = Plan(project="shop", services=(line,), waves=(("web",),))
    [noted] = with_unasked_probes(planned, {"web": "why"}).services
    assert noted.note == "before; its probe is not asked: why; the engine's health check alone proves it"
