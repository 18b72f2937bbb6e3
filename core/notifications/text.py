"""Render a message as plain text: for mail, for a terminal, and for services that take a subject and a body."""

from __future__ import annotations

import re

from core.notifications.cut import fit_text
from models.notifications import Message

SHORT = 1500
"""Characters of a body that every service takes; Twilio and Discord take least."""
LONG = 20_000

_SUBJECT = 200
_LINE = 400
_ITEM = 240
# Mentions that Mattermost, Slack and others read in plain text.
_MENTION = re.compile(r"@(?=(?:everyone|here|channel|all)\b)|<(?=[!@#])")


def subject(message: Message) -> str:
    """Return the subject, on one line."""
    return _without_mentions(" ".join(fit_text(message.title, _SUBJECT).split()))


def body(message: Message, most: int = LONG) -> str:
    """Return the body in at most `most` characters; what to type next stays where lines of evidence are cut."""
    named = [(fact.name, fact.value) for fact in message.facts] + [(link.label, link.address) for link in message.links]
    lines = [fit_text(line, _LINE) for line in message.lines]
    items = [fit_text(item, _ITEM) for item in message.items]
    begin = [
        part for part in (message.summary, *(f"- {item}" for item in items), *(f"> {line}" for line in lines)) if part
    ]
    last = "\n".join(f"{name}: {value}" for name, value in named)
    room = most - len(last) - 1
    first = fit_text("\n".join(begin), room) if room > 0 else ""
    return _without_mentions(fit_text("\n".join(filter(None, (first, last))), most))


def _without_mentions(text: str) -> str:
    """Put an invisible space behind what would notify everyone in a channel."""
    return _MENTION.sub(lambda match: f"{match[0]}\u200b", text)
