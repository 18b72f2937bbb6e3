"""Recovery: what was tried about an error, and what a person is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from models.audit import SYSTEM, Actor
from models.errors import Strategy
from models.operations import Runner


class RecoveryMethod(StrEnum):
    """How error recovery ended: `deferred` is taken up by the next look, `proposed` is a dry run."""

    AUTOMATIC = "automatic"
    MANUAL_REQUIRED = "manual_required"
    NONE_NEEDED = "none_needed"
    DEFERRED = "deferred"
    PROPOSED = "proposed"


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
class Step:
    """One step of a recovery: what was done, to what, and how it went; `ok` is None while it is being done."""

    name: str
    target: str
    ok: bool | None
    detail: str
    started_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryExecution:
    """One automatic recovery of one error: its journal while it is carried out, its record afterwards.

    `attempt_id` is the error's id and the number of the attempt. `engine` is the address of the Docker engine
    that was acted on, `points` what the attempt took of the budgets; a dry run takes none. `runner` is the
    process that lives it, or lived it last. `planned` are all its steps, `undo` those that take them back;
    `undone` says that they were taken back. The four moments tell when the error was seen, judged, acted on
    and proven mended.
    """

    error_id: str
    strategy: Strategy
    started_at: datetime
    ended_at: datetime | None = None
    success: bool | None = None
    steps: tuple[Step, ...] = ()
    final_status: str = "running"
    manual_intervention_required: bool = False
    attempt_id: str | None = None
    attempt: int = 1
    environment: str = ""
    service: str | None = None
    engine: str = ""
    points: int = 1
    runner: Runner | None = None
    planned: tuple[PlannedStep, ...] = ()
    undo: tuple[PlannedStep, ...] = ()
    undone: bool = False
    detected_at: datetime | None = None
    diagnosed_at: datetime | None = None
    acted_at: datetime | None = None
    verified_at: datetime | None = None

    @property
    def mended_after_seconds(self) -> float | None:
        """From the first sight of the error to the proof; None where it was not proven."""
        if self.detected_at is None or self.verified_at is None:
            return None
        return (self.verified_at - self.detected_at).total_seconds()


class TicketState(StrEnum):
    """Where a manual-intervention ticket stands."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketEntry:
    """One line of a ticket's history. `by` names who wrote it; `actor` tells what of that is proven."""

    at: datetime
    by: str
    what: str
    actor: Actor = SYSTEM


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a person is asked to do about one cause, and all that was known when asking.

    `evidence` names the bundles of errors.db that show it. `since` is when the cause was first seen.
    `flow_run_id` is the run that is suspended until the ticket is answered; None where none waits.
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
    SKIP = "skip"
    ROLL_BACK = "roll back"
    GIVE_UP = "give up"
    RESOLVED = "resolved by hand"

    @property
    def acts(self) -> bool:
        """Whether something is to be done now."""
        return self in (Choice.RETRY, Choice.ROLL_BACK)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryOutcome:
    """What error recovery returns: did it work, by which method, in which steps.

    `again_at` is when the next attempt may begin, where one was put off.
    """

    error_id: str
    success: bool
    method: RecoveryMethod
    steps: tuple[str, ...]
    ticket_id: str | None = None
    reason: str = ""
    again_at: datetime | None = None
