"""Check ports, names, mounts, networks, volumes and reserved resources."""

from __future__ import annotations

import ipaddress
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

from core.deployment.checks.findings import CRITICAL, WARNING, Findings, size_in_words
from models.compose import Mount, ServiceDeclaration
from models.containers import EngineInfo, SystemSample
from models.validation import Check, Facts, MountWanted, PortWanted, Trouble

_LEAST_MEMORY_BYTES = 6 * 1024**2

# What an engine hands out when nothing else is configured: 172.17-172.31 as /16, 192.168.0.0/16 as /20.
_DEFAULT_POOLS = 31


def check_ports(facts: Facts) -> Iterable[Check]:
    """Check that no other program uses the published ports."""
    ports, users = Findings("ports"), facts.ports
    for wanted in users:
        if wanted.holder is not None:
            ports.critical(str(wanted), _fix_of_port(wanted), wanted.service)
    single = Counter(
        (one.port.host_ip, one.port.published, one.port.protocol) for one in users if one.port.published_last is None
    )
    for (_, published, protocol), count in single.items():
        if count > 1:
            names = dict.fromkeys(one.service for one in users if one.port.published == published)
            finding = f"Port {published}/{protocol} is published by {' and '.join(names)} at once."
            ports.critical(finding, "Publish another port for one of them.")
    return ports.or_passed("All published ports are free or the application's own.") if users else ()


def _fix_of_port(wanted: PortWanted) -> str:
    first, last, udp = wanted.port.published, wanted.port.published_last, wanted.port.protocol == "udp"
    number = f"{first}" if last is None else f"{first}-{last}"
    if (wanted.holder or "").startswith("container"):
        seen = f"docker ps --filter publish={number}"
    else:
        seen = f"ss -l{'u' if udp else 't'}np" + (f" 'sport = :{first}'" if last is None else "")
    return f"Stop what holds it, or publish another port; who that is: {seen}"


def check_container_names(facts: Facts) -> Iterable[Check]:
    """Check that no other container has a name that the Compose files give."""
    names, services = Findings("container_names"), facts.application.services
    for service, holder in facts.names_taken.items():
        finding = f"Container name {services[service].container_name} of {service} is taken by {holder}."
        fix = "Remove or rename that container, or leave container_name out of the Compose file."
        names.critical(finding, fix, service)
    given = any(service.container_name for service in services.values())
    return names.or_passed("All container names are free or the application's own.") if given else ()


def check_mounts(facts: Facts) -> Iterable[Check]:
    """Check that mounted files and folders exist and can be read."""
    findings = [check for wanted in facts.mounts for check in _judge_mount(wanted)]
    passed = Findings("mounts").or_passed("All mounted files and folders are there and readable.")
    return (findings or passed) if facts.mounts else ()


def _judge_mount(wanted: MountWanted) -> Iterable[Check]:
    source, service = wanted.mount.source, wanted.service
    mounts, content = Findings("mounts"), Findings("mounted_configuration")
    if wanted.problem is not None:
        absent = "does not exist" in wanted.problem
        if absent and wanted.mount.create_host_path:
            finding = f"{source} of {service} does not exist; the engine would mount an empty folder of that name."
            fix = (
                f"Make {source}, or correct the path; what is there: ls -la {shlex.quote(str(PurePath(source).parent))}"
            )
            mounts.add(CRITICAL if _is_file(wanted.mount) else WARNING, finding, fix, service)
        else:
            finding = f"{source} of {service} cannot be mounted as it is: {wanted.problem}."
            mounts.add(CRITICAL if absent else WARNING, finding, "Make it, or correct its rights.", service)
    if wanted.content_problem is not None:
        severity = CRITICAL if "prometheus" in source else WARNING
        content.add(severity, f"Configuration of {service}: {wanted.content_problem}.", "Correct the file.", service)
    return [*mounts, *content]


_OF_FILES = frozenset(
    {
        *(".cfg", ".cnf", ".conf", ".crt", ".csv", ".db", ".env", ".html", ".ini", ".js", ".json", ".key", ".lua"),
        *(".pem", ".php", ".properties", ".py", ".rb", ".sh", ".sql", ".toml", ".ts", ".txt", ".xml", ".yaml", ".yml"),
    }
)


def _is_file(mount: Mount) -> bool:
    """Whether both ends of a mount have the name of a file, for which a folder is of no use."""
    return all(PurePath(end).suffix in _OF_FILES for end in (mount.source, mount.target))


