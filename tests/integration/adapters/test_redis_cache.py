"""What other programs read in Redis, and what comes of it while Redis is lost; against a real redis-server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from adapters.redis_cache import STREAM_LENGTH, RedisCache
from models.failures import BadInputError
from tests.support.ports import free_port

pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")

PASSWORD = "correct horse battery"
SNAPSHOT: dict[str, object] = {"overall_status": "healthy", "metrics": {"bot": {"cpu_usage": 1.5}}, "alerts": []}
AT_ONCE = timedelta(0)


class RedisProcess:
    """A redis-server on its own port that can be stopped, started again and held."""

    def __init__(self, folder: Path, *options: str, port_option: str = "port") -> None:
        self.port = free_port()
        self.folder = folder
        others = ("--port", "0") if port_option != "port" else ()
        self.command = [
            *("redis-server", f"--{port_option}", str(self.port), *others, "--bind", "127.0.0.1"),
            *("--dir", str(folder), "--save", "", "--requirepass", PASSWORD, *options),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, "redis-server ended"
        raise AssertionError("redis-server did not listen")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def client(self) -> Redis:
        return Redis(port=self.port, password=PASSWORD)

    def read(self, key: str) -> Any:
        """What another program reads under a key of ours; None where there is nothing."""
        with self.client() as client:
            text = client.get(f"roas:{key}")
        return None if text is None else json.loads(text)

    def entries(self, stream: str) -> list[Any]:
        """What another program reads in a stream of ours, oldest first."""
        with self.client() as client:
            return [json.loads(fields[b"entry"]) for _, fields in client.xrange(f"roas:{stream}")]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisProcess]:
    running = RedisProcess(tmp_path)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    return file


@pytest.fixture
def cache(server: RedisProcess, password_file: Path) -> RedisCache:
    return RedisCache(server.url, password_file, hold_off=AT_ONCE)


def test_another_program_reads_the_newest_snapshot_until_its_time_is_over(
    cache: RedisCache, server: RedisProcess
) -> None:
    cache.put("snapshot:prod", SNAPSHOT, 60)
    assert server.read("snapshot:prod") == SNAPSHOT
    cache.put("snapshot:prod", {"overall_status": "degraded"}, 1)
    assert server.read("snapshot:prod") == {"overall_status": "degraded"}
    _until(lambda: server.read("snapshot:prod") is None)
    assert cache.trouble is None


def test_values_are_json(cache: RedisCache, server: RedisProcess) -> None:
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    cache.put("k", {"at": noon, "pair": (1, 2), "gap": float("nan")}, 60)
    assert server.read("k") == {"at": "2026-07-01T12:00:00Z", "pair": [1, 2], "gap": None}


def test_a_stream_has_entries_in_their_order_and_forgets_its_oldest(cache: RedisCache, server: RedisProcess) -> None:
    for number in range(STREAM_LENGTH + 250):
        cache.publish("alerts", {"alert_id": number})
    found = [one["alert_id"] for one in server.entries("alerts")]
    assert STREAM_LENGTH <= len(found) <= STREAM_LENGTH + 100
    assert found == list(range(STREAM_LENGTH + 250))[-len(found) :]


def test_redis_expires_snapshots_and_streams_without_renewal(cache: RedisCache, server: RedisProcess) -> None:
    cache.put("k", SNAPSHOT, 60)
    cache.publish("alerts", {"alert_id": "a1"})
    with server.client() as client:
        assert 0 < client.ttl("roas:k") <= 60
        assert 0 < client.ttl("roas:alerts") <= 7 * 24 * 3600


def test_a_lost_redis_is_reported_and_gets_what_was_published_meanwhile(
    cache: RedisCache, server: RedisProcess
) -> None:
    cache.publish("alerts", {"alert_id": "before"})
    server.stop()
    cache.publish("alerts", {"alert_id": "one"})
    cache.publish("alerts", {"alert_id": "two"})
    assert cache.trouble is not None
    assert f"redis://127.0.0.1:{server.port}/0" in cache.trouble
    assert "is it running" in cache.trouble
    assert PASSWORD not in cache.trouble
    server.start()
    cache.put("k", SNAPSHOT, 60)
    assert cache.trouble is None
    # This Redis keeps nothing on disk, so it came back empty.
    assert server.entries("alerts") == [{"alert_id": "one"}, {"alert_id": "two"}]
    assert server.read("k") == SNAPSHOT


def test_a_redis_restarted_between_two_calls_is_no_trouble(cache: RedisCache, server: RedisProcess) -> None:
    cache.put("k", SNAPSHOT, 60)
    server.stop()
    server.start()
    cache.check()
    assert cache.trouble is None


def test_a_lost_redis_is_left_alone_for_a_while(server: RedisProcess, password_file: Path) -> None:
    cache = RedisCache(server.url, password_file, hold_off=timedelta(hours=1))
    server.stop()
    cache.put("k", SNAPSHOT, 60)
    first = cache.trouble
    server.start()
    cache.put("k", SNAPSHOT, 60)
    assert cache.trouble == first
    assert server.read("k") is None


def test_a_redis_that_takes_connections_and_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        cache = RedisCache(f"redis://127.0.0.1:{silent.getsockname()[1]}/0?socket_timeout=3600")
        cache.put("k", SNAPSHOT, 60)
        assert cache.trouble is not None
        assert "Timeout" in cache.trouble


def test_a_wrong_password_is_reported_and_a_right_one_is_used_without_a_restart(
    server: RedisProcess, password_file: Path
) -> None:
    password_file.write_text("wrong")
    cache = RedisCache(server.url, password_file, hold_off=AT_ONCE)
    cache.put("k", SNAPSHOT, 60)
    assert cache.trouble is not None
    assert "ROAS_REDIS_PASSWORD_FILE" in cache.trouble
    assert "WRONGPASS" in cache.trouble or "invalid" in cache.trouble
    password_file.unlink()
    cache.put("k", SNAPSHOT, 60)
    assert f"No such file or directory: '{password_file}'" in (cache.trouble or "")
    os.mkfifo(password_file)
    cache.put("k", SNAPSHOT, 60)
    assert "no regular file" in (cache.trouble or "")
    password_file.unlink()
    password_file.write_text(PASSWORD)
    cache.put("k", SNAPSHOT, 60)
    assert cache.trouble is None


def test_a_full_redis_is_reported(cache: RedisCache, server: RedisProcess) -> None:
    with server.client() as client:
        client.config_set("maxmemory", "1")
        client.config_set("maxmemory-policy", "noeviction")
        cache.put("k", SNAPSHOT, 60)
        assert "has it room" in (cache.trouble or "")
        client.config_set("maxmemory", "0")
    cache.put("k", SNAPSHOT, 60)
    assert cache.trouble is None


def test_something_of_another_program_under_a_name_of_ours_is_reported(cache: RedisCache, server: RedisProcess) -> None:
    with server.client() as client:
        client.set("roas:alerts", "no stream")
    cache.publish("alerts", {"alert_id": "a1"})
    assert "WRONGTYPE" in (cache.trouble or "")
    cache.put("j", SNAPSHOT, 60)
    assert server.read("j") == SNAPSHOT


def test_tls_is_spoken_where_the_url_says_so(tmp_path: Path, password_file: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    options = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-auth-clients", "no")
    server = RedisProcess(tmp_path, *options, port_option="tls-port")
    server.start()
    try:
        trusted = RedisCache(f"rediss://127.0.0.1:{server.port}/0?ssl_ca_certs={certificate}", password_file)
        trusted.put("k", SNAPSHOT, 60)
        assert trusted.trouble is None
        stranger = RedisCache(f"rediss://127.0.0.1:{server.port}/0", password_file)
        stranger.put("k", SNAPSHOT, 60)
        assert f"rediss://127.0.0.1:{server.port}/0" in (stranger.trouble or "")
        assert "certificate" in (stranger.trouble or "")
    finally:
        server.stop()


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1", "redis://:hunter2#x@127.0.0.1:6379/0", "redis://127.0.0.1/0?colour=red", "redis://h:port/0"],
)
def test_a_url_that_redis_does_not_have_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(BadInputError) as caught:
        RedisCache(url)
    assert "hunter2" not in str(caught.value)
    assert "redis://HOST:6379/0" in caught.value.advice


def test_the_password_of_a_url_is_never_shown(server: RedisProcess) -> None:
    cache = RedisCache(f"redis://someone:hunter2@127.0.0.1:{server.port}/0")
    cache.put("k", SNAPSHOT, 60)
    assert cache.trouble is not None
    assert "hunter2" not in cache.trouble
    assert "someone" not in cache.address


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
