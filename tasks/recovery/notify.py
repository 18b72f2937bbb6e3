"""Notifications: events for automations, and messages to people about what is due."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.events import emit_event

from adapters.config.environment_files import known_environments
from adapters.notifications.answer_keys import answer_key, new_nonce
from core.notifications import text
from core.notifications.answers import VALID_FOR, AnswerAction, AnswerToken, sign, with_links
from core.notifications.due import DEPLOYMENTS, FORGOTTEN, due, failure_of
from core.notifications.message import compose, explain
from core.notifications.pacing import HOUR, Batch, pace, span_to_remember
from core.notifications.samples import examples
from core.storage.incidents import OWN_SYSTEM
from models.environments import Environment
from models.failures import BadInputError, StoreError
from models.maintenance import Maintenance
from models.notifications import (
    Addresses,
    Message,
    News,
    NewsDetails,
    Notification,
    NotificationReason,
    ReportedError,
    Tone,
)
from models.settings import current_settings
from tasks.recovery.news_details import details_of
from tasks.recovery.send_messages import deliver
from tasks.runtime.clients import find_environment
from tasks.runtime.plain_tasks import has_server
from tasks.runtime.retry_policy import READ
from tasks.runtime.store_access import stores_are_away
from tasks.runtime.stores import open_stores, shared_cache
from tasks.runtime.task import task

log = logging.getLogger("roas")

STREAM = "notices"
"""The stream in Redis that every notification goes to, also without a receiver."""

_OPERATIONS = 20
"""So many of the latest operations are looked at."""

UNHEALTHY = "roas.service.unhealthy"
"""A service was seen unhealthy, by a health check or by the watch."""
RECOVERED = "roas.service.recovered"
"""An error is over: its service was recovered, or is healthy again."""
RECOVERY_FAILED = "roas.recovery.failed"
"""A recovery did not help, and a ticket waits for a user."""
DEPLOYMENT_FAILED = "roas.deployment.failed"
"""A start, stop, restart or rollback failed."""
HOOK_FAILED = "roas.hook.failed"
"""A hook of an update failed; the update went on where the hook only warns."""
SNAPSHOT_TAKEN = "roas.snapshot.taken"
"""A snapshot of an environment's data is whole."""
SNAPSHOT_FAILED = "roas.snapshot.failed"
"""Data could not be saved, put back or rehearsed."""
SCHEDULE_FAILED = "roas.schedule.failed"
"""A run of a schedule failed, was missed, or was left out since the last one went on."""
NOT_NOTIFIED = "roas.notification.failed"
"""A notification could not be delivered."""


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
    if not has_server():
        # Prefect would start one for it.
        return
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
    """Send what is due to the receivers that an environment's file names; return the messages.

    Each report is claimed in the store before it is sent, so that neither a restart nor a second process repeats it.
    A message that cannot be delivered, even a few seconds later, is logged, and the next reminder is sent instead.
    """
    if stores_are_away():
        # Each report is claimed in the stores first, so that it is sent once.
        return []
    try:
        claimed = await asyncio.to_thread(_claim_due, environment)
        notifications = await asyncio.to_thread(_write_notifications, claimed) if claimed else []
    except StoreError as error:
        log.warning("notifications could not be read: %s", error)
        return []
    for notification in notifications:
        await _record(notification)
    await asyncio.gather(
        *(_send(block, notification) for notification in notifications for block in environment.notify)
    )
    return notifications


async def notify_where_asked(environment: Environment | None) -> None:
    """Send what is due where an environment names receivers; a failure is logged and ends nothing.

    What finds a failure calls it: a watch, a collection, a command. What another process has claimed is not due.
    """
    if environment is None or not environment.notify or stores_are_away():
        return
    try:
        if await asyncio.to_thread(_is_anything_due, environment):
            await notify_people(environment)
    except Exception as error:  # noqa: BLE001 - whatever fails here must not hide what is reported
        log.warning("notifications of %s were not sent: %s", environment.name, type(error).__name__)


def _is_anything_due(environment: Environment) -> bool:
    now = datetime.now(UTC)
    return any(_due(environment, name, now)[0] for name in (environment.name, OWN_SYSTEM))


