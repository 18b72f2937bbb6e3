"""Pings reach a real server, and their address appears nowhere else."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from adapters.notifications.ping import read_ping_address, send_ping
from core.runtime.pings import Ping, PingSignal
from flows.agent.pings import keep_pinging, troubles
from models.failures import BadInputError
from tests.support.ports import free_port

SECRET = "5c0a1f3e-secret"


class ReceivedPing:
    """A server of pings: what it was sent, and the status that it answers with."""

    def __init__(self) -> None:
        self.pings: list[tuple[str, str]] = []
        self.status = 200
        self.url = ""


@pytest.fixture
def service() -> Iterator[ReceivedPing]:
    received = ReceivedPing()

    class PingHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            received.pings.append((self.path, body))
            self.send_response(received.status)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), PingHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    received.url = f"http://127.0.0.1:{server.server_port}/ping/{SECRET}"
    yield received
    server.shutdown()
    thread.join()
    server.server_close()


def address_file(folder: Path, text: str) -> Path:
    file = folder / "ping_url"
    file.write_text(text)
    return file


async def test_signals_are_sent_as_healthchecks_has_them(service: ReceivedPing, tmp_path: Path) -> None:
    address = read_ping_address(address_file(tmp_path, f"{service.url}/?create=1\n"))
    for ping in (Ping(PingSignal.START), Ping(PingSignal.WELL), Ping(PingSignal.FAIL, "stores are away")):
        assert await send_ping(address, ping) is None
    path = f"/ping/{SECRET}"
    assert service.pings == [
        (f"{path}/start?create=1", ""),
        (f"{path}?create=1", ""),
        (f"{path}/fail?create=1", "stores are away"),
    ]


@pytest.mark.parametrize("status", [404, 500, 302])
async def test_a_ping_that_is_refused_says_so_without_the_address(
    service: ReceivedPing, tmp_path: Path, status: int
) -> None:
    service.status = status
    failed = await send_ping(read_ping_address(address_file(tmp_path, service.url)), Ping(PingSignal.WELL))
    assert failed is not None
    assert failed.text == f"its server answered with {status}"
    assert SECRET not in failed.text
    assert len(service.pings) == 1, "a redirect is not followed"


async def test_a_metadata_address_is_not_pinged(tmp_path: Path) -> None:
    failed = await send_ping(
        read_ping_address(address_file(tmp_path, "http://169.254.169.254/x")), Ping(PingSignal.WELL)
    )
    assert failed is not None
    assert "link-local" in failed.text


@pytest.mark.parametrize("text", ["", f"ftp://example.com/{SECRET}", f"{SECRET} and more", "http://"])
def test_a_file_without_an_address_is_refused_without_its_content(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInputError, match="does not hold one address") as refused:
        read_ping_address(address_file(tmp_path, text))
    assert SECRET not in str(refused.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"nowhere, cannot be read"):
        read_ping_address(tmp_path / "nowhere")


async def test_a_process_pings_while_all_is_well_and_says_once_that_it_fails(
    service: ReceivedPing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ROAS_PING_URL_FILE", str(address_file(tmp_path, service.url)))
    monkeypatch.setenv("ROAS_AWAY_MINUTES", "0.000001")
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    answers = iter([[], ["host alpha does not reach the stores"], ["the same"], ["the same"], ["the same"], []])
    asked = asyncio.Event()

    async def ask() -> list[str]:
        try:
            return next(answers)
        except StopIteration:
            asked.set()
            return []

    with caplog.at_level(logging.INFO), caplog.at_level(logging.INFO, logger="httpx"):
        pinging = asyncio.create_task(keep_pinging(timedelta(milliseconds=5), ask))
        await asyncio.wait_for(asked.wait(), 30)
        pinging.cancel()
    kinds = [path.removeprefix(f"/ping/{SECRET}") or "well" for path, _ in service.pings]
    assert kinds[:2] == ["/start", "well"]
    assert kinds.count("/fail") == 1
    assert kinds[kinds.index("/fail") + 1] == "well"
    assert SECRET not in caplog.text


async def test_what_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ROAS_HOST_NAME", "alpha")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert await troubles() == []
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    assert await troubles() == ["host alpha does not reach the Prefect server"]
    monkeypatch.setenv("ROAS_STORES_URL", f"postgresql://roas@127.0.0.1:{free_port()}/roas")
    assert await troubles() == [
        "host alpha does not reach the stores",
        "host alpha does not reach the Prefect server",
    ]
