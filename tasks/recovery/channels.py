"""Channels: the notification blocks of the Prefect server, stored and listed without their addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from prefect import get_client
from prefect.exceptions import ObjectNotFound

from models.notifications import Channel

_KINDS = ("custom-webhook", "discord-webhook", "ms-teams-webhook", "slack-webhook", "roas-email")


async def read_channels(named_by: Mapping[str, Sequence[str]]) -> list[Channel]:
    """The blocks that environments name, by who names them, and those that `keep_channel` has made beside them."""
    async with get_client() as client:
        blocks = set()
        for kind in _KINDS:
            with suppress(ObjectNotFound):
                # A kind of our own is known to the server once somebody has stored a block of it.
                await client.read_block_type_by_slug(kind)
                blocks |= {
                    f"{kind}/{document.name}"
                    for document in await client.read_block_documents_by_type(kind, include_secrets=False)
                }
        for block in set(named_by) - blocks:
            kind, _, name = block.partition("/")
            with suppress(ObjectNotFound):
                await client.read_block_document_by_name(name, kind, include_secrets=False)
                blocks.add(block)
    return [
        Channel(block=block, environments=tuple(named_by.get(block, ())), kept=block in blocks)
        for block in sorted(blocks | set(named_by))
    ]


async def keep_channel(kind: str, name: str, address: str, parts: Sequence[str]) -> str:
    """Keep a webhook's address on the Prefect server, encrypted; the block as an environment's file names it."""
    from prefect.blocks import notifications as blocks
    from pydantic import SecretStr

    block: Any
    if kind == "discord":
        block = blocks.DiscordWebhook(webhook_id=SecretStr(parts[0]), webhook_token=SecretStr(parts[1]))
    elif kind == "slack":
        block = blocks.SlackWebhook(url=SecretStr(address))
    elif kind == "teams":
        block = blocks.MicrosoftTeamsWebhook(url=SecretStr(address))
    elif kind == "email":
        from tasks.recovery.email_block import RoasEmail

        block = RoasEmail(url=SecretStr(address))
    else:
        block = blocks.CustomWebhookNotificationBlock.model_validate(
            {
                "name": "roas",
                # Its address is no secret field, a value it is filled in with is.
                "url": "{{address}}",
                "secrets": {"address": address},
                "json_data": {"subject": "{{subject}}", "body": "{{body}}"},
            }
        )
    await block.save(name, overwrite=True)
    return f"{block.get_block_type_slug()}/{name}"
