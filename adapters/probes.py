"""Health probes: HTTP, TCP, Redis, Prometheus, certificate and command checks of running services."""

from __future__ import annotations

import asyncio
import secrets as random
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from time import perf_counter
from urllib.parse import urlsplit

import httpx
import redis.asyncio
from cryptography import x509
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError

from adapters.docker.engine import DockerEngine
from models.analysis import Level
from models.containers import ContainerState
from models.environments import (
    CertificateProbe,
    CommandProbe,
    HttpProbe,
    Probe,
    PrometheusProbe,
    RedisProbe,
    TcpProbe,
)
from models.failures import ContainerGoneError, EngineError, EngineUnreachableError
from models.health import ProbeResult, Reading

_NetworkProbe = HttpProbe | TcpProbe | RedisProbe | PrometheusProbe | CertificateProbe
_Outcome = tuple[str, tuple[Reading, ...]]

_BODY_BYTES = 64 * 1024
_REACHABLE_SECONDS = 1.0


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
    """
    if container_states is None:
        container_states = await asyncio.to_thread(engine.containers.inspect_project, project, service)
    containers = [one for one in container_states if one.service == service]
    running = [one for one in containers if one.state == "running" and not one.one_off]
    if not running:
        states = ", ".join(f"{one.name} is {one.state} (exit code {one.exit_code})" for one in containers)
        return _result(probe, service, service, ok=False, detail=states or "it has no container")
    results = await asyncio.gather(
        *(_probe_container(probe, service, container, engine, secrets) for container in running)
    )
    worst = min(results, key=lambda result: (result.ok, -(result.latency_ms or 0)))
    return replace(worst, detail=engine.redact(worst.detail), readings=_worst_readings(results))


def _worst_readings(results: Sequence[ProbeResult]) -> tuple[Reading, ...]:
    """The reading of highest concern for each metric."""
    # Of readings with the same concern the first one stays.
    readings = [one for result in reversed(results) for one in reversed(result.readings)]
    by_concern = sorted(readings, key=lambda one: one.concern.rank)
    return tuple({one.metric: one for one in by_concern}.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Address:
    """Address of a container's port. `proxied`: the engine's proxy accepts the connection."""

    host: str
    port: int
    proxied: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class _Failed(Exception):  # noqa: N818 - it is a result, not an error
    """The probe failed; the message is for the user."""


async def _probe_container(
    probe: Probe, service: str, container: ContainerState, engine: DockerEngine, secrets: Mapping[str, str]
) -> ProbeResult:
    target, started = container.name, perf_counter()
    readings: tuple[Reading, ...] = ()
    try:
        if isinstance(probe, CommandProbe):
            detail = await _command(probe, container, engine)
        else:
            place = await _find_address(probe, container, engine)
            target = f"{container.name} at {place}"
            started = perf_counter()
            async with asyncio.timeout(probe.timeout_seconds):
                detail, readings = await _run_network_probe(probe, place, secrets)
    except EngineUnreachableError:
        raise
    except TimeoutError:
        return _result(probe, service, target, ok=False, detail=f"no answer within {probe.timeout_seconds:g} s")
    except (_Failed, EngineError) as error:
        return _result(probe, service, target, ok=False, detail=str(error))
    latency = (perf_counter() - started) * 1000
    return replace(_result(probe, service, target, ok=True, detail=detail), latency_ms=latency, readings=readings)


def _result(probe: Probe, service: str, target: str, *, ok: bool, detail: str) -> ProbeResult:
    now = datetime.now(UTC)
    return ProbeResult(service=service, kind=probe.kind, target=target, ok=ok, detail=detail, checked_at=now)


async def _run_network_probe(probe: _NetworkProbe, place: _Address, secrets: Mapping[str, str]) -> _Outcome:
    if isinstance(probe, HttpProbe):
        return await _http(probe, place), ()
    if isinstance(probe, TcpProbe):
        return await _tcp(place), ()
    if isinstance(probe, RedisProbe):
        return await _redis(probe, place, secrets)
    if isinstance(probe, CertificateProbe):
        return await _certificate(probe, place)
    return await _prometheus(probe, place), ()


async def _find_address(probe: _NetworkProbe, container: ContainerState, engine: DockerEngine) -> _Address:
    """The first reachable address: the container's own addresses, then its published port.

    A refusal by the container's own address is the container's answer. A published port proves less: the engine's
    proxy accepts there even when nothing listens inside.
    """
    places = await _addresses(probe.port, container, engine)
    if not places:
        raise _Failed(f"port {probe.port} has no address: the container is in no network and publishes nothing")
    for place in places:
        try:
            async with asyncio.timeout(min(_REACHABLE_SECONDS, probe.timeout_seconds)):
                _, writer = await asyncio.open_connection(place.host, place.port)
        except ConnectionRefusedError as error:
            raise _Failed(f"connection to {place} refused: nothing listens on port {probe.port}") from error
        except OSError:
            # TimeoutError or "no route": this address is unreachable from here, the next one may not be.
            continue
        writer.close()
        return place
    raise _Failed(f"not reachable from here: tried {', '.join(map(str, places))}")


async def _addresses(port: int, container: ContainerState, engine: DockerEngine) -> list[_Address]:
    if container.network_mode == "host":
        return [_Address(host=_host_of(engine), port=port)]
    owner = container
    if container.network_mode.startswith("container:"):
        try:
            other = container.network_mode.removeprefix("container:")
            owner = await asyncio.to_thread(engine.containers.inspect, other)
        except ContainerGoneError as error:
            raise _Failed("the container whose network it uses is gone") from error
    own = [_Address(host=address, port=port) for address in owner.addresses.values()]
    published = owner.ports.get(f"{port}/tcp")
    if published is not None:
        own.append(_Address(host=_host_of(engine), port=published, proxied=True))
    return own


def _host_of(engine: DockerEngine) -> str:
    return urlsplit(engine.address).hostname or "127.0.0.1"


async def _http(probe: HttpProbe, place: _Address) -> str:
    status, body = await _get(f"http://{place}{probe.path}", probe.timeout_seconds)
    wanted = "2xx" if probe.status is None else str(probe.status)
    fits = 200 <= status < 300 if probe.status is None else status == probe.status
    if not fits:
        raise _Failed(f"{probe.path} answered {status}, not {wanted}: {_brief(body)}")
    if probe.contains is not None and probe.contains not in body:
        raise _Failed(f"{probe.path} answered {status} without {probe.contains!r}: {_brief(body)}")
    return f"{probe.path} answered {status}"


async def _get(url: str, timeout_seconds: float) -> tuple[int, str]:
    # Proxies of the process's environment are not for containers of this host.
    async with httpx.AsyncClient(trust_env=False, timeout=timeout_seconds) as client:
        try:
            async with client.stream("GET", url) as answer:
                body = bytearray()
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) >= _BODY_BYTES:
                        break
                return answer.status_code, body.decode("utf-8", errors="replace")
        except httpx.TimeoutException as error:
            raise TimeoutError from error
        except httpx.HTTPError as error:
            reason = str(error) or "the connection was closed without an answer"
            raise _Failed(f"GET {url} failed: {reason}") from error


def _brief(text: str) -> str:
    words = " ".join(text.split())
    return f"{words[:200]}..." if len(words) > 200 else words or "(empty)"


async def _tcp(place: _Address) -> str:
    try:
        reader, writer = await asyncio.open_connection(place.host, place.port)
    except OSError as error:
        raise _Failed(f"connection to {place} failed: {error.strerror or error}") from error
    try:
        if place.proxied:
            try:
                async with asyncio.timeout(0.2):
                    if not await reader.read(1):
                        raise _Failed(f"{place} accepts and closes at once: nothing listens inside")
            except TimeoutError:
                # A server that waits for its client keeps the connection open and silent.
                return f"{place} accepts connections"
            except OSError as error:
                raise _Failed(f"{place} accepts and breaks off: nothing listens inside") from error
    finally:
        writer.close()
    return f"{place} accepts connections"


async def _redis(probe: RedisProbe, place: _Address, secrets: Mapping[str, str]) -> _Outcome:
    password = secrets.get(probe.password_secret) if probe.password_secret else None
    if probe.password_secret and password is None:
        raise _Failed(f"secret {probe.password_secret} is not set, so it cannot authenticate")
    client = redis.asyncio.Redis(
        host=place.host,
        port=place.port,
        password=password,
        socket_timeout=probe.timeout_seconds,
        socket_connect_timeout=probe.timeout_seconds,
        # By default the client retries for longer than a probe may take, even with a wrong password.
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    try:
        async with client:
            return await _check_redis(client)
    except AuthenticationError as error:
        given = "the password was refused" if password else "it asks for a password and none was given"
        raise _Failed(f"{given}: {error}") from error
    except redis.exceptions.TimeoutError as error:
        raise TimeoutError from error
    except RedisError as error:
        raise _Failed(_explain_refusal(error)) from error


async def _check_redis(client: redis.asyncio.Redis) -> _Outcome:
    # PING alone proves little: a server that is loading, read-only or out of memory may answer it.
    reported = await client.info()
    if int(reported.get("loading", 0)):
        raise _Failed(f"it is loading its data set ({reported.get('loading_loaded_perc', '?')} %)")
    if reported.get("role") != "master":
        raise _Failed(f"it is a {reported.get('role', 'replica')}, which takes no writes")
    key, value = f"roas:probe:{random.token_hex(8)}", random.token_hex(8)
    await client.set(key, value, ex=10)
    if await client.get(key) != value:
        raise _Failed("a written value could not be read back")
    await client.delete(key)
    notes = [f"redis {reported.get('redis_version', '?')} reads and writes"]
    if int(reported.get("maxmemory", 0)):
        notes.append(f"memory {100 * reported['used_memory'] / reported['maxmemory']:.0f} % of its limit")
    failed = [words for name, words in _PERSISTENCE.items() if reported.get(name, "ok") != "ok"]
    saved = Reading(
        metric="persistence_failures",
        value=float(len(failed)),
        words=f"{' and '.join(failed)}: what it holds is lost with its process" if failed else "what it saves is saved",
        concern=Level.WARNING if failed else Level.NONE,
        threshold=0.0 if failed else None,
    )
    return ", ".join([*notes, *(f"but {words}" for words in failed)]), (saved,)


_PERSISTENCE = {
    "rdb_last_bgsave_status": "its last snapshot failed (rdb_last_bgsave_status:err)",
    "aof_last_write_status": "its last write to the append-only file failed (aof_last_write_status:err)",
    "aof_last_bgrewrite_status": "its last rewrite of the append-only file failed (aof_last_bgrewrite_status:err)",
}


def _explain_refusal(error: RedisError) -> str:
    """Explain a refusal. The client turns some of Redis's codes into classes and drops them from the text."""
    said = f"{type(error).__name__} {error}"
    hints = (
        ("NOAUTH", "it asks for a password and none was given"),
        ("BusyLoadingError", "it is loading its data set"),
        ("MISCONF", "it refuses writes because it cannot save to disk"),
        ("ReadOnlyError", "it is a read-only replica"),
        ("OutOfMemoryError", "it refuses writes because its memory limit is reached"),
        ("NoPermissionError", "its user may not do what the probe does"),
    )
    meaning = next((words for sign, words in hints if sign in said), None)
    return f"{meaning}: {error}" if meaning else str(error)


