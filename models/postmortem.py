"""Post-mortems: the records that belong to one failure, and the document made from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from models.errors import DescribedPattern
from models.evidence import EvidenceBundle
from models.metrics import Alert
from models.operations import Operation, StateChange
from models.records import ErrorDetails, Explanation, ShownLine


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRecords:
    """All records of one failure.

    `subject` is the id that was asked for, `telling` the first evidence that shows a failure. `changes` are the state
    changes of the operation by the numbers of their rows, `resolutions` what ended errors, `lines` the log lines that
    show the cause, and `patterns` the shipped patterns that named it, by name.
    """

    subject: str
    environment: str
    operation: Operation | None = None
    changes: Mapping[int, StateChange] = field(default_factory=dict)
    errors: tuple[ErrorDetails, ...] = ()
    resolutions: Mapping[str, str] = field(default_factory=dict)
    bundles: tuple[EvidenceBundle, ...] = ()
    telling: EvidenceBundle | None = None
    alerts: tuple[Alert, ...] = ()
    explanation: Explanation | None = None
    lines: tuple[ShownLine, ...] = ()
    patterns: Mapping[str, DescribedPattern] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One event. `source` is the table that has it and `row` the id of its row there."""

    at: datetime
    source: str
    row: str
    event: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceImpact:
    """Services that were affected in one way. `until` is None while they are. `row` names the error or operation."""

    services: tuple[str, ...]
    effect: str
    since: datetime
    until: datetime | None
    row: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One thing that was tried: by whom, and its result. `helped` is None where the record does not say."""

    at: datetime
    by: str
    action: str
    result: str
    helped: bool | None
    row: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence of a post-mortem, and the row that it is taken from."""

    text: str
    row: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Postmortem:
    """What the record says of one failure; an empty part has no rows.

    `since` and `until` are the first and the last moment of the timeline. `cause` names the first cause, `facts` are
    what shows it.
    """

    subject: str
    environment: str
    since: datetime | None
    until: datetime | None
    timeline: tuple[TimelineEntry, ...]
    cause: tuple[Finding, ...]
    facts: tuple[Finding, ...]
    lines: tuple[ShownLine, ...]
    impact: tuple[ServiceImpact, ...]
    attempts: tuple[Attempt, ...]
    still_open: tuple[Finding, ...]
    to_change: tuple[Finding, ...]
