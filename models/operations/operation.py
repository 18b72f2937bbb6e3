"""Deployment operations, their steps, and who holds an environment."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

from models.audit import SYSTEM, Actor
from models.operations.record import OperationRecord, Runner, read_record


class OperationType(StrEnum):
    """What a deployment operation does."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    HEALTH_CHECK = "health_check"


class OperationStatus(StrEnum):
    """State of a deployment operation."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"


OWN_KINDS = {"rotate-secret": "rotation", "rehearse-update": "rehearsal"}
"""What people call the operations of flows that have another name."""

COMMANDS = {
    "health_check": "health",
    "restore": "snapshot restore",
    "rotation": "secret rotate",
    "rehearsal": "update --rehearse",
}
"""The commands of operations that people call by another name."""

RECOVERY_OF = "recovery of"
"""The reason of a hold by a recovery begins so, and names the service after it."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One recorded deployment operation.

    `user_agent` says who or what asked: a person by the kernel's user, a schedule, an automation. `actor` has the
    same in parts, with the name that was claimed. `host_id` is the host that runs it, empty where it is not known.
    `details` is its record as it is stored and shown as JSON; `record` is what it says.
    """

    deployment_id: str
    operation_type: OperationType
    environment: str
    status: OperationStatus
    started_at: datetime
    ended_at: datetime | None = None
    user_agent: str | None = None
    actor: Actor = SYSTEM
    details: dict[str, Any] = field(default_factory=dict)
    host_id: str = ""

    @property
    def duration(self) -> timedelta | None:
        """How long it took, or None while it runs."""
        return None if self.ended_at is None else self.ended_at - self.started_at

    @cached_property
    def record(self) -> OperationRecord:
        """What is recorded of it, by whichever version."""
        return read_record(self.details)

    @property
    def kind(self) -> str:
        """What a person calls it: rollbacks, updates, syncs and restores of data are recorded as starts, drills and
        rehearsals of updates as health checks."""
        record, flow = self.record, self.flow
        if record.rollback_to or flow == "rollback":
            return "rollback"
        if record.source is not None or flow == "sync":
            return "sync"
        if record.update is not None or flow == "update":
            return "update"
        if record.restore or flow == "restore":
            return "restore"
        if flow in OWN_KINDS:
            return OWN_KINDS[flow]
        return "drill" if record.drill is not None or flow == "drill" else str(self.operation_type)

    @property
    def again(self) -> str:
        """The command that begins the same operation."""
        name = COMMANDS.get(self.kind, self.kind)
        secret = (self.record.rotated,) if self.record.rotated else ()
        return " ".join(("roas", name, self.environment, *self.asked_services, *secret))

    @property
    def asked_services(self) -> tuple[str, ...]:
        """The services that were named as it was asked for; none where it is of all."""
        return tuple((self.record.asked.parameters.get("services") if self.record.asked else None) or ())

    @property
    def typed(self) -> bool:
        """Whether a person asked for it with a command of this machine, and so was shown how it ended."""
        return re.fullmatch(r"person: \S+ \(roas [a-z ]+\)", self.user_agent or "") is not None

    @property
    def data_back(self) -> str:
        """The command that puts back the data of before an update that failed; empty where no data may have changed."""
        snapshots = self.record.snapshots
        if self.status is not OperationStatus.FAILED or not self.record.data or not snapshots:
            return ""
        return f"roas snapshot restore {self.environment} {snapshots[-1].id}"

    @property
    def flow(self) -> str:
        """The name of the flow that was asked for; empty where it is not recorded."""
        return self.record.asked.flow if self.record.asked else ""


FOUND = "found"
"""Step of a start: the state before it is recorded, so that another process can roll it back as well.

Nothing was changed before it.
"""

HOOK_BEGUN = "begun as a hook"
"""Step of an update: the hook of this name has begun."""

DATA_SAVED = "data saved"
"""Step of an update: its data is saved; the detail is the snapshot's id."""

SERVING = "serving"
"""Step of an operation: a service serves, and has to stay so for some time."""

PROVEN = "proven"
"""Step of an operation: a service is proven."""

INTERRUPTION_SECONDS = "interruption_seconds"
"""Detail of a state change: from the moment that an operation stopped the service until it was up again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """Change of a service from one state to another, and its reason."""

    deployment_id: str
    service: str
    previous_state: str | None
    new_state: str
    changed_at: datetime
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationStep:
    """One completed step of an operation, not to be repeated; None for service means the whole."""

    deployment_id: str
    step: str
    finished_at: datetime
    service: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseResult:
    """Who holds an environment. `acquired` is True where the asker does; then `holder` is the asker.

    `holder` is a deployment id, `runner` the process that lives it; None where it is not known. Its times are of the
    database's clock.
    """

    acquired: bool
    holder: str
    reason: str
    expires_at: datetime
    acquired_at: datetime
    runner: Runner | None = None
    host_id: str = ""
