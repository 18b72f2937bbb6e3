"""Post JSON to a webhook, and say in words of our own why it was not taken: those of others quote its address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from adapters.http_client import ask

_POST_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SendFailure:
    """Why a message was not delivered.

    `again` is True where it was surely not delivered and may be in a moment; `after_seconds` is how long the service
    asks to wait before that, 0 where it does not say.
    """

    text: str
    again: bool = False
    after_seconds: float = 0.0


async def post_json(address: str, content: Mapping[str, Any]) -> SendFailure | None:
    """Post JSON, and return why it was not delivered, None where it was. A redirect is not followed."""
    try:
        async with httpx.AsyncClient(timeout=_POST_SECONDS, follow_redirects=False) as client:
            return refusal_in(await ask(client, "POST", address, json=content))
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        return failure_of(error)


def refusal_in(response: httpx.Response) -> SendFailure | None:
    """Return why a server did not take what was sent, None where it did."""
    return None if response.is_success else _failure_of_refusal(response)


def failure_of(error: Exception) -> SendFailure:
    """What an error of sending means."""
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return SendFailure(text="its server did not answer in time", again=isinstance(error, httpx.ConnectTimeout))
    if isinstance(error, httpx.TransportError):
        return SendFailure(text="its server could not be reached", again=isinstance(error, httpx.ConnectError))
    if type(error).__name__ == "NotificationError":
        return SendFailure(text="its server refused it", again=True)
    return SendFailure(text=type(error).__name__)


def _failure_of_refusal(response: httpx.Response) -> SendFailure:
    status = response.status_code
    busy = status == httpx.codes.TOO_MANY_REQUESTS
    return SendFailure(
        text=f"its server answered with {status}",
        again=busy or status >= httpx.codes.INTERNAL_SERVER_ERROR,
        after_seconds=_asked_delay(response) if busy or status == httpx.codes.SERVICE_UNAVAILABLE else 0.0,
    )


def _asked_delay(response: httpx.Response) -> float:
    """Return the seconds that a service asks to wait: the header counts them or names a date; Discord says it twice."""
    header = response.headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        pass
    try:
        body = response.json()
        return max(0.0, float(body["retry_after"]))
    except (ValueError, TypeError, KeyError):
        return 0.0
