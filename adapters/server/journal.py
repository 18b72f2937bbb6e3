"""A host's side of shipping: one batch after the other to the control plane, over one connection."""

from __future__ import annotations

import gzip
import ssl
from http import HTTPStatus

import httpx
from pydantic import ValidationError

from adapters.http_client import reason_of
from models.enrolment import Membership
from models.failures import RoasError
from models.shipping import Batch, Receipt

_SECONDS = 30.0
_LEVEL = 3


class NotTakenError(RoasError):
    """The control plane does not take a batch now: it is away, behind, or cannot write its stores."""

    def __init__(self, what: str, again_seconds: float | None = None, *, is_too_large: bool = False) -> None:
        """`again_seconds`: when it said to come again."""
        super().__init__(what)
        self.again_seconds = again_seconds
        self.is_too_large = is_too_large


class Journal:
    """The connection of a host to the journal of its control plane."""

    def __init__(self, member: Membership) -> None:
        """Connect to nothing yet."""
        self._address = f"{member.server}/roas/journal"
        trusted = member.certificates
        self._client = httpx.Client(
            auth=(member.pool, member.key),
            timeout=_SECONDS,
            follow_redirects=False,
            verify=ssl.create_default_context(cafile=trusted) if trusted else True,
        )

    def send(self, batch: Batch) -> Receipt:
        """Send a batch; what the control plane made of it.

        Raises:
            NotTakenError: It was not applied, as far as is known, and is to be sent again with a higher number.
        """
        body = gzip.compress(batch.model_dump_json().encode(), _LEVEL)
        headers = {"content-type": "application/json", "content-encoding": "gzip", "accept-encoding": "identity"}
        try:
            answer = self._client.post(self._address, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise NotTakenError(
                f"the control plane does not answer: {reason_of(error) or type(error).__name__}"
            ) from error
        if answer.status_code != HTTPStatus.OK:
            is_too_large = answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            reason = f"the control plane refuses: {_reason(answer)}"
            raise NotTakenError(reason, _again(answer), is_too_large=is_too_large)
        try:
            return Receipt.model_validate_json(answer.content)
        except ValidationError as error:
            raise NotTakenError("what answers is no control plane of ROAS Ops") from error

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _reason(answer: httpx.Response) -> str:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = None
    short = isinstance(detail, str) and len(detail) < 300 and detail.isprintable()
    return str(detail) if short else f"status {answer.status_code}"


def _again(answer: httpx.Response) -> float | None:
    text = answer.headers.get("retry-after", "")
    return min(float(text), 3600.0) if text.isdecimal() else None
