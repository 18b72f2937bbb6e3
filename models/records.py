"""Records: values that only the stores know to make, each a view of recorded rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from models.audit import SYSTEM, Actor
from models.errors import Pattern, RecordedError
from models.health import HealthReport
from models.metrics import Alert, Baseline, Dependency, Prediction
from models.operations import Runner, StateChange
from models.recovery import RecoveryExecution


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseResult:
    """Who holds an environment. `acquired` is True where the asker does; then `holder` is the asker.

    `holder` is a deployment id, `runner` the process that lives it; None where it is not known.
    """

    acquired: bool
    holder: str
    reason: str
    expires_at: datetime
    acquired_at: datetime
    runner: Runner | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What ran in an environment: the rendered Compose application and the exact images.

    `digests` maps a service to its image digest, `images` a service to the id of its image, `hashes` a
    service to Compose's hash of its configuration. `files` maps the path of a mounted file to the hash of
    its content, `variables` the name of a variable to the keyed hash of its value. `proven` is True once
    every service held its health for its stabilisation time; `reason` says what the release came of.
    """

    release_id: str
    environment: str
    deployment_id: str
    created_at: datetime
    compose: dict[str, Any]
    digests: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    proven: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedScore:
    """A service's health score (0-100) at one moment, with the parts it was made of."""

    environment: str
    service: str
    score: float
    grade: str
    scored_at: datetime
    parts: dict[str, Any] = field(default_factory=dict)
    suggestions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRecord:
    """All that one monitoring evaluation of an environment found.

    `states` are the states of anomaly detectors by service and metric. `dependencies` is None where they are
    unknown this time; those recorded before then stay.
    """

    environment: str
    evaluated_at: datetime
    states: Mapping[tuple[str, str], bytes] = field(default_factory=dict)
    baselines: Sequence[Baseline] = ()
    dependencies: Sequence[Dependency] | None = None
    alerts: Sequence[Alert] = ()
    predictions: Sequence[Prediction] = ()
    scores: Sequence[RecordedScore] = ()
    health: HealthReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Automatic recovery is switched off; None for environment or service means all of them.

    `until` is None where a person must switch it on again.
    """

    environment: str | None
    service: str | None
    until: datetime | None
    reason: str
    by: str
    paused_at: datetime
    actor: Actor = SYSTEM


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRecords:
    """All records that recovery reads, so that it can continue with the last ones while the stores are unavailable.

    `executions` are the attempts of the last day in every environment: they share the budgets of a host. `started_at`
    is when the latest proven start ended. `patterns` is None if they were never read.
    """

    environment: str
    executions: tuple[RecoveryExecution, ...] = ()
    pauses: tuple[Pause, ...] = ()
    releases: tuple[Release, ...] = ()
    last_changes: Mapping[str, StateChange] = field(default_factory=dict)
    open_errors: tuple[RecordedError, ...] = ()
    lease: LeaseResult | None = None
    started_at: datetime | None = None
    meant_to_run: bool = True
    patterns: tuple[Pattern, ...] | None = None
