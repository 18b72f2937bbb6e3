"""Ping an outside service that notices when pings stop: healthchecks.io, or another one with its protocol."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from adapters.config.webhook_addresses import is_refused
from adapters.host.private_files import read_regular
from adapters.http_client import ask
from adapters.notifications.webhook import SendFailure, failure_of, refusal_in
from core.runtime.pings import Ping
from models.failures import BadInputError

_SECONDS = 10.0
_LONGEST_BODY = 10_000
"""healthchecks.io keeps no more."""


def read_ping_address(file: Path) -> httpx.URL:
    """The address in a file. It is a secret: who has it can keep the service quiet, so no message shows it.

    Raises:
        BadInputError: The file cannot be read, or does not hold an address that may be pinged.
    """
    try:
        address = httpx.URL(read_regular(file).decode().strip())
    except OSError as error:
        raise BadInputError(
            f"The file of the ping address, {file}, cannot be read: {error.strerror};", advice="see ROAS_PING_URL_FILE."
        ) from error
    except (ValueError, httpx.InvalidURL) as error:
        raise _unusable(file) from error
    if address.scheme not in ("https", "http") or not address.host:
        raise _unusable(file)
    return address


async def send_ping(address: httpx.URL, ping: Ping) -> SendFailure | None:
    """Send one ping; why it was not taken, None where it was. The failure names no address. Redirects are refused."""
    path = address.path.rstrip("/") + (f"/{ping.signal}" if ping.signal else "")
    if await asyncio.to_thread(is_refused, address.host):
        return SendFailure(text="it has a link-local address, where a cloud hands out credentials; not sent")
    try:
        async with httpx.AsyncClient(timeout=_SECONDS, follow_redirects=False) as client:
            place = address.copy_with(path=path or "/")
            return refusal_in(await ask(client, "POST", place, content=ping.text[:_LONGEST_BODY].encode()))
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        return failure_of(error)


def _unusable(file: Path) -> BadInputError:
    # What is in the file is not repeated.
    return BadInputError(
        f"{file} does not hold one address that begins with https:// or http://;",
        advice="write the address alone into it, such as healthchecks.io shows it.",
    )
