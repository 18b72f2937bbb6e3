"""Check ports, names, mounts, networks, volumes and reserved resources."""

from __future__ import annotations

import ipaddress
import itertools
import shlex
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePath

from core.common.quantities import size_in_words
from core.deployment.checks.findings import CRITICAL, WARNING, Findings
from models.compose import Mount, ServiceDeclaration
from models.containers import EngineInfo, SystemSample
from models.validation import Check, Facts, MountWanted, PortWanted, Trouble

_LEAST_MEMORY_BYTES = 6 * 1024**2

# What an engine hands out when nothing else is configured: 172.17-172.31 as /16, 192.168.0.0/16 as /20.
_DEFAULT_POOLS = 31


def check_ports(facts: Facts) -> Iterable[Check]:
    """Check that no other program uses the published ports."""
    ports, users = Findings("ports"), facts.ports
    for binding in users:
        if binding.holder is not None:
            ports.critical(str(binding), _fix_of_port(binding), binding.service)
    for (published, protocol), services in _published_twice(users).items():
        names = " and ".join(services) + (" at once" if len(services) > 1 else " twice")
        ports.critical(f"Port {published}/{protocol} is published by {names}.", "Publish another port for one of them.")
    return ports.or_passed("All published ports are free or the application's own.") if users else ()


def _published_twice(bindings: Iterable[PortWanted]) -> dict[tuple[int, str], dict[str, None]]:
    """The ports that are published more than once on an address, with the services that do it."""
    by_number: defaultdict[tuple[int, str], list[PortWanted]] = defaultdict(list)
    for binding in bindings:
        port = binding.port
        if port.published is not None and port.published_last is None:
            by_number[port.published, port.protocol].append(binding)
    colliding: defaultdict[tuple[int, str], dict[str, None]] = defaultdict(dict)
    for number, group in by_number.items():
        for first, second in itertools.combinations(group, 2):
            if _share_an_address(first.port.host_ip, second.port.host_ip):
                colliding[number] |= dict.fromkeys([first.service, second.service])
    return colliding


def _share_an_address(first: str, second: str) -> bool:
    """Report whether two addresses of the host overlap: none given is every one, 0.0.0.0 and :: are all of a family."""
    if first == second or not (first and second):
        return True
    try:
        address, other = ipaddress.ip_address(first), ipaddress.ip_address(second)
    except ValueError:
        # The engine says what is wrong with it.
        return False
    return address.version == other.version and (address.is_unspecified or other.is_unspecified)


def _fix_of_port(binding: PortWanted) -> str:
    first, last, udp = binding.port.published, binding.port.published_last, binding.port.protocol == "udp"
    number = f"{first}" if last is None else f"{first}-{last}"
    if (binding.holder or "").startswith("container"):
        command = f"docker ps --filter publish={number}"
    else:
        command = f"ss -l{'u' if udp else 't'}np" + (f" 'sport = :{first}'" if last is None else "")
    return f"Stop what holds it, or publish another port; who that is: {command}"


def check_container_names(facts: Facts) -> Iterable[Check]:
    """Check that no other container has a name that the Compose files give."""
    names, services = Findings("container_names"), facts.application.services
    for service, holder in facts.names_taken.items():
        finding = f"Container name {services[service].container_name} of {service} is taken by {holder}."
        fix = "Remove or rename that container, or leave container_name out of the Compose file."
        names.critical(finding, fix, service)
    has_names = any(service.container_name for service in services.values())
    return names.or_passed("All container names are free or the application's own.") if has_names else ()


def check_mounts(facts: Facts) -> Iterable[Check]:
    """Check that mounted files and folders exist and can be read."""
    findings = [check for mount in facts.mounts for check in _judge_mount(mount)]
    passed = Findings("mounts").or_passed("All mounted files and folders are there and readable.")
    return (findings or passed) if facts.mounts else ()


