"""Render a message for a Discord webhook: one embed with coloured fields, and no mention of anybody.

Limits: https://discord.com/developers/docs/resources/message#embed-object-embed-limits
"""

from __future__ import annotations

from typing import Any

from core.notifications.cut import Escapes, fit_text, length
from models.notifications import Link, Message, Tone

COLOURS = {Tone.CRITICAL: 0x8B0000, Tone.FAILURE: 0xD93025, Tone.WARNING: 0xF29900, Tone.SUCCESS: 0x188038}

_TITLE = 256
_DESCRIPTION = 2800
"""Discord takes 4096, but 6000 for all of an embed."""
_FIELDS = 25
_NAME = 256
_VALUE = 1024
_TOTAL = 6000
_SUMMARY = 1200
_LINE = 300
_ITEM = 200
_LEAST = 40
"""A field with less room for its value is left out."""

TEXT: Escapes = {ord(character): f"\\{character}" for character in "\\*_~`|>#-[]()<@/:+"}
"""A backslash before whatever begins markdown, a mention or a link; Discord does not show it."""
CODE: Escapes = {ord("`"): "`\u200b"}
"""In a block of code only three backticks in a row mean anything."""


def render(message: Message) -> dict[str, Any]:
    """Return the JSON that the webhook takes."""
    title = fit_text(message.title, _TITLE, TEXT)
    description = _description(message)
    budget = _TOTAL - length(title) - length(description)
    # Links are ours and a cut would break them, so they come first, whole or not at all.
    more = _more(message.links)
    budget -= sum(length(field["name"]) + length(field["value"]) for field in more)
    fields: list[dict[str, Any]] = []
    for fact in message.facts[: _FIELDS - len(more)]:
        name = fit_text(fact.name, _NAME, TEXT)
        room = min(_VALUE, budget - length(name)) - length(_code(""))
        if room < _LEAST:
            break
        value = _code(fit_text(fact.value, room, CODE)) if fact.command else fit_text(fact.value, room, TEXT)
        fields.append({"name": name, "value": value, "inline": False})
        budget -= length(name) + length(value)
    fields += more
    embed = {"title": title, "description": description, "color": COLOURS[message.tone], "fields": fields}
    return {"embeds": [embed], "allowed_mentions": {"parse": []}}


def _description(message: Message) -> str:
    parts = [fit_text(message.summary, _SUMMARY, TEXT)] if message.summary else []
    if message.lines:
        parts.append(_code("\n".join(fit_text(line, _LINE, CODE) for line in message.lines)))
    budget = _DESCRIPTION - sum(length(part) + 1 for part in parts)
    for item in message.items:
        shown = f"• {fit_text(item, _ITEM, TEXT)}"
        if (budget := budget - length(shown) - 1) < 0:
            break
        parts.append(shown)
    return "\n".join(parts)


def _more(links: tuple[Link, ...]) -> list[dict[str, Any]]:
    """Return the links in as few fields as they fit into."""
    values: list[str] = []
    for link in links:
        markdown = f"[{fit_text(link.label, _NAME, TEXT)}]({link.address})"
        if values and length(values[-1]) + length(markdown) + 3 <= _VALUE:
            values[-1] += f" · {markdown}"
        elif length(markdown) <= _VALUE:
            values.append(markdown)
    return [{"name": "More", "value": value, "inline": False} for value in values]


def _code(text: str) -> str:
    return f"```\n{text}\n```"
