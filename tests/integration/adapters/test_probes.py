"""Probes of real servers, found through a container that shares the host's network."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from socket import AF_INET

import psutil
import pytest
from redis import Redis

from adapters.probes.addresses import Address
from adapters.probes.outcome import ProbeFailed
from adapters.probes.redis import ask_redis
from adapters.probes.run import run_probe
from models.analysis import Level
from models.environments import CertificateProbe, CommandProbe, HttpProbe, PrometheusProbe, RedisProbe, TcpProbe
from models.failures import EngineUnreachableError
from tests.integration.adapters.conftest import ON_THE_HOST, ComposeProject
from tests.support.certificates import self_signed
from tests.support.ports import free_port
from tests.support.probed import answering, ask, silent, until_listening

pytestmark = pytest.mark.engine
Make = Callable[..., ComposeProject]


async def test_a_page_that_answers_is_healthy_and_has_a_latency(on_the_host: ComposeProject) -> None:
    with answering({"/healthz": (200, "fine")}) as port:
        result = await ask(on_the_host, HttpProbe(kind="http", port=port, path="/healthz", contains="fine"))
    assert result.ok
    assert result.latency_ms is not None
    assert result.latency_ms > 0
    assert f"127.0.0.1:{port}" in result.target


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"path": "/sick"}, "/sick answered 503, not 2xx: gateway lost"),
        ({"path": "/gone"}, "answered 404"),
        ({"path": "/well", "status": 204}, "answered 200, not 204"),
        ({"path": "/well", "contains": "ready"}, "without 'ready': starting up"),
    ],
)
async def test_a_page_with_a_wrong_answer_fails_with_its_text(
    on_the_host: ComposeProject, fields: dict[str, object], detail: str
) -> None:
    with answering({"/sick": (503, "gateway lost"), "/well": (200, "starting up")}) as port:
        result = await ask(on_the_host, HttpProbe.model_validate({"kind": "http", "port": port} | fields))
    assert not result.ok
    assert detail in result.detail


async def test_an_expected_status_is_healthy_even_outside_2xx(on_the_host: ComposeProject) -> None:
    with answering({"/": (401, "log in")}) as port:
        assert (await ask(on_the_host, HttpProbe(kind="http", port=port, status=401))).ok


async def test_a_port_without_a_listener_fails_as_refused(on_the_host: ComposeProject) -> None:
    result = await ask(on_the_host, TcpProbe(kind="tcp", port=free_port()))
    assert not result.ok
    assert "nothing listens" in result.detail


async def test_a_port_that_takes_connections_is_well(on_the_host: ComposeProject) -> None:
    with silent() as port:
        assert (await ask(on_the_host, TcpProbe(kind="tcp", port=port))).ok


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[int]:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until_listening(port)
        yield port
    finally:
        process.terminate()
        process.wait()


needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")


def redis_probe(port: int, **fields: object) -> RedisProbe:
    return RedisProbe.model_validate({"kind": "redis", "port": port, **fields})


@needs_redis
async def test_a_redis_that_reads_and_writes_is_healthy_and_keeps_no_key(
    on_the_host: ComposeProject, tmp_path: Path
) -> None:
    with redis_server(tmp_path) as port:
        result = await ask(on_the_host, redis_probe(port))
        with Redis(port=port) as client:
            assert client.dbsize() == 0
    assert result.ok, result.detail
    assert "reads and writes" in result.detail


@needs_redis
async def test_a_redis_with_a_password_is_healthy_with_the_right_one_only(
    on_the_host: ComposeProject, tmp_path: Path
) -> None:
    with redis_server(tmp_path, "--requirepass", "s3cret-value") as port:
        named = redis_probe(port, password_secret="PW")
        assert (await ask(on_the_host, named, PW="s3cret-value")).ok
        results = [
            await ask(on_the_host, named, PW="wrong"),
            await ask(on_the_host, redis_probe(port)),
            await ask(on_the_host, named),
        ]
    assert not any(result.ok for result in results)
    assert "the password was refused" in results[0].detail
    assert "none was given" in results[1].detail
    assert "secret PW is not set" in results[2].detail
    assert not any("s3cret" in result.detail for result in results)


@needs_redis
async def test_a_redis_in_protected_mode_is_explained_in_few_words(tmp_path: Path) -> None:
    # As another container sees it, by an address that is not the loopback's; networks of other tests may end meanwhile.
    kept = [
        addresses for name, addresses in psutil.net_if_addrs().items() if not name.startswith(("lo", "br-", "veth"))
    ]
    own = next(one.address for addresses in kept for one in addresses if one.family == AF_INET)
    with redis_server(tmp_path, "--bind", "0.0.0.0") as port, pytest.raises(ProbeFailed) as failed:
        await ask_redis(redis_probe(port), Address(host=own, port=port), {})
    assert "it refuses other containers until it has a password" in str(failed.value)
    assert "DENIED Redis is running in protected mode" in str(failed.value)
    assert len(str(failed.value)) < 300


@needs_redis
async def test_a_redis_that_takes_no_writes_is_not_well(on_the_host: ComposeProject, tmp_path: Path) -> None:
    with redis_server(tmp_path) as port, Redis(port=port) as client:
        client.config_set("maxmemory", "1")
        client.config_set("maxmemory-policy", "noeviction")
        full = await ask(on_the_host, redis_probe(port))
        client.config_set("maxmemory", "0")
        client.replicaof("127.0.0.1", str(free_port()))
        replica = await ask(on_the_host, redis_probe(port))
    assert (full.ok, replica.ok) == (False, False)
    assert "memory limit is reached" in full.detail
    assert "takes no writes" in replica.detail


@needs_redis
async def test_a_redis_that_cannot_save_serves_and_says_so(on_the_host: ComposeProject, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with redis_server(folder) as port, Redis(port=port) as client:
        (saved,) = (await ask(on_the_host, redis_probe(port))).readings
        folder.rmdir()
        client.bgsave()
        while client.info("persistence")["rdb_bgsave_in_progress"]:  # noqa: ASYNC110 - no event reports its end
            await asyncio.sleep(0.05)
        result = await ask(on_the_host, redis_probe(port))
    assert (saved.metric, saved.value, saved.concern) == ("persistence_failures", 0, Level.NONE)
    assert result.ok
    assert "rdb_last_bgsave_status:err" in result.detail
    (reading,) = result.readings
    assert (reading.value, reading.concern) == (1, Level.WARNING)


@asynccontextmanager
async def showing_a_certificate(folder: Path, days: float) -> AsyncIterator[int]:
    """A TLS server with a self-signed certificate that expires in so many days."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(folder, days))

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("days", "concern", "said"),
    [
        (60, Level.NONE, "certificate expires in 60.0 days"),
        (20, Level.WARNING, "certificate expires in 20.0 days"),
        (5, Level.CRITICAL, "certificate expires in 5.0 days"),
        (-2, Level.CRITICAL, "certificate has expired 2.0 days ago"),
    ],
)
async def test_an_untrusted_certificate_is_read(
    on_the_host: ComposeProject, tmp_path: Path, days: float, concern: Level, said: str
) -> None:
    async with showing_a_certificate(tmp_path, days) as port:
        result = await ask(on_the_host, CertificateProbe(kind="certificate", port=port))
    assert result.ok
    assert said in result.detail
    (reading,) = result.readings
    assert reading.metric == "certificate_days"
    assert reading.value == pytest.approx(days, abs=0.1)
    assert reading.concern is concern
    assert said in reading.words


