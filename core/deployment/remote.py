"""What can be known of an engine on another machine: which probes can be asked from here, and why others cannot.

Addresses of containers belong to their own machine's networks. From another machine the same address is nothing, or a
stranger, whose answer would be taken for the service's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address

from models.compose import Application, Plan, ServiceDeclaration
from models.environments import CommandProbe, DnsProbe, Environment, Probe


def unasked_probes(environment: Environment, application: Application) -> dict[str, str]:
    """Why a service's probe cannot be asked from here, by service; none of an engine that is on this machine."""
    if not environment.is_remote:
        return {}
    reasons = {}
    for name, declaration in application.services.items():
        probe = environment.service(name).probe
        why = None if probe is None else _why_not(probe, _whose_network(declaration, application))
        if why is not None:
            reasons[name] = why
    return reasons


def why_unasked(port: int, bound_to: str | None) -> str:
    """Why a port of a container on another machine cannot be asked; `bound_to` is the address it is published on."""
    if bound_to is None:
        return f"its engine is on another machine, and port {port} is not published there"
    return f"its engine is on another machine, and port {port} is published there on {bound_to} alone"


def is_open_to_others(bound_to: str) -> bool:
    """Whether a port that is published on an address can be reached by the name of its machine."""
    return bound_to == "" or ip_address(bound_to.strip("[]")).is_unspecified


def _whose_network(declaration: ServiceDeclaration, application: Application) -> ServiceDeclaration:
    """The service whose network another one uses, which publishes its ports too."""
    owner = declaration.network_mode.removeprefix("service:")
    return application.services.get(owner, declaration) if owner != declaration.network_mode else declaration


def _why_not(probe: Probe, declaration: ServiceDeclaration) -> str | None:
    if isinstance(probe, CommandProbe) or declaration.network_mode == "host":
        return None
    protocol = "udp" if isinstance(probe, DnsProbe) else "tcp"
    published = [port for port in declaration.ports if port.target == probe.port and port.protocol == protocol]
    if any(is_open_to_others(port.host_ip) for port in published):
        return None
    return why_unasked(probe.port, published[0].host_ip if published else None)


def with_unasked_probes(planned: Plan, unasked: Mapping[str, str]) -> Plan:
    """The plan with a note for each service whose probe cannot be asked from here."""
    lines = []
    for line in planned.services:
        why = unasked.get(line.service)
        note = f"its probe is not asked: {why}; the engine's health check alone proves it"
        lines.append(line if why is None else replace(line, note=f"{line.note}; {note}" if line.note else note))
    return replace(planned, services=tuple(lines))
