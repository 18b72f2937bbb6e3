"""What a start, an update or a sync has found out and done so far, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Failed

from core.deployment.release import Document
from core.deployment.update import part_of
from flows.execution.going_back import Change
from models.compose import Application, FetchOptions, Plan
from models.failures import ValidationFailedError
from models.health import Health, HealthReport, ServiceHealth
from models.results import OperationResult, ServiceStart
from models.validation import Facts, ValidationResult
from tasks.deployment.services import NO_FETCH


@dataclass(slots=True, kw_only=True)
class Start(Change):
    """A start or an update: what it has found out and done so far."""

    wanted_plan: str | None = None
    options: FetchOptions = NO_FETCH
    looked: Facts = field(init=False)
    plan: Plan = field(init=False)
    builds: Mapping[str, str] = field(default_factory=dict)
    """The fingerprints of what is built."""
    scope: frozenset[str] | None = None
    """The services of a start of some services alone."""
    fetched_names: dict[str, str] = field(default_factory=dict)
    """The images that the names of what is fetched referred to before."""
    names_before: dict[str, str] = field(default_factory=dict)
    """The same, of an interrupted update whose images run already."""
    answered: dict[str, int] = field(default_factory=dict)
    """What the proxies in front of what is changed answered before anything was touched."""
    template: Document | None = None
    replaced_since: float | None = None
    """When the first container was replaced, as a moment of the monotonic clock."""
    services: tuple[ServiceStart, ...] = ()
    health: HealthReport | None = None
    validation: ValidationResult | None = None

    @property
    def noun(self) -> str:
        """What a person calls it."""
        return "an update" if self.options.update else "a start"

    @property
    def part(self) -> Application:
        """What is started of the application."""
        return self.application if self.scope is None else part_of(self.application, self.scope)

    def refusal(self, error: ValidationFailedError) -> State[Any]:
        """How the flow ends where validation stopped the start."""
        why, validation, recorder = error.what, self.validation, self.recorder
        errors = tuple(check.finding for check in validation.critical) if validation else ()
        result = recorder.result(
            why, success=False, validation=validation, errors=errors or (why,), recovery=recorder.recovery
        )
        return Failed(message=f"validation of {recorder.name} failed: {why}", data=result)

    def result(self) -> OperationResult:
        """The result of a start that was proven."""
        services, health, validation = self.services, self.health, self.validation
        if health is not None and health.overall is Health.HEALTHY:
            unproven = health.count(ServiceHealth.UNPROVEN)
            without = f", {unproven} without health check or probe" if unproven else ""
            reason = f"{len(services) - unproven} services proven{without}"
        else:
            reason = f"health {health and health.overall}"
        return self.recorder.result(reason, services=services, health=health, validation=validation)