async def send_examples(environment: Environment) -> dict[str, str | None]:
    """Send an example of each kind of message to every receiver; return the first reason why one failed, else None."""
    messages = examples(environment.name, _addresses(), datetime.now(UTC))
    failed: dict[str, str | None] = {}
    for block in environment.notify:
        for message in messages:
            failed[block] = await deliver(block, message)
            if failed[block] is not None:
                break
    return failed


async def report_maintenance(maintenance: Maintenance) -> None:
    """Send one message of a maintenance that has ended to all receivers of its environments; a failure is logged."""
    known, blocks = known_environments(current_settings()), set[str]()
    for name in {one.name for one in maintenance.environments}.intersection(known):
        with suppress(BadInputError):
            blocks.update(find_environment(name).notify)
    tone = Tone.SUCCESS if maintenance.success else Tone.FAILURE
    message = Message(tone=tone, title=maintenance.title, items=maintenance.lines)
    for failed in filter(None, await asyncio.gather(*(deliver(block, message) for block in blocks))):
        log.warning("the report of the maintenance was not sent: %s", failed)


def preview_messages(subject: str) -> list[Message]:
    """Return the messages that would be sent now of an environment, or of a ticket; nothing is claimed.

    Where nothing of the environment was ever reported or is due, return the first example.

    Raises:
        StoreError: The stores cannot be read.
        BadInputError: There is no such environment or ticket.
    """
    now = datetime.now(UTC)
    if subject in known_environments(current_settings()):
        causes = open_stores().error_notifications.reported_errors(subject, now)
        failing = [cause for cause in causes if cause.ticket is not None or cause.executions]
        news = [failure_of(cause) for cause in failing]
        if not news:
            return examples(subject, _addresses(), now)[:1]
    else:
        ticket = open_stores().tickets.get_by_prefix(subject)
        causes = open_stores().error_notifications.reported_errors(ticket.environment, ticket.opened_at)
        news = [failure_of(cause) for cause in causes if cause.error.error_id == ticket.error_id]
    batches = pace(news, (), (), now)
    return [notification.message for notification in _write_notifications(batches)]


def _claim_due(environment: Environment) -> list[Batch]:
    """Return what is due and no other process has claimed, as messages are made of it.

    What is due in other environments with the same receivers is reported with it: one cause may fail in all of them.
    """
    now = datetime.now(UTC)
    # An incident of this system itself goes to the receivers of the first environment that sends.
    parts = [_due(environment, name, now) for name in (environment.name, OWN_SYSTEM)]
    if parts[1][0] and not environment.notify and any(other.notify for other in _other_environments(environment)):
        del parts[1]
    if not any(news for news, _ in parts):
        return []
    sharing = [other for other in _other_environments(environment) if set(other.notify) & set(environment.notify)]
    peers = [peer for peer in sharing if set(peer.notify) == set(environment.notify)]
    parts += [_due(peer, peer.name, now) for peer in peers]
    news, causes = [report for part, _ in parts for report in part], [cause for _, part in parts for cause in part]
    quiet = {env.name: env.quiet_hours for env in (environment, *peers)} | {OWN_SYSTEM: environment.quiet_hours}
    sent = _recent_messages([environment.name, OWN_SYSTEM, *(other.name for other in sharing)], now)
    batches = pace(news, causes, sent, now, quiet)
    # A moment of its own for each message, so that messages can be counted by their moments.
    moments = [now + timedelta(microseconds=place) for place in range(len(batches))]
    claimed = [
        replace(batch, news=tuple(report for report in batch.news if _claim(report, at)))
        for batch, at in zip(batches, moments, strict=True)
    ]
    return [batch for batch in claimed if batch.news]


def _due(environment: Environment, name: str, now: datetime) -> tuple[list[News], Sequence[ReportedError]]:
    """Return what is due under a name, and all errors that are open or ended lately."""
    stores, operations = open_stores(), []
    forgotten = span_to_remember(environment.quiet_hours, now, FORGOTTEN)
    causes = stores.error_notifications.reported_errors(name, now - forgotten)
    if DEPLOYMENTS in environment.notify_about and name == environment.name:
        operations = stores.operations.latest_recorded(name, _OPERATIONS)
    return due(causes, now, operations=operations, about=environment.notify_about, forgotten=forgotten), causes


