"""Render a message for a Slack webhook: a header, and a coloured attachment of blocks that hold plain text.

Limits: https://docs.slack.dev/reference/block-kit/blocks
"""

from __future__ import annotations

from typing import Any

from core.notifications.cut import Escapes, fit_text
from models.notifications import Message, Tone

COLOURS = {Tone.CRITICAL: "#8b0000", Tone.FAILURE: "#d93025", Tone.WARNING: "#f29900", Tone.SUCCESS: "#188038"}

_HEADER = 150
_SECTION = 3000
_FIELDS = 10
_FIELD = 2000
_LINE = 400
_ITEM = 240
_ITEMS = 10

TEXT: Escapes = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}
"""What Slack reads in `text` as a link or a mention. Text in blocks is declared plain, so nothing is read in it."""


def render(message: Message) -> dict[str, Any]:
    """Return the JSON that the webhook takes."""
    header = {"type": "header", "text": _plain(message.title, _HEADER)}
    blocks: list[dict[str, Any]] = []
    if message.summary:
        blocks.append({"type": "section", "text": _plain(message.summary, _SECTION)})
    if message.items:
        items = [_text_section(fit_text(item, _ITEM)) for item in message.items[:_ITEMS]]
        blocks.append(_rich({"type": "rich_text_list", "style": "bullet", "elements": items}))
    if message.lines:
        blocks.append(_rich(_code("\n".join(fit_text(line, _LINE) for line in message.lines))))
    shown_facts = [fact for fact in message.facts if not fact.command][:_FIELDS]
    if shown_facts:
        fields = [_plain(f"{fact.name}:\n{fact.value}", _FIELD) for fact in shown_facts]
        blocks.append({"type": "section", "fields": fields})
    for fact in message.facts:
        if fact.command:
            label = {"type": "text", "text": f"{fit_text(fact.name, _HEADER)}:", "style": {"bold": True}}
            blocks.append(_rich({"type": "rich_text_section", "elements": [label]}, _code(fit_text(fact.value, _LINE))))
    if message.links:
        shown = " · ".join(f"<{link.address}|{fit_text(link.label, 80, TEXT)}>" for link in message.links)
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": shown, "verbatim": True}]})
    attachments = [{"color": COLOURS[message.tone], "blocks": blocks}] if blocks else []
    return {"text": fit_text(message.title, _SECTION, TEXT), "blocks": [header], "attachments": attachments}


def _plain(text: str, most: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": fit_text(text, most), "emoji": False}


def _rich(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"type": "rich_text", "elements": list(elements)}


def _text_section(text: str) -> dict[str, Any]:
    return {"type": "rich_text_section", "elements": [{"type": "text", "text": text}]}


def _code(text: str) -> dict[str, Any]:
    return {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": text}]}
