"""The record of an operation: what it was asked for, what it found, decided and did, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, PlainSerializer, SerializerFunctionWrapHandler, ValidationError
from pydantic import model_serializer as serializer

from models.audit import Actor
from models.drills import DrillRecord
from models.gates import PolicyResult
from models.rehearsals import UpdateRehearsal
from models.sources import SourceRevision

Stamp = Annotated[datetime, PlainSerializer(datetime.isoformat)]
NOTHING_TOUCHED = "no container was touched"
"""How an operation was undone that failed before it touched anything, as `undone` says it."""
INTERRUPTED = "Interrupted"
"""The error of an operation whose runner is gone."""

Milliseconds = Annotated[float, PlainSerializer(lambda seconds: round(seconds, 3))]
"""Seconds, written to the millisecond."""


class RecordValue(BaseModel):
    """A value in a record. Fields that were not set are not written, and those of later versions are not read."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    @serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if name in self.model_fields_set}


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """The process that runs an operation.

    `kernel` names one boot of one machine and one process id namespace: only there do `pid` and `process_started` (in
    that kernel's ticks) show whether it still runs.
    """

    host: str
    kernel: str
    pid: int
    process_started: int
    flow_run_id: str = ""

    def __str__(self) -> str:
        """As a person would look for it."""
        return f"pid {self.pid} on {self.host}"


class FlowRequest(RecordValue):
    """Which flow was asked for, with the parameters that say what it is to do."""

    flow: str = ""
    parameters: dict[str, Any] = {}


class Resumption(RecordValue):
    """That an interrupted operation was taken up again, by whom, and how it had been interrupted."""

    at: datetime
    by: str = ""
    actor: Actor = Actor()
    interrupted: str = ""
    host_id: str = ""


class GateOverride(RecordValue):
    """Who let an update go on that its gate refused, and why."""

    by: str
    reason: str


class ScanRecord(RecordValue):
    """What the scan of a service's new image found; `counting` are the new findings that decide, `new` counts all."""

    service: str = ""
    outcome: str
    program: str = ""
    text: str
    fixed: int = 0
    new: int = 0
    counting: tuple[dict[str, str], ...] = ()


class GateRecord(RecordValue):
    """What a gate decided, and when it was asked; `text` says why it refused or warned."""

    outcome: str
    text: str = ""
    judged_at: datetime | None = None
    policies: tuple[PolicyResult, ...] = ()
    scans: tuple[ScanRecord, ...] = ()
    override: GateOverride | None = None


class HookRun(RecordValue):
    """One run of a hook.

    `does` is what it did in words, `service` the one it concerns, None for a command on this machine. `exit_code` is
    None where it did not end by itself; `problem` then says why. `lines` are the last lines of its output, redacted.
    `container` is the one-off container that ran it. `evidence` is the id of the bundle with the whole output.
    `sentence` is how it ended, as messages to people say it.
    """

    name: str
    when: str
    does: str
    service: str | None
    began_at: Stamp
    took_seconds: Milliseconds
    ok: bool
    warns: bool = False
    exit_code: int | None = None
    problem: str = ""
    lines: tuple[str, ...] = ()
    container: str = ""
    evidence: str = ""
    sentence: str = ""


class CanaryRecord(RecordValue):
    """How a canary stands: None for `passed` while it goes on; `figures` by service and name."""

    minutes: float
    observed_seconds: float = 0.0
    services: tuple[str, ...] = ()
    passed: bool | None = None
    verdict: str = ""
    figures: dict[str, dict[str, Any]] = {}


class SnapshotRecord(RecordValue):
    """A snapshot that was taken before an update: its size and how long it took, and whether it was rehearsed."""

    id: str
    parts: tuple[str, ...] = ()
    bytes: int = 0
    seconds: float = 0.0
    proof: str = ""


class NoteRecord(RecordValue):
    """What the new image of a service changes, with the subjects of its commits; `more_commits` counts the rest."""

    service: str = ""
    text: str
    commits: tuple[str, ...] = ()
    more_commits: int = 0


class FetchFailure(RecordValue):
    """Whose image could not be pulled or built."""

    service: str
    kind: str = ""


