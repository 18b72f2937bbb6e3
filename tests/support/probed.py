"""Servers that probes ask in tests, and the question itself."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from adapters.probes.run import run_probe
from models.environments import Probe
from models.health import ProbeResult

_TEST_TIMEOUT_SECONDS = 300


async def ask(project: Any, probe: Probe, service: str = "it", **known: str) -> ProbeResult:
    """Probe a service of a project; `known` are the secrets. Where time is not the subject, an answer may take long."""
    if "timeout_seconds" not in probe.model_fields_set:
        probe = probe.model_copy(update={"timeout_seconds": _TEST_TIMEOUT_SECONDS})
    return await run_probe(probe, service, project=project.name, engine=project.engine, secrets=known)


@contextmanager
def answering(answers: dict[str, tuple[int, str]]) -> Iterator[int]:
    """An HTTP server with these answers by path; anything else is 404."""

    class ProbeHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, "no such page"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), ProbeHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def silent() -> Iterator[int]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@asynccontextmanager
async def chattering(words: bytes) -> AsyncIterator[int]:
    """A server that says the same words again and again, and never anything else."""

    async def chatter(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            while True:
                writer.write(words)
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()

    server = await asyncio.start_server(chatter, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def falling_silent(port: int, at: bytes, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A server behind a relay that forwards nothing any more once a client has said certain words."""
    quiet = asyncio.Event()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stop: bytes | None) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if stop is not None and stop in data:
                    quiet.set()
                if quiet.is_set():
                    await asyncio.Event().wait()
                writer.write(data)
                await writer.drain()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, port)
        tasks = (asyncio.create_task(forward(reader, back, at)), asyncio.create_task(forward(there, writer, None)))
        try:
            with suppress(asyncio.CancelledError):
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            back.close()
            writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def until_listening(port: int, host: str = "127.0.0.1", tries: int = 200) -> None:
    """Wait until a server takes connections."""
    for _ in range(tries):
        with socket.socket() as trial:
            trial.settimeout(0.05)
            if trial.connect_ex((host, port)) == 0:
                return
        threading.Event().wait(0.05)
    raise AssertionError(f"nothing listens at {host}:{port}")
