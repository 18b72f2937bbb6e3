"""Decisions before a start: each fact becomes a check with its severity, its finding and its fix."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from core.deployment.plan import cycle, dangling
from models.compose import Application, DependencyCondition, HealthcheckDeclaration, ServiceDeclaration
from models.containers import EngineInfo, SystemSample
from models.validation import Check, CheckSeverity, ValidationResult
from models.validation_facts import Facts, ImageWanted, MountWanted, Trouble

_CRITICAL, _WARNING, _INFO = CheckSeverity.CRITICAL, CheckSeverity.WARNING, CheckSeverity.INFO

_OLDEST_ENGINE = (20, 10)
_START_INTERVAL_ENGINE = (25, 0)
_OLDEST_COMPOSE = (2, 20)
_DISK_CRITICAL_BYTES = 200 * 1024**2
_DISK_WARNING_BYTES = 2 * 1024**3
_INODES_WARNING = 0.05
_OPEN_FILES = 1024
_LEAST_MEMORY_BYTES = 6 * 1024**2
_CLOCK = timedelta(seconds=5)
# What an engine hands out when nothing else is configured: 172.17-172.31 as /16, 192.168.0.0/16 as /20.
_DEFAULT_POOLS = 31


def validate(facts: Facts, now: datetime) -> ValidationResult:
    """Judge everything that was found out. A check whose facts could not be had is left out, never passed."""
    checks = [
        *_check_engine(facts),
        *_check_compose(facts),
        *_check_variables(facts),
        *_check_another_run(facts),
        *_check_clock(facts),
        *_check_host(facts),
        *_check_gaps(facts),
    ]
    if not isinstance(facts.declared, Trouble):
        application = facts.declared
        checks += [
            *_check_dependencies(application),
            *_check_images(facts),
            *_check_healthchecks(facts, application),
            *_check_ports(facts),
            *_check_container_names(facts, application),
            *_check_mounts(facts),
            *_check_networks(facts, application),
            *_check_volumes(facts, application),
            *_check_reservations(facts, application),
        ]
    return ValidationResult(
        environment=facts.environment.name,
        validated_at=now,
        checks=tuple(checks),
        system_resources=_resources(facts.host),
        docker_environment=_docker(facts),
    )


def _passed(name: str, finding: str, subject: str | None = None) -> Check:
    return Check(name=name, passed=True, severity=_INFO, finding=finding, subject=subject)


def _found(name: str, severity: CheckSeverity, finding: str, fix: str, subject: str | None = None) -> Check:
    return Check(name=name, passed=False, severity=severity, finding=finding, fix=fix, subject=subject)


def _or_passed(name: str, findings: list[Check], well: str) -> Iterator[Check]:
    yield from findings or [_passed(name, well)]


def _check_engine(facts: Facts) -> Iterator[Check]:
    engine = facts.engine
    if isinstance(engine, Trouble):
        yield _found("engine", _CRITICAL, engine.what.rstrip(";"), _sentence(engine.advice))
        return
    if _version(engine.version) < _OLDEST_ENGINE:
        yield _found(
            "engine",
            _CRITICAL,
            f"Docker engine {engine.version} is too old.",
            f"Upgrade it to {_dotted(_OLDEST_ENGINE)} or later.",
        )
    else:
        yield _passed("engine", f"Docker engine {engine.version} answers at {engine.address}.")
    for warning in engine.warnings:
        yield _found("engine", _INFO, f"The engine says: {warning}.", "See the engine's documentation.")


def _check_compose(facts: Facts) -> Iterator[Check]:
    version = facts.compose_version
    if isinstance(version, Trouble):
        yield _found("compose", _CRITICAL, version.what, version.advice)
    elif _version(version) < _OLDEST_COMPOSE:
        yield _found(
            "compose",
            _CRITICAL,
            f"Compose {version} is too old.",
            f"Upgrade it to {_dotted(_OLDEST_COMPOSE)} or later.",
        )
    else:
        yield _passed("compose", f"Compose {version}.")
    if isinstance(facts.declared, Trouble):
        if not isinstance(version, Trouble):
            yield _found("compose_files", _CRITICAL, facts.declared.what, facts.declared.advice)
        return
    count = len(facts.declared.services)
    if count == 0:
        yield _found(
            "compose_files", _CRITICAL, "The Compose files declare no service.", "Check the files and the profiles."
        )
    else:
        yield _passed("compose_files", f"The Compose files parse and declare {count} services.")


def _check_variables(facts: Facts) -> Iterator[Check]:
    missing = [
        _found("variables", _CRITICAL, f"Variable {name} is not set or empty.", f"Set {name}.", name)
        for name in facts.missing_variables
    ]
    missing += [_withheld(facts, name) for name in facts.withheld_variables if name not in facts.missing_secrets]
    if facts.environment.variables or missing:
        yield from _or_passed("variables", missing, "All required variables are set.")
    secrets = [
        _found("secrets", _CRITICAL, f"Secret {name} is missing: {why}.", f"Provide secret {name}.", name)
        for name, why in facts.missing_secrets.items()
    ]
    if facts.environment.secrets or secrets:
        yield from _or_passed("secrets", secrets, "All secrets can be read.")
    if isinstance(facts.declared, Trouble):
        return
    reported = {*facts.missing_variables, *facts.missing_secrets, *facts.withheld_variables}
    empty = [
        _found(
            "interpolation",
            _WARNING,
            f"Variable {variable.name} is empty where the Compose files use it.",
            f"Set {variable.name}, or give it a default as ${{{variable.name}:-value}}.",
            variable.name,
        )
        for variable in facts.empty_variables
        if variable.name not in reported
    ]
    for warning in facts.declared.warnings:
        unset = re.match(r'The "(\w+)" variable is not set', warning)
        if unset is None:
            empty.append(_found("compose_files", _INFO, f"Compose says: {warning}", "Correct the Compose files."))
        elif unset[1] not in reported:
            name = unset[1]
            fix = f"Set {name}, or give it a default as ${{{name}:-value}}."
            finding = f"Variable {name} is not set, so the Compose files get an empty text in its place."
            empty.append(_found("interpolation", _WARNING, finding, fix, name))
    yield from _or_passed("interpolation", empty, "No variable is filled in with nothing.")


def _withheld(facts: Facts, name: str) -> Check:
    return _found(
        "variables",
        _CRITICAL if name in facts.environment.variables else _WARNING,
        f"Variable {name} holds a credential of this control plane or its operator: no application gets it.",
        "Use a variable of the application's own. For a cloud account's, name it under secrets of the environment.",
        name,
    )


def _check_another_run(facts: Facts) -> Iterator[Check]:
    if facts.held_by is not None:
        yield _found(
            "another_run",
            _CRITICAL,
            f"Another operation holds {facts.environment.name}: {facts.held_by}.",
            "Wait for it, or stop it first.",
        )


def _check_clock(facts: Facts) -> Iterator[Check]:
    offset = facts.clock_offset
    if offset is None:
        return
    if abs(offset) > _CLOCK:
        yield _found(
            "clock",
            _WARNING,
            f"The engine's clock differs from this machine's by {offset.total_seconds():+.0f} s.",
            "Let both machines take their time from the same servers.",
        )
    else:
        yield _passed("clock", "The engine's clock agrees with this machine's.")


def _check_host(facts: Facts) -> Iterator[Check]:
    host = facts.host
    if host is None:
        return
    free = _size(host.disk_free_bytes)
    if host.disk_free_bytes < _DISK_CRITICAL_BYTES:
        yield _found("disk", _CRITICAL, f"Only {free} are free on the engine's disk.", _FREE_DISK)
    elif host.disk_free_bytes < _DISK_WARNING_BYTES:
        yield _found("disk", _WARNING, f"{free} are free on the engine's disk.", _FREE_DISK)
    else:
        yield _passed("disk", f"{free} are free on the engine's disk.")
    # File systems that make inodes as they need them report none at all.
    if host.inodes_total:
        left = host.inodes_free / host.inodes_total
        if left < _INODES_WARNING:
            severity = _CRITICAL if host.inodes_free < 1000 else _WARNING
            finding = f"Only {left:.1%} of the inodes of the engine's disk are free."
            yield _found("inodes", severity, finding, "Remove many small files, or images nobody uses.")
        else:
            yield _passed("inodes", f"{left:.0%} of the inodes are free.")
    if host.open_files_limit < _OPEN_FILES:
        yield _found(
            "open_files",
            _WARNING,
            f"This user may open only {host.open_files_limit} files at once.",
            f"Raise the limit to {_OPEN_FILES} or more (ulimit -n).",
        )
    else:
        yield _passed("open_files", f"{host.open_files_limit} files may be open at once.")


def _check_gaps(facts: Facts) -> Iterator[Check]:
    for gap in facts.gaps:
        yield _found(
            "gaps",
            _WARNING,
            f"Not everything could be looked at: {gap}.",
            "Allow this user that question to the engine.",
        )


_FREE_DISK = "Free space there; `docker system df` shows what images, containers and volumes take."


def _check_dependencies(application: Application) -> Iterator[Check]:
    findings = [
        _found(
            "dependencies",
            _CRITICAL,
            f"{name} depends on {other}, which is not part of the application.",
            f"Declare {other}, turn its profile on, or mark the dependency required: false.",
            name,
        )
        for name, other in dangling(application)
    ]
    circle = cycle(application)
    if circle:
        findings.append(
            _found(
                "dependencies",
                _CRITICAL,
                f"Services depend on each other in a circle: {' -> '.join(circle)}.",
                "Take one depends_on out of the circle.",
            )
        )
    findings += [
        _found(
            "dependencies",
            _WARNING,
            f"{name} waits until {other} has finished, but {other} is started again whenever it ends "
            f"(restart: {application.services[other].restart}).",
            f"Set restart of {other} to no or on-failure.",
            name,
        )
        for name, declaration in application.services.items()
        for other, needed in declaration.depends_on.items()
        if needed.condition is DependencyCondition.COMPLETED
        and other in application.services
        and application.services[other].restarts
    ]
    yield from _or_passed("dependencies", findings, "All dependencies are declared and none goes in a circle.")


def _check_images(facts: Facts) -> Iterator[Check]:
    platforms = {} if isinstance(facts.declared, Trouble) else facts.declared.services
    for image in facts.images:
        declaration = platforms.get(image.service)
        yield _judge_image(image, facts.engine, declaration.platform if declaration else None)


def _judge_image(image: ImageWanted, engine: EngineInfo | Trouble, wanted: str | None) -> Check:
    name, reference = "image", image.reference
    if image.held is None:
        if image.buildable:
            if image.build_problem is not None:
                fix = "Correct build in the Compose file, or make that file."
                finding = f"{image.service} cannot be built: {image.build_problem}."
                return _found(name, _CRITICAL, finding, fix, image.service)
            return _passed(name, f"{reference} will be built.", image.service)
        if image.unavailable is not None:
            return _found(
                name,
                _CRITICAL,
                f"Image {reference} of {image.service} is not here and cannot be had: {image.unavailable.rstrip('.')}.",
                "Check its name and tag and the way to its registry, or load it with `docker load`.",
                image.service,
            )
        return _passed(name, f"{reference} will be fetched.", image.service)
    if wanted is not None and image.held.platform and not f"{image.held.platform}/".startswith(f"{wanted}/"):
        return _found(
            name,
            _WARNING,
            f"Image {reference} of {image.service} is here for {image.held.platform}; the Compose file wants {wanted}.",
            f"Fetch it: docker pull --platform {wanted} {reference}",
            image.service,
        )
    built_for, runs = image.held.platform, "" if isinstance(engine, Trouble) else _platform(engine.architecture)
    if built_for and runs and not built_for.startswith(f"linux/{runs}"):
        return _found(
            name,
            _WARNING,
            f"Image {reference} of {image.service} is made for {built_for}; the engine runs linux/{runs}.",
            "Use an image for this platform; another one runs slowly or not at all.",
            image.service,
        )
    return _passed(name, f"{reference} is here ({image.held.image_id.removeprefix('sha256:')[:12]}).", image.service)


def _check_healthchecks(facts: Facts, application: Application) -> Iterator[Check]:
    images = {image.service: image for image in facts.images}
    for service in application.services.values():
        findings = list(_judge_healthcheck(facts, application, service, images.get(service.name)))
        yield from findings or [_passed("health_check", f"{service.name} can be proven.", service.name)]


def _judge_healthcheck(
    facts: Facts, application: Application, service: ServiceDeclaration, image: ImageWanted | None
) -> Iterator[Check]:
    def finding(severity: CheckSeverity, what: str, fix: str) -> Check:
        return _found("health_check", severity, what, fix, service.name)

    name, check = service.name, service.healthcheck
    disabled = check is not None and check.disabled
    # An image that is not here yet may bring a check of its own.
    by_image = not disabled and (image is None or image.held is None or image.held.checked)
    if not service.checked and not by_image:
        waiting = [
            other.name
            for other in application.services.values()
            if name in other.depends_on and other.depends_on[name].condition is DependencyCondition.HEALTHY
        ]
        if waiting:
            yield finding(
                _CRITICAL,
                f"{', '.join(waiting)} waits until {name} is healthy, but {name} has no health check.",
                f"Give {name} a healthcheck, or wait for service_started.",
            )
        elif not service.one_shot and facts.environment.service(name).probe is None:
            yield finding(
                _WARNING,
                f"{name} has neither a health check nor a probe, so nothing can prove that it works.",
                f"Give it a healthcheck in the Compose file or a probe in environment {facts.environment.name}.",
            )
    if check is None or disabled:
        return
    if check.test and check.test[0] not in ("CMD", "CMD-SHELL"):
        yield finding(
            _CRITICAL,
            f"The health check of {name} begins with {check.test[0]!r}, so the engine never runs it.",
            "Begin it with CMD (a program and its arguments) or CMD-SHELL (one shell line).",
        )
    if image is not None:
        for program in image.missing_programs:
            yield finding(
                _WARNING,
                f"The health check of {name} calls {program}, which image {image.reference} does not have.",
                f"Install {program} in the image, or check with something it has.",
            )
    yield from (finding(_WARNING, what, fix) for what, fix in _traps(name, check))
    engine = facts.engine
    if check.start_interval and not isinstance(engine, Trouble) and _version(engine.version) < _START_INTERVAL_ENGINE:
        yield finding(
            _WARNING,
            f"{name} uses start_interval, which engine {engine.version} does not know.",
            f"Upgrade the engine to {_dotted(_START_INTERVAL_ENGINE)} or later.",
        )


def _traps(name: str, check: HealthcheckDeclaration) -> Iterator[tuple[str, str]]:
    """Health checks that look right and are not."""
    if check.start_interval and not check.start_period:
        yield (
            f"start_interval of {name} has no effect without start_period.",
            "Add a start_period as long as a slow start takes.",
        )
    words = " ".join(check.test or ())
    if re.search(r"redis-cli\b.*\bping\b", words, re.IGNORECASE) and not re.search(
        r"PONG|redis-cli\s(.*\s)?-e\b", words
    ):
        yield (
            f"The health check of {name} passes while Redis loads or wants a password: redis-cli exits 0 then.",
            "Add -e to redis-cli, or look for PONG in what it says.",
        )
    if re.search(r"(^CMD(-SHELL)?\s+|\|\|\s*|;\s*)(true|exit 0|:)\s*;?\s*$", words):
        yield (
            f"The health check of {name} passes whatever happens: it ends with what always succeeds.",
            "Let the check fail when the service does not serve (|| exit 1).",
        )
    if re.search(r"\bmysqladmin\b.*\bping\b", words):
        yield (
            f"The health check of {name} passes while every login is refused: mysqladmin ping exits 0 then.",
            "Ask something that needs a login, such as mysqladmin status.",
        )
    if re.search(r"\bcurl\b", words) and not re.search(r"\s(-\w*f\w*|--fail\S*)(\s|$)", words):
        yield (
            f"The health check of {name} passes on any answer, even 500: curl without -f exits 0 then.",
            "Add -f to curl.",
        )
    if check.interval and check.timeout and check.timeout > 5 * check.interval:
        yield (
            f"One health check of {name} may hang for {check.timeout.total_seconds():g} s, many times its interval.",
            "Shorten its timeout.",
        )


def _check_ports(facts: Facts) -> Iterator[Check]:
    findings = [
        _found(
            "ports",
            _CRITICAL,
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
                _found(
                    "ports",
                    _CRITICAL,
                    f"Port {number}/{protocol} is published by {' and '.join(dict.fromkeys(users))} at once.",
                    "Publish another port for one of them.",
                )
            )
    if facts.ports:
        yield from _or_passed("ports", findings, "All published ports are free or the application's own.")


def _check_container_names(facts: Facts, application: Application) -> Iterator[Check]:
    findings = [
        _found(
            "container_names",
            _CRITICAL,
            f"Container name {application.services[service].container_name} of {service} is taken by {holder}.",
            "Remove or rename that container, or leave container_name out of the Compose file.",
            service,
        )
        for service, holder in facts.names_taken.items()
    ]
    if any(service.container_name for service in application.services.values()):
        yield from _or_passed("container_names", findings, "All container names are free or the application's own.")


def _port_words(first: int | None, last: int | None) -> str:
    return f"{first}-{last}" if last is not None else str(first)


def _check_mounts(facts: Facts) -> Iterator[Check]:
    findings = [check for wanted in facts.mounts for check in _judge_mount(wanted)]
    if facts.mounts:
        yield from _or_passed("mounts", findings, "All mounted files and folders are there and readable.")


def _judge_mount(wanted: MountWanted) -> Iterator[Check]:
    source, service = wanted.mount.source, wanted.service
    if wanted.problem is not None:
        absent = "does not exist" in wanted.problem
        if absent and wanted.mount.create_host_path:
            yield _found(
                "mounts",
                _WARNING,
                f"{source} of {service} does not exist; the engine would mount an empty folder of that name.",
                f"Make {source}, or correct the path.",
                service,
            )
        else:
            severity = _CRITICAL if absent else _WARNING
            finding = f"{source} of {service} cannot be mounted as it is: {wanted.problem}."
            yield _found("mounts", severity, finding, "Make it, or correct its rights.", service)
    if wanted.content_problem is not None:
        severity = _CRITICAL if "prometheus" in source else _WARNING
        finding = f"Configuration of {service}: {wanted.content_problem}."
        yield _found("mounted_configuration", severity, finding, "Correct the file.", service)


def _check_networks(facts: Facts, application: Application) -> Iterator[Check]:
    if isinstance(facts.engine, Trouble) or facts.networks is None:
        return
    existing = {network.name: network for network in facts.networks}
    findings = []
    needed = 0
    for network in application.networks:
        if network.external and network.name not in existing:
            findings.append(
                _found(
                    "networks",
                    _CRITICAL,
                    f"Network {network.name} is declared external and does not exist.",
                    f"Make it: docker network create {network.name}",
                )
            )
        if network.external or network.name in existing:
            continue
        needed += not network.subnets
        findings += [
            _found(
                "networks",
                _CRITICAL,
                f"Subnet {subnet} of network {network.name} overlaps with network {other.name}.",
                f"Give another subnet, or remove {other.name} if nobody uses it.",
            )
            for subnet in network.subnets
            for other in facts.networks
            if any(_overlap(subnet, taken) for taken in other.subnets)
        ]
    left = _pool_size(facts.engine) - sum(network.driver == "bridge" for network in facts.networks)
    if needed > max(left, 0):
        findings.append(
            _found(
                "networks",
                _CRITICAL,
                f"The application needs {needed} new networks, but the engine has addresses for {max(left, 0)} more.",
                "Remove networks nobody uses (docker network prune), or give the engine more address pools.",
            )
        )
    yield from _or_passed("networks", findings, "All networks are there or can be made.")


def _pool_size(engine: EngineInfo) -> int:
    if not engine.address_pools:
        return _DEFAULT_POOLS
    return sum(2 ** max(0, size - ipaddress.ip_network(base).prefixlen) for base, size in engine.address_pools)


def _overlap(one: str, other: str) -> bool:
    first, second = ipaddress.ip_network(one, strict=False), ipaddress.ip_network(other, strict=False)
    return first.version == second.version and first.overlaps(second)


def _check_volumes(facts: Facts, application: Application) -> Iterator[Check]:
    if facts.volumes is None:
        return
    findings = [
        _found(
            "volumes",
            _CRITICAL,
            f"Volume {volume.name} is declared external and does not exist.",
            f"Make it: docker volume create {volume.name}",
        )
        for volume in application.volumes
        if volume.external and volume.name not in facts.volumes
    ]
    if application.volumes:
        yield from _or_passed("volumes", findings, "All volumes are there or can be made.")


def _check_reservations(facts: Facts, application: Application) -> Iterator[Check]:
    if isinstance(facts.engine, Trouble):
        return
    engine, running = facts.engine, {one.service for one in facts.container_states if one.state == "running"}
    findings = []
    for service in application.services.values():
        if service.cpu_limit is not None and service.cpu_limit > engine.cpus:
            findings.append(
                _found(
                    "reservations",
                    _CRITICAL,
                    f"{service.name} is limited to {service.cpu_limit:g} processors; the engine has {engine.cpus} and "
                    "refuses more.",
                    f"Lower its cpus to {engine.cpus} or less.",
                    service.name,
                )
            )
        if service.memory_limit_bytes is not None and service.memory_limit_bytes > engine.memory_bytes:
            findings.append(
                _found(
                    "reservations",
                    _WARNING,
                    f"{service.name} may use {_size(service.memory_limit_bytes)}; the machine has "
                    f"{_size(engine.memory_bytes)}, so the limit does not protect it.",
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
            _found(
                "reservations",
                _WARNING,
                f"The services to start reserve {_size(memory)} of memory; "
                f"{_size(facts.host.memory_available_bytes)} are available.",
                "Stop something else, or lower the reservations.",
            )
        )
    if cpus > engine.cpus:
        findings.append(
            _found(
                "reservations",
                _WARNING,
                f"The services reserve {cpus:g} processors; the engine has {engine.cpus}.",
                "Lower the reservations.",
            )
        )
    yield from _or_passed("reservations", findings, "What the services reserve is there.")


def _impossible_limits(service: ServiceDeclaration, host: SystemSample | None) -> Iterator[Check]:
    """What the engine refuses when it makes or starts the container."""
    limit, reserved, name = service.memory_limit_bytes, service.memory_reservation_bytes, service.name
    if limit is not None and limit < _LEAST_MEMORY_BYTES:
        finding = f"{name} is limited to {_size(limit)} of memory; the engine refuses less than 6 MiB."
        yield _found("reservations", _CRITICAL, finding, "Raise its memory limit.", name)
    elif limit is not None and reserved is not None and reserved > limit:
        finding = (
            f"{name} reserves {_size(reserved)} of memory and may use only {_size(limit)}; the engine refuses that."
        )
        yield _found("reservations", _CRITICAL, finding, "Raise its limit, or lower its reservation.", name)
    most = None if host is None else host.open_files_most
    if service.open_files is not None and most is not None and service.open_files > most:
        yield _found(
            "open_files",
            _CRITICAL,
            f"{name} wants {service.open_files} open files; the kernel allows {most} to one process, so it would not "
            "start.",
            f"Lower its ulimits.nofile, or raise it: sysctl -w fs.nr_open={service.open_files}",
            name,
        )


def _resources(host: SystemSample | None) -> dict[str, object]:
    if host is None:
        return {}
    return {
        "cpus": host.cpus,
        "load_1m": host.load_1m,
        "memory_total_bytes": host.memory_total_bytes,
        "memory_available_bytes": host.memory_available_bytes,
        "disk_total_bytes": host.disk_total_bytes,
        "disk_free_bytes": host.disk_free_bytes,
        "inodes_free": host.inodes_free,
        "open_files_limit": host.open_files_limit,
    }


def _docker(facts: Facts) -> dict[str, object]:
    compose = facts.compose_version
    found: dict[str, object] = {"engine": facts.environment.engine}
    if not isinstance(compose, Trouble):
        found["compose_version"] = compose
    if not isinstance(facts.engine, Trouble):
        found |= {
            "version": facts.engine.version,
            "api_version": facts.engine.api_version,
            "operating_system": facts.engine.operating_system,
            "architecture": facts.engine.architecture,
            "storage_driver": facts.engine.storage_driver,
        }
    found["images"] = {image.reference: image.held.image_id for image in facts.images if image.held is not None}
    return found


def _version(text: str) -> tuple[int, int]:
    numbers = re.findall(r"\d+", text)
    return (int(numbers[0]), int(numbers[1])) if len(numbers) > 1 else (0, 0)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _platform(architecture: str) -> str:
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.get(architecture, architecture)


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