class Lift(RecordValue):
    """Who let updates take an image again that was held back."""

    by: str
    at: Stamp
    image: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenRevision(SourceRevision):
    """The revision that a sync takes; `before` is the one that ran, empty where none did."""

    before: str = ""


class OperationRecord(BaseModel):
    """What is recorded of an operation, from its begin to its end; what is None or was not set is not recorded.

    Keys that another version wrote are kept as they are. Sentences are for people; nothing is decided by their words.
    """

    model_config = ConfigDict(extra="allow", defer_build=True)

    # What was asked for, by which process, and who took it up again.
    asked: FlowRequest | None = None
    flow_run_id: str = ""
    runner: Runner | None = None
    traceparent: str = ""
    waits_until: datetime | None = None
    resumed: tuple[Resumption, ...] = ()
    update: Literal["all"] | tuple[str, ...] | None = None
    """The services that an update is of."""
    source: TakenRevision | None = None
    rollback_to: str = ""
    """The release that a rollback brings back."""
    restore: str = ""
    """The snapshot that a restore puts back."""
    drill: DrillRecord | None = None
    rehearsal: UpdateRehearsal | None = None
    rotated: str = ""
    """The secret whose value a rotation changes."""

    # What was planned and done.
    plan: dict[str, str] = {}
    """The plan's id as `id`, and the action of each service."""
    changes: tuple[str, ...] = ()
    inputs: str = ""
    fetched: dict[str, str] = {}
    not_taken: dict[str, str] = {}
    """Why an update did not take a service's new image."""
    not_fetched: FetchFailure | None = None
    image_names_restored: tuple[str, ...] = ()
    release_notes: tuple[NoteRecord, ...] = ()
    gate: GateRecord | None = None
    hooks: tuple[HookRun, ...] = ()
    hooks_begun: tuple[str, ...] = ()
    """The hooks before containers change that have begun, and so may have changed data."""
    hook_images: dict[str, str] = {}
    errors_before: Mapping[str, tuple[int, float] | tuple[int, float, tuple[str, ...]]] = {}
    """How many lines told of failures before an update, in how many seconds, with which patterns."""
    canary: CanaryRecord | None = None
    snapshots: tuple[SnapshotRecord, ...] = ()
    safety_snapshot: str = ""
    data_of: str = ""
    proof: str = ""
    waits: dict[str, float] = {}
    held_up_by: dict[str, dict[str, float]] = {}
    kept: tuple[str, ...] = ()
    critical_path: tuple[tuple[str, float], ...] = ()
    replacements_settled: tuple[str, ...] = ()
    left_alone: dict[str, str] = {}
    returning_with_engine: tuple[str, ...] = ()
    asked_again: dict[str, str] = {}
    left_as_they_were: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    # How it ended.
    health: str = ""
    release: str = ""
    """The release that was kept."""
    release_not_kept: str = ""
    pinned: str | None = None
    """The revision that syncs stay at from now on; empty where the release had none."""
    reason: str = ""
    advice: str = ""
    error: str = ""
    """The name of the error's class."""
    error_id: str = ""
    interrupted: str = ""
    """How it was interrupted; it can be taken up again."""
    notified_at: Stamp | None = None

    # How it was rolled back, what stays, and what is held back.
    undone: str = ""
    undo_failed: str = ""
    rolled_back_to: str = ""
    release_start: OperationRecord | None = None
    """How the release started that was gone back to."""
    kept_values: str | None = None
    mounted_copies: str | None = None
    data: str = ""
    """What may have changed data."""
    data_proven: bool = False
    held_back: dict[str, str] = {}
    lifted: Lift | None = None
    checkout_back_at: str = ""
    revision_held_back: str = ""

    @serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = write(self)
        return {name: values[name] for name in values if name in self.model_fields_set and values[name] is not None}


def read_record(stored: Mapping[str, Any]) -> OperationRecord:
    """Read a record as any version stored it; values that this one cannot read count as not recorded."""
    try:
        return OperationRecord.model_validate(stored)
    except ValidationError as error:
        unreadable = {problem["loc"][0] for problem in error.errors()}
        return OperationRecord.model_validate({name: stored[name] for name in stored if name not in unreadable})


def write_record(record: OperationRecord) -> dict[str, Any]:
    """Return the record as values of JSON, as it is stored."""
    return record.model_dump(mode="json")
