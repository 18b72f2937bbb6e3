"""`POST /roas/journal`: what hosts with stores of their own ship, put into the stores of the control plane."""

from __future__ import annotations

import asyncio
import logging
import zlib
from typing import TYPE_CHECKING

from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from models.failures import StoreError
from models.settings import current_settings
from models.shipping import MOST_BYTES, Batch, Receipt

if TYPE_CHECKING:
    from adapters.stores.ingest import Ingest

log = logging.getLogger("roas")

_AT_ONCE = 4
_WAIT_AT_MOST = 32
_AGAIN_SECONDS = 3
"""When a host asks again where too many others wait, or the stores are away."""


class Journals:
    """Takes the batches of hosts, a few at once; who comes when too many wait is told when to come again."""

    def __init__(self) -> None:
        self._ingest: Ingest | None = None
        self._preparing = asyncio.Lock()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._hosts: set[str] = set()

    async def take(self, host_id: str, body: bytes) -> Response:
        """Apply a batch, and answer with a receipt."""
        if current_settings().stores_url is None:
            return _refusal(501, "This control plane keeps its records in files; hosts ship to PostgreSQL alone.")
        if host_id in self._hosts:
            # One host must not take the turns of all by batches that wait for one another.
            return _refusal(429, "The batch of this host before is not applied yet.", again=True)
        if len(self._hosts) >= _WAIT_AT_MOST:
            return _refusal(429, "The control plane is behind.", again=True)
        self._hosts.add(host_id)
        try:
            async with self._turns:
                receipt = await asyncio.to_thread(self._apply, host_id, await self._ready(), body)
        except StoreError as error:
            log.error("what %s ships was not applied: %s %s", host_id, error, error.advice or "")
            return _refusal(503, "The control plane cannot write its stores; its log says why.", again=True)
        except _TooLargeError:
            return _refusal(413, f"A batch has at most {MOST_BYTES:,} bytes before it is compressed.")
        except (ValidationError, ValueError) as error:
            log.warning("refused a batch of %s: %s", host_id, str(error).partition("\n")[0])
            return _refusal(400, "This is no batch of a host.")
        finally:
            self._hosts.discard(host_id)
        for refusal in receipt.refused:
            log.warning("left out of what %s ships: %s: %s", host_id, refusal.what, refusal.why)
        return JSONResponse(receipt.model_dump())

    async def _ready(self) -> Ingest:
        async with self._preparing:
            if self._ingest is None:
                self._ingest = await asyncio.to_thread(_prepare)
            return self._ingest

    @staticmethod
    def _apply(host_id: str, ingest: Ingest, body: bytes) -> Receipt:
        return ingest.apply(host_id, Batch.model_validate_json(_unpack(body)))


def _prepare() -> Ingest:
    # The driver is needed here alone.
    from adapters.stores.ingest import Ingest
    from tasks.runtime.stores import open_stores

    ingest = Ingest(open_stores())
    ingest.prepare()
    return ingest


class _TooLargeError(Exception):
    """A batch holds more than it may."""


def _unpack(body: bytes) -> bytes:
    """The batch in a gzip body.

    Raises:
        ValueError: It is none, or is cut off.
        _TooLargeError: It is larger than a batch may be: a few bytes can hold gigabytes.
    """
    reader = zlib.decompressobj(wbits=31)
    try:
        text = reader.decompress(body, MOST_BYTES)
    except zlib.error as error:
        raise ValueError(f"its body is no gzip: {error}") from None
    if len(text) == MOST_BYTES:
        raise _TooLargeError
    if not reader.eof:
        raise ValueError("its body is cut off")
    return text


def _refusal(status: int, reason: str, *, again: bool = False) -> Response:
    headers = {"retry-after": str(_AGAIN_SECONDS)} if again else None
    return JSONResponse({"detail": reason}, status_code=status, headers=headers)
