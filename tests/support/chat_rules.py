"""What Discord, Slack and Teams accept, written from their documentation; each returns what it objects to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

_LINK = re.compile(r"https?://[^\s<>|]+")


def length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def discord_objects(sent: Any) -> list[str]:
    """Execute Webhook: https://discord.com/developers/docs/resources/webhook#execute-webhook"""
    return list(_discord(sent))


def _discord(sent: Any) -> Iterator[str]:
    embeds = sent.get("embeds", [])
    if not sent.get("content") and not embeds:
        yield "50006 Cannot send an empty message"
    if length(sent.get("content", "")) > 2000:
        yield "content: at most 2000"
    if len(embeds) > 10:
        yield "embeds: at most 10"
    if unknown := set(sent) - {"content", "username", "avatar_url", "tts", "embeds", "allowed_mentions"}:
        yield f"unknown {unknown}"
    if set(sent.get("allowed_mentions", {"parse": ["everyone"]}).get("parse", ["everyone"])):
        yield "allowed_mentions: would mention"
    total = 0
    for embed in embeds:
        if unknown := set(embed) - {"title", "description", "url", "timestamp", "color", "footer", "author", "fields"}:
            yield f"unknown {unknown}"
        yield from _text("title", embed.get("title", ""), 256)
        yield from _text("description", embed.get("description", ""), 4096)
        colour = embed.get("color", 0)
        if type(colour) is not int or not 0 <= colour <= 0xFFFFFF:
            yield "color: an integer of 24 bits"
        if len(embed.get("fields", [])) > 25:
            yield "fields: at most 25"
        for field in embed.get("fields", []):
            if not field.get("name") or not field.get("value"):
                yield "fields: name and value are required"
            yield from _text("name", field["name"], 256)
            yield from _text("value", field["value"], 1024)
            if type(field.get("inline", False)) is not bool:
                yield "inline: true or false"
        texts = [embed.get("title", ""), embed.get("description", "")]
        texts += [part for field in embed.get("fields", []) for part in (field["name"], field["value"])]
        total += sum(map(length, texts))
        for text in texts:
            if text.count("```") % 2:
                yield "a block of code is left open"
    if total > 6000:
        yield f"embeds: {total} of at most 6000 in all"


def slack_objects(sent: Any) -> list[str]:
    """Block Kit in an incoming webhook: https://docs.slack.dev/reference/block-kit/blocks"""
    return list(_slack(sent))


def _slack(sent: Any) -> Iterator[str]:
    if not sent.get("text") and not sent.get("blocks"):
        yield "no_text"
    if unknown := set(sent) - {"text", "blocks", "attachments", "username", "mrkdwn"}:
        yield f"invalid_payload {unknown}"
    yield from _mrkdwn(sent.get("text", ""))
    yield from _blocks(sent.get("blocks", []))
    for attachment in sent.get("attachments", []):
        if not re.fullmatch("good|warning|danger|#[0-9a-fA-F]{6}", attachment.get("color", "")):
            yield "invalid color"
        yield from _blocks(attachment.get("blocks", []))


def _blocks(blocks: Any) -> Iterator[str]:
    if len(blocks) > 50:
        yield "invalid_blocks: at most 50"
    for block in blocks:
        kind = block.get("type")
        if kind == "header":
            if block["text"].get("type") != "plain_text":
                yield "invalid_blocks: header is plain_text"
            yield from _text_object(block["text"], 150)
        elif kind == "section":
            if not block.get("text") and not block.get("fields"):
                yield "invalid_blocks: section needs text or fields"
            if "text" in block:
                yield from _text_object(block["text"], 3000)
            if len(block.get("fields", [])) > 10:
                yield "invalid_blocks: at most 10 fields"
            for field in block.get("fields", []):
                yield from _text_object(field, 2000)
        elif kind == "context":
            if not 1 <= len(block["elements"]) <= 10:
                yield "invalid_blocks: context of 1 to 10"
            for element in block["elements"]:
                yield from _text_object(element, 2000)
        elif kind == "rich_text":
            for element in block["elements"]:
                yield from _rich(element)
        else:
            yield f"invalid_blocks: {kind}"