async def test_a_port_without_tls_fails_the_certificate_probe(on_the_host: ComposeProject) -> None:
    with answering({}) as port:
        result = await ask(on_the_host, CertificateProbe(kind="certificate", port=port))
    assert not result.ok
    assert "no TLS connection" in result.detail


def targets(*health: str) -> tuple[int, str]:
    found = [{"labels": {"job": f"job{i}"}, "health": one, "lastError": ""} for i, one in enumerate(health)]
    return 200, json.dumps({"data": {"activeTargets": found}})


@pytest.mark.parametrize(
    ("ready", "list_of_targets", "wanted", "ok", "detail"),
    [
        ((200, ""), targets("up", "down"), 1, True, "ready, 1 targets up"),
        ((200, ""), targets("up", "down"), 2, False, "1 of at least 2 targets are up; not up: job1 (down)"),
        ((200, ""), (200, "no json"), 1, False, "its targets cannot be read"),
        ((503, "Service Unavailable"), targets("up"), 0, False, "/-/ready answered 503"),
        ((200, ""), targets(), 0, True, "ready"),
    ],
)
async def test_prometheus_is_healthy_when_ready_and_its_targets_are_up(
    on_the_host: ComposeProject,
    ready: tuple[int, str],
    list_of_targets: tuple[int, str],
    wanted: int,
    *,
    ok: bool,
    detail: str,
) -> None:
    with answering({"/-/ready": ready, "/api/v1/targets?state=active": list_of_targets}) as port:
        result = await ask(on_the_host, PrometheusProbe(kind="prometheus", port=port, targets_up=wanted))
    assert result.ok is ok
    assert detail in result.detail


