"""Recovery attempts, tickets and pauses."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from models.audit import SYSTEM, Actor
from models.errors import Strategy
from models.operations import Runner

NOT_ALLOWED = "may not be done"
"""Of an action that lacks a fact; the words before name the action, and those after it the fact."""


class RecoveryMethod(StrEnum):
    """How error recovery ended: `deferred` continues at the next evaluation, `proposed` is a dry run."""

    AUTOMATIC = "automatic"
    MANUAL_REQUIRED = "manual_required"
    NONE_NEEDED = "none_needed"
    DEFERRED = "deferred"
    PROPOSED = "proposed"

    @property
    def label(self) -> str:
        """As people read it."""
        return {
            "automatic": "automatic repair",
            "manual_required": "needs a person",
            "none_needed": "nothing to do",
        }.get(self, str(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonStop:
    """A stop of a service by a person. Not `certain`: nothing shows how the service ended, so it may have been one."""

    certain: bool
    reason: str


class StepSpec(StrEnum):
    """One step: of the service, or of all targets at once."""

    START = "start"
    RESTART = "restart"
    RECREATE = "recreate"
    JOIN = "join its networks"
    STOP_HOLDER = "stop the holder"
    START_HOLDER = "start the holder again"
    PULL = "pull"
    REMOVE_IMAGES = "remove images"
    REMOVE_NETWORKS = "remove networks"
    ROLL_BACK = "roll back"
    RUN_SCRIPT = "run the script"
    VERIFY = "verify"


UNDO = "undo: "
"""Begins the name of a step that rolls another one back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One step with what it is done to: a service's name, or the targets."""

    doing: StepSpec
    service: str
    targets: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """What a journal calls it."""
        return ", ".join(self.targets) if self.targets else self.service


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryStep:
    """One step of a recovery, its target and its result; `ok` is None while it runs."""

    name: str
    target: str
    ok: bool | None
    detail: str
    started_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryExecution:
    """One recovery of one error: its journal while it runs, its record afterwards.

    `attempt_id` is the error's id and the number of the attempt. `engine` is the address of the Docker engine,
    `host_id` the host that acts. `points` is its cost to the budgets; a dry run costs none. `runner` is the process
    that runs it, or ran it last. `planned` are all its steps, `undo` those that roll them back; `undone`: they were
    rolled back. The four moments are when the error was seen, judged, acted on and proven resolved.
    """

    error_id: str
    strategy: Strategy
    started_at: datetime
    ended_at: datetime | None = None
    success: bool | None = None
    steps: tuple[RecoveryStep, ...] = ()
    final_status: str = "running"
    manual_intervention_required: bool = False
    attempt_id: str | None = None
    attempt: int = 1
    environment: str = ""
    service: str | None = None
    engine: str = ""
    host_id: str = ""
    points: int = 1
    runner: Runner | None = None
    planned: tuple[PlannedStep, ...] = ()
    undo: tuple[PlannedStep, ...] = ()
    undone: bool = False
    detected_at: datetime | None = None
    diagnosed_at: datetime | None = None
    acted_at: datetime | None = None
    verified_at: datetime | None = None


class TicketState(StrEnum):
    """State of a ticket."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketEntry:
    """One entry of a ticket's history. `by` names its author; `actor` says how much of that is proven."""

    at: datetime
    by: str
    what: str
    actor: Actor = SYSTEM


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A ticket: the question to a person about one cause, with the evidence.

    `evidence` names the bundles of errors.db. `since` is when the cause was first seen. `flow_run_id` is the run that
    is suspended until the ticket is answered, None if none is.
    """

    ticket_id: str
    error_id: str
    environment: str
    title: str
    opened_at: datetime
    state: TicketState = TicketState.OPEN
    service: str | None = None
    steps: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()
    affected_services: tuple[str, ...] = ()
    history: tuple[TicketEntry, ...] = field(default=())
    resolved_at: datetime | None = None
    evidence: tuple[str, ...] = ()
    since: datetime | None = None
    flow_run_id: str | None = None


class Choice(StrEnum):
    """What a person may decide about a ticket."""

    RETRY = "retry"
    AGAIN = "again from the start"
    SKIP = "skip"
    ROLL_BACK = "roll back"
    GIVE_UP = "give up"
    RESOLVED = "resolved by hand"

    @property
    def acts(self) -> bool:
        """Whether the ticket calls for an action now."""
        return self in (Choice.RETRY, Choice.AGAIN, Choice.ROLL_BACK)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryOutcome:
    """Result of error recovery: success, method and steps. `again_at` is when a postponed next attempt may begin."""

    error_id: str
    success: bool
    method: RecoveryMethod
    steps: tuple[str, ...]
    ticket_id: str | None = None
    reason: str = ""
    again_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Automatic recovery is off; None means every environment or service, or until a person switches it on."""

    environment: str | None
    service: str | None
    until: datetime | None
    reason: str
    by: str
    paused_at: datetime
    actor: Actor = SYSTEM

    @property
    def words(self) -> str:
        """What is off, until when and why."""
        until = f" until {self.until:%Y-%m-%d %H:%M} UTC" if self.until is not None else ""
        return f"automatic recovery of {self.service or 'every service'} is off{until}: {self.reason}"
