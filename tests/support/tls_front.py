"""TLS in front of a server that speaks none, at an address of its own, as the control plane's Caddy does."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PIECE_BYTES = 65_536


@contextmanager
def tls_front(address: str, port: int, to_port: int, certificate: Path) -> Iterator[None]:
    """Listen at an address with a certificate and its key, and pass on to a port of the loopback."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    stop, listening = asyncio.Event(), threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        async with await asyncio.start_server(pass_on, address, port, ssl=context):
            loops.append(asyncio.get_running_loop())
            listening.set()
            await stop.wait()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # No program listens there while the server is away: the connection ends. At the end all are cancelled.
        with suppress(OSError, asyncio.CancelledError):
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", to_port)
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        writer.close()

    # Connections that are still open are cancelled at its end.
    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert listening.wait(20), f"nothing listens at {address}:{port}"
    try:
        yield
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(_PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    writer.close()
