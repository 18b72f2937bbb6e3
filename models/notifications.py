"""Notifications: what is reported to people, why, and the message that each service renders in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from models.errors import RecordedError
from models.operations import Operation
from models.recovery import RecoveryExecution, Ticket


class NotificationReason(StrEnum):
    """Reason of a notification."""

    FAILED = "failed"
    REMINDER = "reminder"
    RECOVERED = "recovered"
    DEPLOYED = "deployed"
    DEPLOYMENT_FAILED = "deployment failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentNotifications:
    """Notifications sent about an error: how many times about the failure, when last, and when about its end."""

    times: int = 0
    last_at: datetime | None = None
    end_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedError:
    """An error with everything that decides whether to notify; `ticket` is its open ticket."""

    error: RecordedError
    reported: SentNotifications
    resolution: str = ""
    ticket: Ticket | None = None
    executions: Sequence[RecoveryExecution] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What is due to be reported: an error, a deployment, or a deployment with the error it failed of."""

    occasion: NotificationReason
    environment: str
    service: str | None = None
    cause: ReportedError | None = None
    operation: Operation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewsDetails:
    """What the records say of a cause beyond its error.

    `first_cause` is one sentence from the evidence, `means` the pattern's sentence on what it means; both may be empty.
    `lines` are the log lines that show it. `flow_run_id` is the run in which it happened. `rollback` is what was rolled
    back of the operation that failed of it.
    """

    first_cause: str = ""
    means: str = ""
    lines: tuple[str, ...] = ()
    affected: tuple[str, ...] = ()
    flow_run_id: str = ""
    rollback: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Public addresses that messages link to; None where none is known."""

    prefect: str | None = None
    grafana: str | None = None


class Tone(StrEnum):
    """Tone of a message; each service has a colour for it."""

    CRITICAL = "critical"
    FAILURE = "failure"
    WARNING = "warning"
    SUCCESS = "success"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One named fact of a message; `command` is True where its value is to be typed."""

    name: str
    value: str
    command: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link to a page."""

    label: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message before it is rendered for a service. No text of it is escaped or cut yet.

    `lines` are evidence, `items` a list.
    """

    tone: Tone
    title: str
    summary: str = ""
    items: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file of text that goes with a mail; `subtype` is what kind of text, such as html."""

    name: str
    text: str
    subtype: str = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A message to send, with the news that it reports; a digest reports several."""

    message: Message
    news: tuple[News, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A notification block: the environments that name it, and whether the server has it."""

    block: str
    environments: tuple[str, ...]
    kept: bool
