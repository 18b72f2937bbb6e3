"""Send messages through the notification blocks of the Prefect server, which keep addresses encrypted."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
from prefect import get_client
from prefect.exceptions import ObjectNotFound
from prefect.utilities.templating import apply_values

from adapters.config.webhook_addresses import is_refused
from adapters.http_client import ask
from adapters.notifications.mail import read_mail_address, send_mail
from adapters.notifications.webhook import SendFailure, failure_of, post_json, refusal_in
from core.notifications.services import render
from models.notifications import Attachment, Message

if TYPE_CHECKING:
    from prefect.blocks.abstract import NotificationBlock
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

RETRY_AFTER_SECONDS = (2, 10)
"""Delays before a message that was surely not delivered is sent again, where the service asks for none."""

LONGEST_DELAY_SECONDS = 15
"""A service that asks for more is not waited for; the next reminder is sent instead."""

_SEND_SECONDS = 20
_ALL_SECONDS = 50
"""Limit of all tries for one block."""

_DISCORD = "https://discord.com/api/webhooks"


async def deliver(block: str, message: Message, attachment: Attachment | None = None) -> str | None:
    """Send a message through a block, again where it is worth it; return why it was not delivered, else None.

    Only a mail takes the attachment along.
    """
    failed: SendFailure | None = SendFailure(text=f"block {block} did not take the notice in time")
    try:
        async with asyncio.timeout(_ALL_SECONDS):
            for seconds in (*RETRY_AFTER_SECONDS, None):
                failed = await _send(block, message, attachment)
                if failed is None or not failed.again or seconds is None:
                    break
                if failed.after_seconds > LONGEST_DELAY_SECONDS:
                    break
                await asyncio.sleep(failed.after_seconds or seconds)
    except TimeoutError:
        pass
    return None if failed is None else failed.text


async def _send(block: str, message: Message, attachment: Attachment | None = None) -> SendFailure | None:
    kind, _, name = block.partition("/")
    try:
        async with asyncio.timeout(_SEND_SECONDS):
            async with get_client() as client:
                try:
                    data = (await client.read_block_document_by_name(name, kind, include_secrets=True)).data
                except ObjectNotFound:
                    return SendFailure(text=f"there is no block {block} on the Prefect server")
            if kind == "roas-email":
                return await _mail(block, str(data["url"]), render(kind, message), attachment)
            address = _webhook(kind, data)
            if address is None:
                return await _send_by_block(block, render(kind, message))
            if await asyncio.to_thread(is_refused, httpx.URL(address).host):
                return _link_local(block)
            failed = await post_json(address, render(kind, message) | _fields_of_block(kind, data))
    except Exception as error:  # noqa: BLE001 - a block is anybody's code, and may raise anything
        failed = failure_of(error)
    return None if failed is None else _failure_of(block, failed)


def _failure_of(block: str, failed: SendFailure) -> SendFailure:
    return replace(failed, text=f"block {block} did not take the notice: {failed.text}")


async def _mail(
    block: str, address: str, shown: Mapping[str, str], attachment: Attachment | None
) -> SendFailure | None:
    server = read_mail_address(address)
    if await asyncio.to_thread(is_refused, server.host):
        return _link_local(block)
    failed = await asyncio.to_thread(send_mail, server, shown["subject"], shown["body"], attachment)
    return None if failed is None else _failure_of(block, failed)


def _webhook(kind: str, data: Mapping[str, Any]) -> str | None:
    """Return the address that takes the service's own JSON; None for a block that sends by itself."""
    if kind == "discord-webhook":
        return f"{_DISCORD}/{data['webhook_id']}/{data['webhook_token']}"
    if kind in ("slack-webhook", "ms-teams-webhook"):
        address = str(data["url"])
        # Slack's block also takes addresses in Apprise's own form.
        return address if address.startswith(("https://", "http://")) else None
    return None


def _fields_of_block(kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a block itself adds to every message: the name and picture that the message is from."""
    if kind != "discord-webhook":
        return {}
    named = {"username": data.get("botname"), "avatar_url": data.get("avatar_url"), "tts": data.get("tts")}
    return {field: value for field, value in named.items() if value}


async def _send_by_block(block: str, shown: Mapping[str, str]) -> SendFailure | None:
    # Imported only to send: it loads the clients of a dozen services.
    from prefect.blocks.abstract import NotificationBlock
    from prefect.blocks.core import Block
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    channel: Any = await Block.aload(block)
    if not isinstance(channel, NotificationBlock):
        return SendFailure(text="it does not send notifications")
    if await asyncio.to_thread(_leads_to_the_link, channel):
        return _link_local(block)
    if isinstance(channel, CustomWebhookNotificationBlock):
        failed = await _request(channel, shown)
        return None if failed is None else _failure_of(block, failed)
    await _notify(channel, shown)
    return None


async def _notify(channel: NotificationBlock, shown: Mapping[str, str]) -> None:
    from adapters.notifications.apprise_requests import limit_apprise

    limit_apprise()
    with channel.raise_on_failure():
        sending: Any = channel.notify(shown["body"], shown["subject"])
        if inspect.isawaitable(sending):
            await sending


async def _request(channel: CustomWebhookNotificationBlock, shown: Mapping[str, str]) -> SendFailure | None:
    """Send as the block itself does, which would read an answer of any size."""
    from prefect.utilities.urls import SSRFProtectedAsyncHTTPTransport, validate_restricted_url

    request = channel._build_request_args(shown["body"], shown["subject"])
    address, cookies = request.pop("url"), request.pop("cookies", None)
    transport = None
    if not channel.allow_private_urls:
        validate_restricted_url(address)
        transport = SSRFProtectedAsyncHTTPTransport()
    async with httpx.AsyncClient(cookies=cookies, transport=transport) as client:
        return refusal_in(await ask(client, request.pop("method"), address, **request))


def _link_local(block: str) -> SendFailure:
    return SendFailure(text=f"block {block} has a link-local address, where a cloud hands out credentials; not sent")


def _leads_to_the_link(channel: Any) -> bool:
    """Whether a block would send to a link-local address; the block is kept from following redirects there."""
    hosts = []
    for plugin in getattr(channel, "_apprise_client", ()):
        plugin.redirects = False
        hosts.append(getattr(plugin, "host", None))
    if isinstance(getattr(channel, "url", None), str):
        # A custom webhook. Its client reads the address as httpx does, and follows no redirect.
        filled = apply_values({"url": channel.url}, channel.secrets.get_secret_value())
        hosts.append(httpx.URL(str(filled["url"])).host)
    return any(is_refused(host) for host in hosts if host)