def _judge_mount(mount: MountWanted) -> Iterable[Check]:
    source, service = mount.mount.source, mount.service
    mounts, content = Findings("mounts"), Findings("mounted_configuration")
    if mount.problem is not None:
        absent = "does not exist" in mount.problem
        if absent and mount.mount.create_host_path:
            finding = f"{source} of {service} does not exist; the engine would mount an empty folder of that name."
            fix = f"Make {source}, or correct the path; its folder: ls -la {shlex.quote(str(PurePath(source).parent))}"
            mounts.add(CRITICAL if _is_file(mount.mount) else WARNING, finding, fix, service)
        else:
            finding = f"{source} of {service} cannot be mounted as it is: {mount.problem}."
            mounts.add(CRITICAL if absent else WARNING, finding, "Make it, or correct its rights.", service)
    if mount.content_problem is not None:
        severity = CRITICAL if "prometheus" in source else WARNING
        content.add(severity, f"Configuration of {service}: {mount.content_problem}.", "Correct the file.", service)
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
                if any(_overlap(subnet, other_subnet) for other_subnet in other.subnets):
                    finding = f"Subnet {subnet} of network {network.name} overlaps with network {other.name}."
                    networks.critical(finding, f"Give another subnet, or remove {other.name} if it is unused.")
    free_pools = max(0, _pool_size(facts.engine) - sum(network.driver == "bridge" for network in facts.networks))
    if needed > free_pools:
        finding = f"The application needs {needed} new networks, but the engine has addresses for {free_pools} more."
        fix = "Remove unused networks (docker network prune), or give the engine more address pools."
        networks.critical(finding, fix)
    return networks.or_passed("All networks are there or can be made.")


def _pool_size(engine: EngineInfo) -> int:
    if not engine.address_pools:
        return _DEFAULT_POOLS
    return sum(2 ** max(0, size - ipaddress.ip_network(base).prefixlen) for base, size in engine.address_pools)


def _overlap(subnet: str, other: str) -> bool:
    first, second = ipaddress.ip_network(subnet, strict=False), ipaddress.ip_network(other, strict=False)
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
    engine, host, findings = facts.engine, facts.host, Findings("reservations")
    if isinstance(engine, Trouble):
        return ()
    services = facts.application.services.values()
    for service in services:
        name, processors, limit = service.name, service.cpu_limit, service.memory_limit_bytes
        if processors is not None and processors > engine.cpus:
            finding = f"{name} is limited to {processors:g} processors; the engine has {engine.cpus} and refuses more."
            findings.critical(finding, f"Lower its cpus to {engine.cpus} or less.", name)
        if limit is not None and limit > engine.memory_bytes:
            sizes = f"{size_in_words(limit)}; the machine has {size_in_words(engine.memory_bytes)}"
            finding = f"{name} may use {sizes}, so the limit does not protect it."
            findings.warn(finding, "Lower its memory limit.", name)
        findings += _impossible_limits(service, host)
    running = {container.service for container in facts.container_states if container.state == "running"}
    to_start = [service for service in services if service.name not in running]
    memory = sum((service.memory_reservation_bytes or 0) * service.replicas for service in to_start)
    cpus = sum((service.cpu_reservation or 0) * service.replicas for service in services)
    if host is not None and memory > host.memory_available_bytes:
        available = f"{size_in_words(host.memory_available_bytes)} are available"
        finding = f"The services to start reserve {size_in_words(memory)} of memory; {available}."
        findings.warn(finding, "Stop something else, or lower the reservations.")
    if cpus > engine.cpus:
        finding = f"The services reserve {cpus:g} processors; the engine has {engine.cpus}."
        findings.warn(finding, "Lower the reservations.")
    return findings.or_passed("What the services reserve is there.")


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
    nofile, most = service.open_files, None if host is None else host.open_files_most
    if nofile is not None and most is not None and nofile > most:
        allows = f"the kernel allows {most} to one process, so it would not start"
        fix = f"Lower its ulimits.nofile, or raise it: sysctl -w fs.nr_open={nofile}"
        open_files.critical(f"{name} wants {nofile} open files; {allows}.", fix, name)
    return [*memory, *open_files]


CHECKS = (check_ports, check_container_names, check_mounts, check_networks, check_volumes, check_reservations)
