"""Sign and read the links with which a person answers a ticket from a chat."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from models.notifications import Link, Message
from models.recovery import Ticket, TicketState

VALID_FOR = timedelta(hours=24)
PAUSED_FOR = timedelta(hours=1)
_LONGEST = 1000


class AnswerAction(StrEnum):
    """What a link may do."""

    RESOLVE = "resolve"
    APPROVE = "approve"
    ACKNOWLEDGE = "acknowledge"
    PAUSE = "pause"


LABELS = {
    AnswerAction.RESOLVE: "Resolve the ticket",
    AnswerAction.APPROVE: "Approve another attempt",
    AnswerAction.ACKNOWLEDGE: "Acknowledge the ticket",
    AnswerAction.PAUSE: "Pause recovery for an hour",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerToken:
    """What one link allows, once. `channel` is the block that it was sent to."""

    ticket_id: str
    action: AnswerAction
    expires_at: datetime
    nonce: str
    channel: str


class BadTokenError(Exception):
    """A link that is not accepted; the message says why, for the person who opened it."""


def sign(token: AnswerToken, key: bytes) -> str:
    """Return the text of a link's token: what it allows, readable, and its signature."""
    content = [
        token.ticket_id, str(token.action), round(token.expires_at.timestamp()), token.nonce, token.channel,
    ]  # fmt: skip
    text = _encode(json.dumps(content, separators=(",", ":")).encode())
    return f"{text}.{_encode(_signature(text, key))}"


def read_token(text: str, key: bytes, now: datetime) -> AnswerToken:
    """Return what a link allows.

    Raises:
        BadTokenError: It was not signed with this key, was changed, or has expired.
    """
    content, _, signature = text.partition(".")
    expected = _encode(_signature(content, key))
    if len(text) > _LONGEST or not hmac.compare_digest(signature.encode(), expected.encode()):
        raise BadTokenError("This link is not valid.")
    ticket_id, action, expires, nonce, channel = json.loads(urlsafe_b64decode(content + "=" * (-len(content) % 4)))
    token = AnswerToken(
        ticket_id=ticket_id,
        action=AnswerAction(action),
        expires_at=datetime.fromtimestamp(expires, UTC),
        nonce=nonce,
        channel=channel,
    )
    if now >= token.expires_at:
        raise BadTokenError("This link has expired. A reminder of the ticket has new ones.")
    return token


def with_links(message: Message, base: str, tokens: dict[AnswerAction, str]) -> Message:
    """Add a link for each action to a message."""
    links = (
        Link(label=LABELS[action], address=f"{base.rstrip('/')}/answer/{token}") for action, token in tokens.items()
    )
    return replace(message, links=(*message.links, *links))


def what_happens(token: AnswerToken, ticket: Ticket) -> str:
    """Say what a link would do to its ticket.

    Raises:
        BadTokenError: The ticket is resolved already.
    """
    if ticket.state is TicketState.RESOLVED and token.action is not AnswerAction.PAUSE:
        raise BadTokenError(f"Ticket {ticket.ticket_id} is resolved already.")
    of = f"{ticket.service} of {ticket.environment}" if ticket.service else ticket.environment
    return {
        AnswerAction.RESOLVE: f"Ticket {ticket.ticket_id} and its error are recorded as resolved by hand.",
        AnswerAction.APPROVE: f"Recovery of {of} is tried again now, whatever its budgets say.",
        AnswerAction.ACKNOWLEDGE: f"Ticket {ticket.ticket_id} is acknowledged, and nothing is done about {of}.",
        AnswerAction.PAUSE: f"Automatic recovery of {of} is off for one hour.",
    }[token.action]


def _signature(text: str, key: bytes) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
