"""Render a message for the kind of block that sends it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core.notifications import discord, slack, teams, text
from models.notifications import Message

_OWN_FORMS = {"discord-webhook": discord.render, "slack-webhook": slack.render, "ms-teams-webhook": teams.render}
_TAKES_LONG_TEXTS = frozenset({"custom-webhook", "sendgrid-email", "roas-email", "text"})


def render(kind: str, message: Message) -> dict[str, Any]:
    """Return what a kind of block is sent: the JSON of its service, or a subject and a body."""
    message = _without_blanks(message)
    if kind in _OWN_FORMS:
        return _OWN_FORMS[kind](message)
    most = text.LONG if kind in _TAKES_LONG_TEXTS else text.SHORT
    return {"subject": text.subject(message), "body": text.body(message, most)}


def _without_blanks(message: Message) -> Message:
    """Leave out what shows nothing: the services refuse empty texts."""
    return replace(
        message,
        title=message.title if message.title.strip() else "Notification",
        summary=message.summary.strip(),
        items=tuple(item for item in message.items if item.strip()),
        lines=tuple(line for line in message.lines if line.strip()),
        facts=tuple(fact for fact in message.facts if fact.value.strip()),
    )
