"""One update as its steps around the replacement of containers see it."""

from __future__ import annotations

from dataclasses import dataclass

from flows.operation.recorder import OperationRecorder
from models.compose import Application, Plan
from models.environments import Environment
from models.records import Release


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateContext:
    """One update: the images are fetched, and `plan` says which containers it replaces.

    `release` is the last proven one, None for an application's first start. `changed` are the services that the update
    changes: those of the plan, and those that a run of it which was interrupted has changed already. `override_gate` is
    a user's reason to go on although the gate refuses the images.
    """

    recorder: OperationRecorder
    environment: Environment
    application: Application
    plan: Plan
    release: Release | None
    changed_services: tuple[str, ...]
    override_gate: str | None = None