def check_networks(facts: Facts) -> Iterable[Check]:
    """Check external networks, overlapping subnets and free address pools."""
    if isinstance(facts.engine, Trouble) or facts.networks is None:
        return ()
    networks, existing, needed = Findings("networks"), {network.name for network in facts.networks}, 0
    for network in facts.application.networks:
        if network.name in existing:
            continue
        if network.external:
            finding = f"Network {network.name} is declared external and does not exist."
            networks.critical(finding, f"Make it: docker network create {network.name}")
            continue
        needed += not network.subnets
        for subnet in network.subnets:
            for other in facts.networks:
                if any(_overlap(subnet, taken) for taken in other.subnets):
                    finding = f"Subnet {subnet} of network {network.name} overlaps with network {other.name}."
                    networks.critical(finding, f"Give another subnet, or remove {other.name} if it is unused.")
    left = max(0, _pool_size(facts.engine) - sum(network.driver == "bridge" for network in facts.networks))
    if needed > left:
        finding = f"The application needs {needed} new networks, but the engine has addresses for {left} more."
        fix = "Remove unused networks (docker network prune), or give the engine more address pools."
        networks.critical(finding, fix)
    return networks.or_passed("All networks are there or can be made.")


def _pool_size(engine: EngineInfo) -> int:
    if not engine.address_pools:
        return _DEFAULT_POOLS
    return sum(2 ** max(0, size - ipaddress.ip_network(base).prefixlen) for base, size in engine.address_pools)


def _overlap(one: str, other: str) -> bool:
    first, second = ipaddress.ip_network(one, strict=False), ipaddress.ip_network(other, strict=False)
    return first.version == second.version and first.overlaps(second)


def check_volumes(facts: Facts) -> Iterable[Check]:
    """Check that external volumes exist."""
    volumes = Findings("volumes")
    if facts.volumes is None or not facts.application.volumes:
        return ()
    for volume in facts.application.volumes:
        if volume.external and volume.name not in facts.volumes:
            finding = f"Volume {volume.name} is declared external and does not exist."
            volumes.critical(finding, f"Make it: docker volume create {volume.name}")
    return volumes.or_passed("All volumes are there or can be made.")


def check_reservations(facts: Facts) -> Iterable[Check]:
    """Check that the machine has the processors, memory and open files that services reserve."""
    engine, host, found = facts.engine, facts.host, Findings("reservations")
    if isinstance(engine, Trouble):
        return ()
    services = facts.application.services.values()
    for service in services:
        name, processors, limit = service.name, service.cpu_limit, service.memory_limit_bytes
        if processors is not None and processors > engine.cpus:
            finding = f"{name} is limited to {processors:g} processors; the engine has {engine.cpus} and refuses more."
            found.critical(finding, f"Lower its cpus to {engine.cpus} or less.", name)
        if limit is not None and limit > engine.memory_bytes:
            sizes = f"{size_in_words(limit)}; the machine has {size_in_words(engine.memory_bytes)}"
            finding = f"{name} may use {sizes}, so the limit does not protect it."
            found.warn(finding, "Lower its memory limit.", name)
        found += _impossible_limits(service, host)
    running = {one.service for one in facts.container_states if one.state == "running"}
    memory = sum((one.memory_reservation_bytes or 0) * one.replicas for one in services if one.name not in running)
    cpus = sum((one.cpu_reservation or 0) * one.replicas for one in services)
    if host is not None and memory > host.memory_available_bytes:
        available = f"{size_in_words(host.memory_available_bytes)} are available"
        finding = f"The services to start reserve {size_in_words(memory)} of memory; {available}."
        found.warn(finding, "Stop something else, or lower the reservations.")
    if cpus > engine.cpus:
        finding = f"The services reserve {cpus:g} processors; the engine has {engine.cpus}."
        found.warn(finding, "Lower the reservations.")
    return found.or_passed("What the services reserve is there.")


def _impossible_limits(service: ServiceDeclaration, host: SystemSample | None) -> Iterable[Check]:
    """What the engine refuses when it makes or starts the container."""
    limit, reserved, name = service.memory_limit_bytes, service.memory_reservation_bytes, service.name
    memory, open_files = Findings("reservations"), Findings("open_files")
    if limit is not None and limit < _LEAST_MEMORY_BYTES:
        finding = f"{name} is limited to {size_in_words(limit)} of memory; the engine refuses less than 6 MiB."
        memory.critical(finding, "Raise its memory limit.", name)
    elif limit is not None and reserved is not None and reserved > limit:
        sizes = f"reserves {size_in_words(reserved)} of memory and may use only {size_in_words(limit)}"
        finding = f"{name} {sizes}; the engine refuses that."
        memory.critical(finding, "Raise its limit, or lower its reservation.", name)
    wanted, most = service.open_files, None if host is None else host.open_files_most
    if wanted is not None and most is not None and wanted > most:
        allows = f"the kernel allows {most} to one process, so it would not start"
        fix = f"Lower its ulimits.nofile, or raise it: sysctl -w fs.nr_open={wanted}"
        open_files.critical(f"{name} wants {wanted} open files; {allows}.", fix, name)
    return [*memory, *open_files]


CHECKS = (check_ports, check_container_names, check_mounts, check_networks, check_volumes, check_reservations)