async def test_a_command_probe_is_healthy_with_exit_code_0(on_the_host: ComposeProject) -> None:
    assert (await ask(on_the_host, CommandProbe(kind="command", command=("true",)))).ok
    failed = await ask(on_the_host, CommandProbe(kind="command", command=("sh", "-c", "echo no disk; exit 4")))
    assert (failed.ok, failed.detail) == (False, "sh ended with exit code 4: no disk")
    slow = await ask(on_the_host, CommandProbe(kind="command", command=("sleep", "60"), timeout_seconds=0.3))
    assert (slow.ok, slow.detail) == (False, "no answer within 0.3 s")


PUBLISHED = """\
services:
  it: {image: IMAGE, command: FOREVER, ports: ["127.0.0.1::8080"]}
  inside: {image: IMAGE, command: FOREVER, network_mode: "service:it"}
  alone: {image: IMAGE, command: FOREVER, network_mode: none}
"""


async def test_a_service_is_asked_at_its_own_address(make_project: Make) -> None:
    project = make_project(PUBLISHED)
    project.started()
    address = next(iter(project.one("it").addresses.values()))
    refused = await ask(project, TcpProbe(kind="tcp", port=8080))
    assert f"connection to {address}:8080 refused" in refused.detail
    inside = await ask(project, TcpProbe(kind="tcp", port=8080), "inside")
    assert f"connection to {address}:8080 refused" in inside.detail
    alone = await ask(project, TcpProbe(kind="tcp", port=8080), "alone")
    assert "in no network" in alone.detail


async def test_a_service_without_a_running_container_fails_with_its_state(make_project: Make) -> None:
    project = make_project(PUBLISHED)
    assert (await ask(project, TcpProbe(kind="tcp", port=1))).detail == "it has no container"
    project.compose().create()
    assert "is created" in (await ask(project, TcpProbe(kind="tcp", port=1))).detail


async def test_the_worst_replica_is_the_answer(make_project: Make) -> None:
    project = make_project("services: {it: {image: IMAGE, command: FOREVER, deploy: {replicas: 2}}}")
    first, _ = project.started()
    mark = CommandProbe(kind="command", command=("test", "-e", "/tmp/well"))
    project.engine.containers.exec(first.container_id, ["touch", "/tmp/well"], project.environment.stabilisation("it"))
    result = await ask(project, mark)
    assert not result.ok
    assert result.target != first.name


async def test_an_engine_that_is_away_is_no_answer_of_the_service(make_project: Make) -> None:
    project = make_project(ON_THE_HOST)
    away = type(project.engine)(f"unix:///nowhere/{secrets.token_hex(4)}.sock")
    with pytest.raises(EngineUnreachableError):
        await run_probe(TcpProbe(kind="tcp", port=1), "it", project=project.name, engine=away, secrets={})
