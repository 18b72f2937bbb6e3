"""A port that two services publish on one address is found before anything is touched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.deployment.checks.resources import check_ports
from models.compose import PublishedPort
from models.validation import Facts, PortWanted
from tests.unit.core.deployment.test_validate import GOOD


def publishing(*ports: tuple[str, str, int, str]) -> Facts:
    """Facts of services that publish ports: service, address, number, protocol."""
    bindings = (
        PortWanted(service=service, port=PublishedPort(target=80, published=number, host_ip=address, protocol=protocol))
        for service, address, number, protocol in ports
    )
    return replace(GOOD, ports=tuple(bindings))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("", ""),
        ("", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("10.0.0.5", "0.0.0.0"),
        ("::", "::1"),
        ("", "::1"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_one_port_on_addresses_that_overlap_is_refused(first: str, second: str) -> None:
    (check,) = check_ports(publishing(("web", first, 80, "tcp"), ("api", second, 80, "tcp")))

    assert check.finding == "Port 80/tcp is published by web and api at once."
    assert not check.passed


@pytest.mark.parametrize(("first", "second"), [("127.0.0.1", "127.0.0.2"), ("0.0.0.0", "::1"), ("::", "127.0.0.1")])
def test_one_port_on_addresses_apart_is_free(first: str, second: str) -> None:
    (check,) = check_ports(publishing(("web", first, 80, "tcp"), ("api", second, 80, "tcp")))

    assert check.passed


def test_only_those_that_collide_are_named() -> None:
    checks = check_ports(
        publishing(("dns", "", 53, "tcp"), ("dns", "", 53, "udp"), ("cache", "", 53, "udp"), ("web", "", 80, "tcp"))
    )

    assert [check.finding for check in checks] == ["Port 53/udp is published by dns and cache at once."]


def test_a_service_that_publishes_a_port_twice_is_reported() -> None:
    (check,) = check_ports(publishing(("web", "", 80, "tcp"), ("web", "127.0.0.1", 80, "tcp")))

    assert check.finding == "Port 80/tcp is published by web twice."
