"""Servers that answer without an end, slowly, or with a bomb: each kind of request to others ends soon and small."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from prefect.blocks.abstract import NotificationError
from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
from pydantic import SecretStr

from adapters.git.commit_status import CommitStatusClient
from adapters.http_client import ask
from adapters.notifications.apprise_requests import LimitedRequests
from adapters.notifications.ping import send_ping
from adapters.notifications.webhook import SendFailure, post_json
from adapters.server.membership import enrol
from adapters.server.workers import server_facts
from core.runtime.pings import Ping, PingSignal
from models.failures import RoasError
from models.settings import Settings
from models.sources import CommitStatus, GitSource
from tasks.recovery.send_messages import _notify, _request

Sender = Callable[[str], Awaitable[SendFailure | str | None]]
_MOST = 4 * 2**20
_IN_KERNEL = sum(int(Path(f"/proc/sys/net/ipv4/tcp_{way}mem").read_text().split()[2]) for way in ("r", "w"))
"""So much of a connection the kernel takes from the sender that the reader has not asked for, and may never."""
"""What the system's buffers take of an answer that is not read."""


async def _status(url: str) -> str | None:
    source = {
        "repository": "https://git.example/ann/shop.git",
        "status": "gitea",
        "status_token_secret": "STATUS_TOKEN",
        "api": url,
    }
    client = CommitStatusClient(GitSource.model_validate(source), "a-token")
    return await client.report(CommitStatus(revision="a1" * 20, state="success", description="runs"), "roas/shop")


async def _block(url: str) -> SendFailure | None:
    block = CustomWebhookNotificationBlock(name="x", url=url, json_data={"text": "{{body}}"}, allow_private_urls=True)
    return await _request(block, {"subject": "s", "body": "b"})


SENDERS: dict[str, Sender] = {
    "webhook": lambda url: post_json(url, {"text": "x"}),
    "ping": lambda url: send_ping(httpx.URL(url), Ping(signal=PingSignal.WELL, text="")),
    "commit status": _status,
    "custom webhook": _block,
}


class Sent:
    """How much a server has sent."""

    bytes = 0


@asynccontextmanager
async def _serving(head: bytes, part: bytes, pause: float = 0.0) -> AsyncIterator[tuple[str, Sent]]:
    """A server that sends a head and then one part again and again."""
    sent = Sent()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            while True:
                writer.write(part)
                await writer.drain()
                sent.bytes += len(part)
                await asyncio.sleep(pause)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", sent
    finally:
        server.close()


@pytest.mark.parametrize("kind", SENDERS)
async def test_an_endless_answer_is_not_read_on(kind: str) -> None:
    async with _serving(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536) as (url, sent), asyncio.timeout(30):
        assert await SENDERS[kind](url) is None
    assert sent.bytes < _MOST + _IN_KERNEL


@pytest.mark.parametrize("kind", SENDERS)
async def test_a_status_that_came_counts_though_the_rest_drips(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The head must come within it, also where both processors are busy: of 0.5 s that failed twice.
    monkeypatch.setattr("adapters.http_client._SECONDS", 3)
    async with _serving(b"HTTP/1.1 404 Not Found\r\n\r\n", b"x", 0.05) as (url, _), asyncio.timeout(30):
        failed = await SENDERS[kind](url)
    assert "answered with 404" in str(failed)


@pytest.mark.parametrize("kind", SENDERS)
async def test_a_head_that_drips_ends_in_time(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.http_client._SECONDS", 0.5)
    monkeypatch.setattr("adapters.git.commit_status._DELAYS", ())
    async with _serving(b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n", 0.05) as (url, _), asyncio.timeout(30):
        if kind == "custom webhook":
            with pytest.raises(TimeoutError):
                await SENDERS[kind](url)
        else:
            assert "did not answer in time" in str(await SENDERS[kind](url))


async def test_a_compressed_body_is_not_unpacked() -> None:
    bomb = gzip.compress(b"0" * 16 * 2**20)
    head = f"HTTP/1.1 429 Busy\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    async with _serving(head + bomb, b"") as (url, _), httpx.AsyncClient() as client:
        answer = await ask(client, "GET", url)
    assert (answer.status_code, answer.content) == (429, b"")


async def test_a_body_wanted_whole_is_refused_where_it_is_larger() -> None:
    async with _serving(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1024) as (url, _), httpx.AsyncClient() as client:
        with pytest.raises(httpx.HTTPError, match="its answer has more than 10,000 bytes"):
            await ask(client, "GET", url, whole=True, most_bytes=10_000)


async def _through_apprise(url: str) -> None:
    """Send by a plugin of Apprise; Slack's block takes any address in Apprise's own form."""
    block = SlackWebhook(url=SecretStr(url.replace("http://", "json://") + "/"))
    await _notify(block, {"subject": "s", "body": "b"})


async def test_apprise_reads_no_endless_answer_on() -> None:
    async with _serving(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536) as (url, sent), asyncio.timeout(30):
        await _through_apprise(url)
    assert sent.bytes < _MOST + _IN_KERNEL


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
async def test_for_apprise_a_status_that_came_counts_though_the_rest_drips(
    status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.notifications.apprise_requests._SECONDS", 0.5)
    async with _serving(f"HTTP/1.1 {status}\r\n\r\n".encode(), b"x", 0.05) as (url, _), asyncio.timeout(30):
        if status.startswith("200"):
            await _through_apprise(url)
        else:
            with pytest.raises(NotificationError) as refused:
                await _through_apprise(url)
            assert "error=404" in refused.value.log


async def test_for_apprise_a_head_that_drips_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.notifications.apprise_requests._SECONDS", 0.5)
    async with _serving(b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n", 0.05) as (url, _), asyncio.timeout(30):
        with pytest.raises(NotificationError) as failed:
            await _through_apprise(url)
    assert "A Connection error occurred" in failed.value.log


async def test_for_apprise_a_compressed_body_is_not_unpacked() -> None:
    bomb = gzip.compress(b"0" * 16 * 2**20)
    head = f"HTTP/1.1 429 Busy\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    async with _serving(head + bomb, b"") as (url, _):
        answer = await asyncio.to_thread(LimitedRequests().get, url)
    assert (answer.status_code, answer.content) == (429, b"")


def _enrol(url: str, folder: Path) -> str:
    with pytest.raises(RoasError) as refused:
        enrol(url, "token", "host", "1", Settings(data_dir=folder))
    return str(refused.value)


async def test_an_endless_answer_of_a_control_plane_is_not_read_on(tmp_path: Path) -> None:
    async with _serving(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536) as (url, sent), asyncio.timeout(30):
        assert "its answer has more than 65,536 bytes" in await asyncio.to_thread(_enrol, url, tmp_path)
        found = await asyncio.to_thread(server_facts, f"{url}/api", None)
    assert "its answer has more than 4,194,304 bytes" in found.problem
    assert sent.bytes < 2 * (_MOST + _IN_KERNEL)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n"], ids=["body", "head"])
async def test_an_answer_of_a_control_plane_that_drips_ends_in_time(
    head: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.server.membership._SECONDS", 0.5)
    monkeypatch.setattr("adapters.server.workers._SECONDS", 0.5)
    async with _serving(head, b"X-Y: z\r\n", 0.05) as (url, _), asyncio.timeout(30):
        assert "does not answer: not within 0.5 s" in await asyncio.to_thread(_enrol, url, tmp_path)
        assert "0.5 s" in (await asyncio.to_thread(server_facts, f"{url}/api", None)).problem
