"""Requests to servers of others, whose answers are limited in bytes and in time."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import httpx

_is_asking: ContextVar[bool] = ContextVar("is_asking", default=False)
# The client logs each address that it asks, at the level INFO, and an address may let in who has it.
logging.getLogger("httpx").addFilter(lambda record: record.levelno > logging.INFO or not _is_asking.get())

_MOST_BYTES = 64 * 1024
_SECONDS = 15.0
_LAST_PORT = 65535


async def ask(
    client: httpx.AsyncClient,
    method: str,
    address: httpx.URL | str,
    *,
    most_bytes: int = _MOST_BYTES,
    seconds: float | None = None,
    whole: bool = False,
    **request: Any,
) -> httpx.Response:
    """Send a request, and read its answer for so many seconds (15) from now, and so many bytes.

    What is beyond is not read: status and headers count, unless the `whole` body is wanted. No compressed body is asked
    for, or unpacked: a few bytes can hold gigabytes.

    Raises:
        httpx.HTTPError: There is no answer, or no whole one of this size.
        TimeoutError: There is none in time.
    """
    if (httpx.URL(address).port or 0) > _LAST_PORT:
        # Asyncio raises a group of errors for it.
        raise httpx.ConnectError(f"a port is at most {_LAST_PORT}")
    answer, body = None, bytearray()
    headers = httpx.Headers(request.pop("headers", None))
    headers["accept-encoding"] = "identity"
    quiet = _is_asking.set(True)
    try:
        async with (
            asyncio.timeout(_SECONDS if seconds is None else seconds),
            client.stream(method, address, headers=headers, **request) as answer,
        ):
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > most_bytes:
                    raise httpx.DecodingError(f"its answer has more than {most_bytes:,} bytes", request=answer.request)
    except (TimeoutError, httpx.HTTPError):
        if answer is None or whole:
            raise
    finally:
        _is_asking.reset(quiet)
    shown = httpx.Headers([(name, value) for name, value in answer.headers.items() if name != "content-encoding"])
    if "content-encoding" in answer.headers:
        body.clear()
    return httpx.Response(answer.status_code, headers=shown, content=bytes(body[:most_bytes]), request=answer.request)


def ask_and_wait(method: str, address: str, *, client: Mapping[str, Any], **request: Any) -> httpx.Response:
    """As `ask`, for a caller that waits in its thread; `client` are the options of the client.

    Raises:
        httpx.HTTPError: As `ask`.
        TimeoutError: As `ask`.
    """

    async def send_request() -> httpx.Response:
        async with httpx.AsyncClient(**client) as made:
            return await ask(made, method, address, **request)

    # The thread of the caller may have an event loop of its own.
    with ThreadPoolExecutor(1) as aside:
        return aside.submit(asyncio.run, send_request()).result()


def reason_of(error: BaseException) -> str:
    """What the system said where a connection was not made, else the error's own words, in one line; perhaps empty."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        if isinstance(cause, OSError) and cause.errno is not None:
            message = cause.strerror if isinstance(cause, socket.gaierror) else os.strerror(cause.errno)
            return message or str(cause)
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split())