async def _prometheus(probe: PrometheusProbe, place: _Address) -> str:
    status, body = await _get(f"http://{place}/-/ready", probe.timeout_seconds)
    if status != 200:
        raise _Failed(f"/-/ready answered {status}: {_brief(body)}")
    if probe.targets_up == 0:
        return "ready"
    async with httpx.AsyncClient(trust_env=False, timeout=probe.timeout_seconds) as client:
        try:
            answer = await client.get(f"http://{place}/api/v1/targets", params={"state": "active"})
            targets = answer.raise_for_status().json()["data"]["activeTargets"]
        except httpx.TimeoutException as error:
            raise TimeoutError from error
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise _Failed(f"ready, but its targets cannot be read: {error}") from error
    up = sum(target.get("health") == "up" for target in targets)
    if up < probe.targets_up:
        down = [
            f"{target.get('labels', {}).get('job', '?')} ({target.get('lastError') or target.get('health')})"
            for target in targets
            if target.get("health") != "up"
        ]
        raise _Failed(f"{up} of at least {probe.targets_up} targets are up; not up: {', '.join(down) or 'none known'}")
    return f"ready, {up} targets up"


async def _certificate(probe: CertificateProbe, place: _Address) -> _Outcome:
    # The certificate is only read, not verified: a self-signed one expires as well.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        _, writer = await asyncio.open_connection(
            place.host, place.port, ssl=context, server_hostname=probe.server_name or place.host
        )
    except (OSError, ssl.SSLError) as error:
        raise _Failed(f"no TLS connection to {place}: {error}") from error
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
    ends = x509.load_der_x509_certificate(shown).not_valid_after_utc
    days = (ends - datetime.now(UTC)) / timedelta(days=1)
    limit = next((one for one in (probe.critical_days, probe.warning_days) if days < one), None)
    over = f"certificate has expired {-days:.1f} days ago" if days < 0 else f"certificate expires in {days:.1f} days"
    reading = Reading(
        metric="certificate_days",
        value=days,
        words=f"its {over}, on {ends:%Y-%m-%d %H:%M} UTC",
        concern=Level.NONE if limit is None else Level.CRITICAL if days < probe.critical_days else Level.WARNING,
        threshold=limit,
    )
    return f"TLS answers, its {over}", (reading,)


async def _command(probe: CommandProbe, container: ContainerState, engine: DockerEngine) -> str:
    limit = timedelta(seconds=probe.timeout_seconds)
    exit_code, printed = await asyncio.to_thread(
        engine.containers.exec, container.container_id, list(probe.command), limit
    )
    if exit_code != 0:
        raise _Failed(f"{probe.command[0]} ended with exit code {exit_code}: {_brief(printed)}")
    return _brief(printed) if printed.strip() else f"{probe.command[0]} ended with exit code 0"
