"""Check ports, names, mounts, networks, volumes and reserved resources."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator

from core.deployment.checks.findings import CRITICAL, WARNING, found, found_or_passed, size_in_words
from models.compose import Application, ServiceDeclaration
from models.containers import EngineInfo, SystemSample
from models.validation import Check
from models.validation_facts import Facts, MountWanted, Trouble

_LEAST_MEMORY_BYTES = 6 * 1024**2

# What an engine hands out when nothing else is configured: 172.17-172.31 as /16, 192.168.0.0/16 as /20.
_DEFAULT_POOLS = 31


def check_ports(facts: Facts) -> Iterator[Check]:
    """Check that no other program uses the published ports."""
    findings = [
        found(
            "ports",
            CRITICAL,
            f"Port {_port_words(wanted.port.published, wanted.port.published_last)}/{wanted.port.protocol} of "
            f"{wanted.service} is taken by {wanted.holder}.",
            "Stop what holds it, or publish another port.",
            wanted.service,
        )
        for wanted in facts.ports
        if wanted.holder is not None
    ]
    single = Counter(
        (wanted.port.host_ip, wanted.port.published, wanted.port.protocol)
        for wanted in facts.ports
        if wanted.port.published_last is None
    )
    for (_, number, protocol), count in single.items():
        if count > 1:
            users = [one.service for one in facts.ports if one.port.published == number]
            findings.append(
                found(
                    "ports",
                    CRITICAL,
                    f"Port {number}/{protocol} is published by {' and '.join(dict.fromkeys(users))} at once.",
                    "Publish another port for one of them.",
                )
            )
    if facts.ports:
        yield from found_or_passed("ports", findings, "All published ports are free or the application's own.")


def check_container_names(facts: Facts, application: Application) -> Iterator[Check]:
    """Check that no other container has a name that the Compose files give."""
    findings = [
        found(
            "container_names",
            CRITICAL,
            f"Container name {application.services[service].container_name} of {service} is taken by {holder}.",
            "Remove or rename that container, or leave container_name out of the Compose file.",
            service,
        )
        for service, holder in facts.names_taken.items()
    ]
    if any(service.container_name for service in application.services.values()):
        yield from found_or_passed(
            "container_names", findings, "All container names are free or the application's own."
        )


def _port_words(first: int | None, last: int | None) -> str:
    return f"{first}-{last}" if last is not None else str(first)


def check_mounts(facts: Facts) -> Iterator[Check]:
    """Check that mounted files and folders exist and can be read."""
    findings = [check for wanted in facts.mounts for check in _judge_mount(wanted)]
    if facts.mounts:
        yield from found_or_passed("mounts", findings, "All mounted files and folders are there and readable.")


def _judge_mount(wanted: MountWanted) -> Iterator[Check]:
    source, service = wanted.mount.source, wanted.service
    if wanted.problem is not None:
        absent = "does not exist" in wanted.problem
        if absent and wanted.mount.create_host_path:
            yield found(
                "mounts",
                WARNING,
                f"{source} of {service} does not exist; the engine would mount an empty folder of that name.",
                f"Make {source}, or correct the path.",
                service,
            )
        else:
            severity = CRITICAL if absent else WARNING
            finding = f"{source} of {service} cannot be mounted as it is: {wanted.problem}."
            yield found("mounts", severity, finding, "Make it, or correct its rights.", service)
    if wanted.content_problem is not None:
        severity = CRITICAL if "prometheus" in source else WARNING
        finding = f"Configuration of {service}: {wanted.content_problem}."
        yield found("mounted_configuration", severity, finding, "Correct the file.", service)


def check_networks(facts: Facts, application: Application) -> Iterator[Check]:
    """Check external networks, overlapping subnets and free address pools."""
    if isinstance(facts.engine, Trouble) or facts.networks is None:
        return
    existing = {network.name: network for network in facts.networks}
    findings = []
    needed = 0
    for network in application.networks:
        if network.external and network.name not in existing:
            findings.append(
                found(
                    "networks",
                    CRITICAL,
                    f"Network {network.name} is declared external and does not exist.",
                    f"Make it: docker network create {network.name}",
                )
            )
        if network.external or network.name in existing:
            continue
        needed += not network.subnets
        findings += [
            found(
                "networks",
                CRITICAL,
                f"Subnet {subnet} of network {network.name} overlaps with network {other.name}.",
                f"Give another subnet, or remove {other.name} if it is unused.",
            )
            for subnet in network.subnets
            for other in facts.networks
            if any(_overlap(subnet, taken) for taken in other.subnets)
        ]
    left = _pool_size(facts.engine) - sum(network.driver == "bridge" for network in facts.networks)
    if needed > max(left, 0):
        findings.append(
            found(
                "networks",
                CRITICAL,
                f"The application needs {needed} new networks, but the engine has addresses for {max(left, 0)} more.",
                "Remove unused networks (docker network prune), or give the engine more address pools.",
            )
        )
    yield from found_or_passed("networks", findings, "All networks are there or can be made.")


def _pool_size(engine: EngineInfo) -> int:
    if not engine.address_pools:
        return _DEFAULT_POOLS
    return sum(2 ** max(0, size - ipaddress.ip_network(base).prefixlen) for base, size in engine.address_pools)


def _overlap(one: str, other: str) -> bool:
    first, second = ipaddress.ip_network(one, strict=False), ipaddress.ip_network(other, strict=False)
    return first.version == second.version and first.overlaps(second)


def check_volumes(facts: Facts, application: Application) -> Iterator[Check]:
    """Check that external volumes exist."""
    if facts.volumes is None:
        return
    findings = [
        found(
            "volumes",
            CRITICAL,
            f"Volume {volume.name} is declared external and does not exist.",
            f"Make it: docker volume create {volume.name}",
        )
        for volume in application.volumes
        if volume.external and volume.name not in facts.volumes
    ]
    if application.volumes:
        yield from found_or_passed("volumes", findings, "All volumes are there or can be made.")


def check_reservations(facts: Facts, application: Application) -> Iterator[Check]:
    """Check that the machine has the processors, memory and open files that services reserve."""
    if isinstance(facts.engine, Trouble):
        return
    engine, running = facts.engine, {one.service for one in facts.container_states if one.state == "running"}
    findings = []
    for service in application.services.values():
        if service.cpu_limit is not None and service.cpu_limit > engine.cpus:
            findings.append(
                found(
                    "reservations",
                    CRITICAL,
                    f"{service.name} is limited to {service.cpu_limit:g} processors; the engine has {engine.cpus} and "
                    "refuses more.",
                    f"Lower its cpus to {engine.cpus} or less.",
                    service.name,
                )
            )
        if service.memory_limit_bytes is not None and service.memory_limit_bytes > engine.memory_bytes:
            findings.append(
                found(
                    "reservations",
                    WARNING,
                    f"{service.name} may use {size_in_words(service.memory_limit_bytes)}; the machine has "
                    f"{size_in_words(engine.memory_bytes)}, so the limit does not protect it.",
                    "Lower its memory limit.",
                    service.name,
                )
            )
        findings += _impossible_limits(service, facts.host)
    new = [one for one in application.services.values() if one.name not in running]
    memory = sum((one.memory_reservation_bytes or 0) * one.replicas for one in new)
    cpus = sum((one.cpu_reservation or 0) * one.replicas for one in application.services.values())
    if facts.host is not None and memory > facts.host.memory_available_bytes:
        findings.append(
            found(
                "reservations",
                WARNING,
                f"The services to start reserve {size_in_words(memory)} of memory; "
                f"{size_in_words(facts.host.memory_available_bytes)} are available.",
                "Stop something else, or lower the reservations.",
            )
        )
    if cpus > engine.cpus:
        findings.append(
            found(
                "reservations",
                WARNING,
                f"The services reserve {cpus:g} processors; the engine has {engine.cpus}.",
                "Lower the reservations.",
            )
        )
    yield from found_or_passed("reservations", findings, "What the services reserve is there.")


def _impossible_limits(service: ServiceDeclaration, host: SystemSample | None) -> Iterator[Check]:
    """What the engine refuses when it makes or starts the container."""
    limit, reserved, name = service.memory_limit_bytes, service.memory_reservation_bytes, service.name
    if limit is not None and limit < _LEAST_MEMORY_BYTES:
        finding = f"{name} is limited to {size_in_words(limit)} of memory; the engine refuses less than 6 MiB."
        yield found("reservations", CRITICAL, finding, "Raise its memory limit.", name)
    elif limit is not None and reserved is not None and reserved > limit:
        sizes = f"reserves {size_in_words(reserved)} of memory and may use only {size_in_words(limit)}"
        finding = f"{name} {sizes}; the engine refuses that."
        yield found("reservations", CRITICAL, finding, "Raise its limit, or lower its reservation.", name)
    most = None if host is None else host.open_files_most
    if service.open_files is not None and most is not None and service.open_files > most:
        yield found(
            "open_files",
            CRITICAL,
            f"{name} wants {service.open_files} open files; the kernel allows {most} to one process, so it would not "
            "start.",
            f"Lower its ulimits.nofile, or raise it: sysctl -w fs.nr_open={service.open_files}",
            name,
        )
