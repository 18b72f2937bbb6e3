"""Probe the running containers of a service, and keep the worst answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import perf_counter

from adapters.docker.engine import DockerEngine
from adapters.probes.addresses import Address, find_address
from adapters.probes.outcome import Outcome, ProbeFailed, brief
from core.errors.redact import Redactor
from models.containers import ContainerState
from models.environments import (
    PROBES_WITH_LOGIN,
    AmqpProbe,
    CertificateProbe,
    CommandProbe,
    DnsProbe,
    HttpProbe,
    MysqlProbe,
    NetworkProbe,
    PostgresqlProbe,
    Probe,
    PrometheusProbe,
    RedisProbe,
    SmtpProbe,
    TcpProbe,
)
from models.failures import EngineError, EngineUnreachableError
from models.health import ProbeResult, Reading


async def run_probe(
    probe: Probe,
    service: str,
    *,
    project: str,
    engine: DockerEngine,
    secrets: Mapping[str, str],
    container_states: Sequence[ContainerState] | None = None,
) -> ProbeResult:
    """Probe every running container of a service in parallel; the worst result counts.

    A failed probe is a result, never an error. Latency is in milliseconds. `container_states` are the project's
    containers, if the caller has just inspected them.

    Raises:
        EngineUnreachableError: The engine, which knows where the service is, did not answer.
        ProbeOutOfReachError: The engine is on another machine, where the port is not published to others.
    """
    if container_states is None:
        container_states = await asyncio.to_thread(engine.containers.inspect_project, project, service)
    containers = [container for container in container_states if container.service == service]
    # One beside the container that it replaces does not serve yet.
    containers = [container for container in containers if container.replaces is None] or containers
    running = [container for container in containers if container.state == "running" and not container.one_off]
    if not running:
        states = ", ".join(
            f"{container.name} is {container.state} (exit code {container.exit_code})" for container in containers
        )
        return _result(probe, service, service, ok=False, detail=states or "it has no container")
    results = await asyncio.gather(
        *(_probe_container(probe, service, container, engine, secrets) for container in running)
    )
    worst = min(results, key=lambda result: (result.ok, -(result.latency_ms or 0)))
    return replace(
        worst, detail=_redact_detail(worst.detail, probe, engine, secrets), readings=_worst_readings(results)
    )


def _redact_detail(detail: str, probe: Probe, engine: DockerEngine, secrets: Mapping[str, str]) -> str:
    """A detail without secrets: a server may print back the password that it refuses."""
    named = secrets.get(probe.password_secret or "") if isinstance(probe, PROBES_WITH_LOGIN) else None
    return engine.redact(detail if named is None else Redactor((named,)).text(detail))


def _worst_readings(results: Sequence[ProbeResult]) -> tuple[Reading, ...]:
    """The reading of highest concern for each metric."""
    # Of readings with the same concern the first one stays.
    readings = [reading for result in reversed(results) for reading in reversed(result.readings)]
    by_concern = sorted(readings, key=lambda reading: reading.concern.rank)
    return tuple({reading.metric: reading for reading in by_concern}.values())


async def _probe_container(
    probe: Probe, service: str, container: ContainerState, engine: DockerEngine, secrets: Mapping[str, str]
) -> ProbeResult:
    target, started = container.name, perf_counter()
    readings: tuple[Reading, ...] = ()
    try:
        if isinstance(probe, CommandProbe):
            detail = await _command(probe, container, engine)
        else:
            udp, limit = isinstance(probe, DnsProbe), probe.timeout_seconds
            place = await find_address(probe.port, container, engine, timeout_seconds=limit, udp=udp)
            target = f"{container.name} at {place}"
            started = perf_counter()
            async with asyncio.timeout(limit):
                detail, readings = await _run_network_probe(probe, place, secrets)
    except EngineUnreachableError:
        raise
    except TimeoutError:
        return _result(probe, service, target, ok=False, detail=f"no answer within {probe.timeout_seconds:g} s")
    except (ProbeFailed, EngineError) as error:
        return _result(probe, service, target, ok=False, detail=str(error))
    latency = (perf_counter() - started) * 1000
    return replace(_result(probe, service, target, ok=True, detail=detail), latency_ms=latency, readings=readings)


def _result(probe: Probe, service: str, target: str, *, ok: bool, detail: str) -> ProbeResult:
    now = datetime.now(UTC)
    return ProbeResult(service=service, kind=probe.kind, target=target, ok=ok, detail=detail, checked_at=now)


async def _run_network_probe(probe: NetworkProbe, place: Address, secrets: Mapping[str, str]) -> Outcome:
    # Each client's library is imported with its first probe: an environment uses two or three of them.
    match probe:
        case HttpProbe():
            from adapters.probes.http import ask_http

            return await ask_http(probe, place, secrets)
        case PrometheusProbe():
            from adapters.probes.http import ask_prometheus

            return await ask_prometheus(probe, place)
        case TcpProbe():
            from adapters.probes.connections import ask_tcp

            return await ask_tcp(place)
        case CertificateProbe():
            from adapters.probes.connections import read_certificate

            return await read_certificate(probe, place)
        case RedisProbe():
            from adapters.probes.redis import ask_redis

            return await ask_redis(probe, place, secrets)
        case PostgresqlProbe():
            from adapters.probes.postgresql import ask_postgresql

            return await ask_postgresql(probe, place, secrets)
        case MysqlProbe():
            from adapters.probes.mysql import ask_mysql

            return await ask_mysql(probe, place, secrets)
        case AmqpProbe():
            from adapters.probes.amqp import ask_amqp

            return await ask_amqp(probe, place, secrets)
        case SmtpProbe():
            from adapters.probes.smtp import ask_smtp

            return await ask_smtp(probe, place)
        case DnsProbe():
            from adapters.probes.dns import ask_dns

            return await ask_dns(probe, place)


async def _command(probe: CommandProbe, container: ContainerState, engine: DockerEngine) -> str:
    limit = timedelta(seconds=probe.timeout_seconds)
    exit_code, printed = await asyncio.to_thread(
        engine.containers.exec, container.container_id, list(probe.command), limit
    )
    if exit_code != 0:
        raise ProbeFailed(f"{probe.command[0]} ended with exit code {exit_code}: {brief(printed)}")
    return brief(printed) if printed.strip() else f"{probe.command[0]} ended with exit code 0"
