"""Answer links: signed, for one ticket and action, for a day, and within what each service takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.notifications.answers import (
    AnswerAction,
    AnswerToken,
    BadTokenError,
    read_token,
    sign,
    what_happens,
    with_links,
)
from core.notifications.services import render
from models.notifications import Link, Message, Tone
from models.recovery import Ticket, TicketState
from tests.support.chat_rules import discord_objects, slack_objects, teams_objects

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
KEY = b"k" * 32
TOKEN = AnswerToken(
    ticket_id="T-260302-1a2b",
    action=AnswerAction.RESOLVE,
    expires_at=NOON + timedelta(hours=24),
    nonce="AAAAAAAAAAAAAAAAAAAAAA",
    channel="discord-webhook/operations",
)
TICKET = Ticket(ticket_id="T-260302-1a2b", error_id="e", environment="shop", title="web", opened_at=NOON, service="web")


def test_a_token_is_read_as_it_was_signed() -> None:
    assert read_token(sign(TOKEN, KEY), KEY, NOON) == TOKEN


def test_a_token_of_another_key_or_time_is_refused() -> None:
    with pytest.raises(BadTokenError, match="not valid"):
        read_token(sign(TOKEN, b"x" * 32), KEY, NOON)
    with pytest.raises(BadTokenError, match="expired"):
        read_token(sign(TOKEN, KEY), KEY, TOKEN.expires_at)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 400), st.sampled_from("AZaz09-_.="))
def test_a_changed_token_is_refused(place: int, letter: str) -> None:
    text = sign(TOKEN, KEY)
    place %= len(text)
    changed = text[:place] + letter + text[place + 1 :]
    if changed != text:
        with pytest.raises(BadTokenError):
            read_token(changed, KEY, NOON)


@given(st.text(max_size=1200))
def test_no_other_text_is_a_token(text: str) -> None:
    with pytest.raises(BadTokenError):
        read_token(text, KEY, NOON)


@pytest.mark.parametrize("action", AnswerAction)
def test_what_a_link_does_names_the_ticket_or_its_service(action: AnswerAction) -> None:
    said = what_happens(replace(TOKEN, action=action), TICKET)
    assert "T-260302-1a2b" in said or "web of shop" in said


def test_a_resolved_ticket_cannot_be_answered_again() -> None:
    with pytest.raises(BadTokenError, match="resolved already"):
        what_happens(TOKEN, replace(TICKET, state=TicketState.RESOLVED))


@pytest.mark.parametrize(
    ("kind", "objections"),
    [("discord-webhook", discord_objects), ("slack-webhook", slack_objects), ("ms-teams-webhook", teams_objects)],
)
def test_every_service_takes_a_message_with_all_links(kind: str, objections: object) -> None:
    links = tuple(Link(label=name, address=f"https://ops.example/{'x' * 90}") for name in ("Run", "Dashboard"))
    message = Message(tone=Tone.FAILURE, title="web of shop needs help", links=links)
    tokens = {action: sign(replace(TOKEN, action=action), KEY) for action in AnswerAction}
    shown = render(kind, with_links(message, "https://ops.example/answers/", tokens))
    assert callable(objections)
    assert objections(shown) == []
    assert all(token in str(shown) for token in tokens.values())
    assert "//answer/" not in str(shown)
