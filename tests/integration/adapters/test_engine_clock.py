"""How far an engine's clock is ahead, by the whole seconds that it names."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from adapters.docker.engine import DockerEngine


class Engine(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ahead = timedelta()

    def do_GET(self) -> None:
        body = b'{"ApiVersion": "1.47", "MinAPIVersion": "1.24"}'
        self.send_response_only(200)
        self.send_header("Date", format_datetime(datetime.now(UTC) + self.ahead, usegmt=True))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Engine) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("milliseconds", [0, 50, 400, 1500, -700, 600_000])
def test_a_clock_that_only_goes_on_is_not_taken_for_one_that_jumps(
    address: str, milliseconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "ahead", timedelta(milliseconds=milliseconds))
    engine = DockerEngine(address)
    found, until = {engine.ahead}, time.monotonic() + 1.5
    while time.monotonic() < until:
        engine._read_clock()
        found.add(engine.ahead)

    assert len(found) == 1, "a moment of a container would be another one at each look"
    assert abs(found.pop() - timedelta(milliseconds=milliseconds)) < timedelta(seconds=2)
    monkeypatch.setattr(Engine, "ahead", timedelta(hours=1))
    engine._read_clock()
    assert abs(engine.ahead - timedelta(hours=1)) < timedelta(seconds=2)
    engine.close()
