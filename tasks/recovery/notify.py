"""Notifications: events for automations, and messages to people through Prefect's notification blocks."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import httpx
from prefect import get_client, task
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound
from prefect.utilities.templating import apply_values

from adapters.config.webhook_addresses import is_refused
from core.recovery.notify import FORGOTTEN, due
from core.storage.incidents import OWN_SYSTEM
from models.environments import Environment
from models.failures import StoreError
from models.recovery import Channel, Notification, NotificationReason
from tasks.runtime.retry_policy import READ
from tasks.runtime.store_access import stores_are_away
from tasks.runtime.stores import open_stores, shared_cache

log = logging.getLogger("roas")

STREAM = "notices"
"""The stream of the cache that every notification goes to, also without a receiver."""

_SEND_SECONDS = 20
_AGAIN_AFTER_SECONDS = (2, 10)
"""Delays before a notification that was surely not delivered is sent again."""

_KINDS = ("custom-webhook", "discord-webhook", "ms-teams-webhook", "slack-webhook")

UNHEALTHY = "roas.service.unhealthy"
RECOVERED = "roas.service.recovered"
RECOVERY_FAILED = "roas.recovery.failed"
DEPLOYMENT_FAILED = "roas.deployment.failed"
NOT_NOTIFIED = "roas.notification.failed"


def announce(
    event: str,
    environment: str,
    *,
    service: str | None = None,
    deployment_id: str | None = None,
    error_id: str | None = None,
    handled: bool = True,
    text: str = "",
) -> None:
    """Send the engine an event, for automations and for the record; it waits for nothing.

    `handled` False asks the listening automation to act. `text` must hold no secret.
    """
    resource = {
        "prefect.resource.id": f"roas.{environment}.{service or 'environment'}",
        "prefect.resource.name": service or environment,
        "roas.environment": environment,
        "roas.handled": "yes" if handled else "no",
    }
    payload = {"environment": environment, "service": service, "deployment_id": deployment_id, "error_id": error_id}
    emit_event(event, resource, payload={**payload, "text": text})


@task(name="notify people", **READ)
async def notify_people(environment: Environment) -> list[Notification]:
    """Send the notifications that are due to the receivers that an environment's file names; return them.

    Each is claimed in the store before it is sent, so that neither a restart nor a second process repeats it. One
    that cannot be sent, even a few seconds later, is logged, and the next reminder is sent instead.
    """
    if stores_are_away():
        # Each notification is claimed in the stores first, so that it is sent once.
        return []
    try:
        # An incident of this system itself goes to the receivers of the first environment that sends.
        notices = [
            notice for name in (environment.name, OWN_SYSTEM) for notice in await asyncio.to_thread(_claimed, name)
        ]
    except StoreError as error:
        log.warning("notifications could not be read: %s", error)
        return []
    for notice in notices:
        # Reminders are for people: to a program the same event twice would be two failures.
        if notice.occasion is not NotificationReason.REMINDER:
            event = RECOVERED if notice.occasion is NotificationReason.RECOVERED else RECOVERY_FAILED
            announce(event, notice.environment, service=notice.service, error_id=notice.error_id)
        entry = asdict(notice)
        del entry["reported_before"]
        await asyncio.to_thread(shared_cache().publish, STREAM, entry)
    await asyncio.gather(*(_send(block, notice) for notice in notices for block in environment.notify))
    return notices


def _claimed(environment: str) -> list[Notification]:
    """Return the notifications that are due and that no other process has sent."""
    sent, now = open_stores().error_notifications, datetime.now(UTC)
    claimed = []
    for notice in due(sent.reported(environment, now - FORGOTTEN), now):
        before = notice.reported_before
        after = replace(before, times=before.times + 1, last_at=now)
        if notice.occasion is NotificationReason.RECOVERED:
            after = replace(before, end_at=now)
        if sent.mark_sent(notice.error_id, before, after):
            claimed.append(notice)
    return claimed


async def _send(block: str, notice: Notification) -> None:
    for seconds in (*_AGAIN_AFTER_SECONDS, None):
        failed = await _sent(block, notice.subject, notice.body)
        if failed is None or not failed.passes or seconds is None:
            break
        await asyncio.sleep(seconds)
    if failed is not None:
        log.warning("%s: %s", notice.subject, failed.text)
        announce(NOT_NOTIFIED, notice.environment, service=notice.service, error_id=notice.error_id, text=failed.text)


async def send_message(block: str, subject: str, body: str) -> str | None:
    """Send a message through a notification block; return why it was not sent, else None."""
    failed = await _sent(block, subject, body)
    return None if failed is None else failed.text


@dataclass(frozen=True, slots=True)
class _SendError:
    """Why a message was not sent, and whether it was surely not delivered but may be in a moment."""

    text: str
    passes: bool = False


async def _sent(block: str, subject: str, body: str) -> _SendError | None:
    # Imported only to send: it loads the clients of a dozen services.
    import prefect.blocks.notifications  # noqa: F401 - so that its kinds of blocks are known
    from prefect.blocks.abstract import NotificationBlock, NotificationError
    from prefect.blocks.core import Block

    try:
        async with asyncio.timeout(_SEND_SECONDS):
            try:
                channel: Any = await Block.aload(block)
            except ValueError:
                return _SendError(f"there is no block {block} on the Prefect server")
            if not isinstance(channel, NotificationBlock):
                return _SendError(f"block {block} is none that notifies")
            if await asyncio.to_thread(_leads_to_the_link, channel):
                return _SendError(
                    f"block {block} has a link-local address, where a cloud hands out credentials; not sent"
                )
            with channel.raise_on_failure():
                sending = channel.notify(body, subject)
                if inspect.isawaitable(sending):
                    await sending
    except Exception as error:  # noqa: BLE001 - a block is anybody's code, and may raise anything
        text = f"block {block} did not take the notice: {_without_address(error)}"
        return _SendError(text, passes=isinstance(error, NotificationError) or _was_not_taken(error))
    return None


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


def _was_not_taken(error: Exception) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


def _without_address(error: Exception) -> str:
    """What went wrong in words of our own: its own often quote the webhook's address, which is a secret."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"its server answered with {error.response.status_code}"
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return "its server did not answer in time"
    if isinstance(error, httpx.TransportError):
        return "its server could not be reached"
    return "its server refused it" if type(error).__name__ == "NotificationError" else type(error).__name__


async def read_channels(named_by: Mapping[str, Sequence[str]]) -> list[Channel]:
    """The blocks that environments name, by who names them, and those that `keep_channel` has made beside them."""
    async with get_client() as client:
        kept = set()
        for kind in _KINDS:
            with suppress(ObjectNotFound):
                kept |= {
                    f"{kind}/{one.name}"
                    for one in await client.read_block_documents_by_type(kind, include_secrets=False)
                }
        for block in set(named_by) - kept:
            kind, _, name = block.partition("/")
            with suppress(ObjectNotFound):
                await client.read_block_document_by_name(name, kind, include_secrets=False)
                kept.add(block)
    return [
        Channel(block=block, environments=tuple(named_by.get(block, ())), kept=block in kept)
        for block in sorted(kept | set(named_by))
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