def _other_environments(environment: Environment) -> list[Environment]:
    """Return the other environments whose files can be read."""
    environments = []
    for name in known_environments(current_settings()):
        with suppress(BadInputError):
            environments.append(find_environment(name))
    return [other for other in environments if other.name != environment.name]


def _recent_messages(names: Sequence[str], now: datetime) -> list[datetime]:
    """Return the moments of the messages about environments within the last hour."""
    stores, since = open_stores(), now - HOUR
    moments = set(stores.error_notifications.times_sent_since(names, since))
    for name in names:
        claimed = (operation.record.notified_at for operation in stores.operations.latest_recorded(name, _OPERATIONS))
        moments |= {at for at in claimed if at is not None and at >= since}
    return sorted(moments)


def _addresses() -> Addresses:
    settings = current_settings()
    return Addresses(prefect=settings.public_ui_url, grafana=settings.grafana_url)


def _claim(news: News, now: datetime) -> bool:
    """Claim a report of an error, a deployment, or both; False where another process has it."""
    stores, cause = open_stores(), news.cause
    if news.operation is not None and not stores.operations.claim_notification(news.operation.deployment_id, now):
        return False
    if cause is None:
        return True
    before = cause.reported
    after = replace(before, times=before.times + 1, last_at=now)
    if news.occasion is NotificationReason.RECOVERED:
        after = replace(before, end_at=now)
    return stores.error_notifications.mark_sent(cause.error.error_id, before, after)


def _write_notifications(batches: Sequence[Batch]) -> list[Notification]:
    now, addresses = datetime.now(UTC), _addresses()
    shown = (explain(batch) for batch in batches)
    causes = [report.cause for report in shown if report is not None and report.cause is not None]
    details: dict[str, NewsDetails] = {}
    try:
        details = {cause.error.error_id: details_of(cause) for cause in causes}
    except StoreError as error:
        # They are claimed, so they are reported with what is known.
        log.warning("the evidence of a notification could not be read: %s", error)
    return [compose(batch, details, addresses, now) for batch in batches]


async def _record(notification: Notification) -> None:
    """Send the events of a notification, and publish what it reports in the cache."""
    message = notification.message
    for news in notification.news:
        error_id = news.cause.error.error_id if news.cause else None
        deployment_id = news.operation.deployment_id if news.operation else None
        # Reminders are for people: to a program the same event twice would be two failures. A deployment has its own.
        if news.occasion in (NotificationReason.FAILED, NotificationReason.RECOVERED):
            event = RECOVERED if news.occasion is NotificationReason.RECOVERED else RECOVERY_FAILED
            announce(event, news.environment, service=news.service, error_id=error_id)
        entry: dict[str, Any] = {
            "error_id": error_id,
            "deployment_id": deployment_id,
            "environment": news.environment,
            "service": news.service,
            "occasion": news.occasion,
            "subject": text.subject(message),
            "body": text.body(message),
        }
        if (cache := shared_cache()) is not None:
            await asyncio.to_thread(cache.publish, STREAM, entry)


async def _send(block: str, notification: Notification) -> None:
    message = await asyncio.to_thread(_with_answers, block, notification)
    failed = await deliver(block, message)
    if failed is not None:
        first = notification.news[0]
        log.warning("%s: %s", text.subject(notification.message), failed)
        error_id = first.cause.error.error_id if first.cause else None
        announce(NOT_NOTIFIED, first.environment, service=first.service, error_id=error_id, text=failed)


def _with_answers(block: str, notification: Notification) -> Message:
    """Add the links that answer a ticket, where they are served; each channel gets its own."""
    settings, message = current_settings(), notification.message
    cause = notification.news[0].cause if len(notification.news) == 1 else None
    if settings.answers_url is None or cause is None or cause.ticket is None or cause.error.resolved_at is not None:
        return message
    try:
        key = answer_key(settings.data_dir.absolute())
    except OSError as error:
        log.warning("answer links are left out: their key cannot be read: %s", error.strerror)
        return message
    expires = datetime.now(UTC) + VALID_FOR
    tokens = {
        action: AnswerToken(
            ticket_id=cause.ticket.ticket_id, action=action, expires_at=expires, nonce=new_nonce(), channel=block
        )
        for action in AnswerAction
    }
    return with_links(message, settings.answers_url, {action: sign(token, key) for action, token in tokens.items()})
