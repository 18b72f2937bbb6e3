"""Render a message for a Teams workflow: an Adaptive Card whose texts are runs, in which Teams reads no markdown.

Limits: https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using (28 KB)
"""

from __future__ import annotations

import json
from typing import Any

from core.notifications.cut import fit_text
from models.notifications import Fact, Message, Tone

STYLES = {Tone.CRITICAL: "attention", Tone.FAILURE: "attention", Tone.WARNING: "warning", Tone.SUCCESS: "good"}

_MOST_BYTES = 26 * 1024
_TITLE = 200
_SUMMARY = 1500
_LINE = 400
_ITEM = 240
_ITEMS = 12
_VALUE = 600
_LABEL = 80
_ACTIONS = 6


def render(message: Message) -> dict[str, Any]:
    """Return the JSON that the workflow takes; texts in scripts of several bytes a letter are cut shorter."""
    share = 1.0
    while (size := len(json.dumps(rendered := _render(message, share)).encode())) > _MOST_BYTES and share > 0.1:
        share *= min(0.9, _MOST_BYTES / size)
    return rendered


def _render(message: Message, share: float) -> dict[str, Any]:
    def show_text(text: str, most: int) -> str:
        return fit_text(text, max(40, int(most * share)))

    body: list[dict[str, Any]] = [
        {
            "type": "Container",
            "style": STYLES[message.tone],
            "bleed": True,
            "items": [_runs(_run(show_text(message.title, _TITLE), weight="Bolder", size="Medium"))],
        }
    ]
    if message.summary:
        body += [_runs(_run(line)) for line in show_text(message.summary, _SUMMARY).split("\n") if line.strip()]
    body += [_runs(_run(f"• {show_text(item, _ITEM)}")) for item in message.items[:_ITEMS]]
    if message.lines:
        lines = [_runs(_run(show_text(line, _LINE), fontType="Monospace")) for line in message.lines]
        body.append({"type": "Container", "style": "emphasis", "items": lines})
    body += [_fact(fact, show_text(fact.value, _VALUE)) for fact in message.facts]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": show_text(message.title, _TITLE),
        "msteams": {"width": "Full"},
        "body": body,
        "actions": [
            {"type": "Action.OpenUrl", "title": fit_text(link.label, _LABEL), "url": link.address}
            for link in message.links[:_ACTIONS]
        ],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _fact(fact: Fact, value: str) -> dict[str, Any]:
    font = {"fontType": "Monospace"} if fact.command else {}
    return _runs(_run(f"{fit_text(fact.name, _LABEL)}: ", weight="Bolder"), _run(value, **font))


def _runs(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": list(runs)}


def _run(text: str, **more: str) -> dict[str, Any]:
    return {"type": "TextRun", "text": text, **more}