def _rich(element: Any) -> Iterator[str]:
    kind = element.get("type")
    if kind not in {"rich_text_section", "rich_text_preformatted", "rich_text_list", "rich_text_quote", "text"}:
        yield f"invalid_blocks: {kind}"
    if kind == "text":
        if not element.get("text") or set(element) - {"type", "text", "style"}:
            yield "invalid_blocks: text"
        return
    if not element.get("elements"):
        yield f"invalid_blocks: {kind} is empty"
    if kind == "rich_text_list" and element.get("style") not in {"bullet", "ordered"}:
        yield "invalid_blocks: style"
    for inner in element["elements"]:
        if kind == "rich_text_list" and inner.get("type") != "rich_text_section":
            yield "invalid_blocks: a list holds sections"
        yield from _rich(inner)


def _text_object(text: Any, most: int) -> Iterator[str]:
    kind = text.get("type")
    if kind not in {"plain_text", "mrkdwn"} or not text.get("text"):
        yield "invalid_blocks: text object"
    if kind == "mrkdwn":
        if "emoji" in text:
            yield "invalid_blocks: emoji is for plain_text"
        yield from _mrkdwn(text["text"])
    elif "verbatim" in text:
        yield "invalid_blocks: verbatim is for mrkdwn"
    yield from _text("text", text["text"], most)


def _mrkdwn(text: str) -> Iterator[str]:
    for inner in re.findall("<([^>]*)>", text):
        if inner[:1] in "!@#" or not _LINK.match(inner):
            yield f"a mention: {inner}"


def teams_objects(sent: Any) -> list[str]:
    """An Adaptive Card to a workflow: https://adaptivecards.io/explorer, version 1.4, and Teams' 28 KB."""
    found = list(_teams(sent))
    if len(json.dumps(sent, ensure_ascii=False).encode()) > 28 * 1024:
        found.append("413 too large")
    return found


_CARD = {"$schema", "type", "version", "fallbackText", "msteams", "body", "actions", "speak", "lang"}
_ELEMENTS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "Container": {
        "items": lambda value: isinstance(value, list) and bool(value),
        "style": lambda value: value in {"default", "emphasis", "good", "attention", "warning", "accent"},
        "bleed": lambda value: isinstance(value, bool),
    },
    "RichTextBlock": {"inlines": lambda value: isinstance(value, list) and bool(value)},
    "TextRun": {
        "text": lambda value: isinstance(value, str) and bool(value),
        "weight": lambda value: value in {"Default", "Lighter", "Bolder"},
        "size": lambda value: value in {"Default", "Small", "Medium", "Large", "ExtraLarge"},
        "fontType": lambda value: value in {"Default", "Monospace"},
    },
    "Action.OpenUrl": {
        "title": lambda value: isinstance(value, str),
        "url": lambda value: _LINK.fullmatch(value) is not None,
    },
}
_REQUIRED = {"Container": "items", "RichTextBlock": "inlines", "TextRun": "text", "Action.OpenUrl": "url"}


def _teams(sent: Any) -> Iterator[str]:
    if sent.get("type") != "message" or len(sent.get("attachments", [])) != 1:
        yield "a message with one attachment"
    for attachment in sent.get("attachments", []):
        if attachment.get("contentType") != "application/vnd.microsoft.card.adaptive":
            yield "contentType"
        card = attachment["content"]
        if card.get("type") != "AdaptiveCard" or not re.fullmatch(r"1\.[0-5]", card.get("version", "")):
            yield "type and version"
        if unknown := set(card) - _CARD:
            yield f"unknown {unknown}"
        if len(card.get("actions", [])) > 6:
            yield "at most 6 actions"
        for element in (*card.get("body", []), *card.get("actions", [])):
            yield from _element(element)


def _element(element: Any) -> Iterator[str]:
    kind = element.get("type")
    known = _ELEMENTS.get(kind)
    if known is None:
        yield f"unknown element {kind}"
        return
    if _REQUIRED[kind] not in element:
        yield f"{kind} needs {_REQUIRED[kind]}"
    for name, value in element.items():
        if name != "type" and (name not in known or not known[name](value)):
            yield f"{kind}.{name} is {value!r}"
    for inner in (*element.get("items", []), *element.get("inlines", [])):
        yield from _element(inner)


def _text(name: str, text: str, most: int) -> Iterator[str]:
    if length(text) > most:
        yield f"{name}: {length(text)} of at most {most}"


RULES: dict[str, Callable[[Any], list[str]]] = {
    "discord.com": discord_objects,
    "hooks.slack.com": slack_objects,
    "prod-01.westeurope.logic.azure.com": teams_objects,
}
"""The rules of each host that the stand-ins answer for."""
