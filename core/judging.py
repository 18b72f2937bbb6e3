"""A service judged by what its Compose file says it is: a job that ends, or something that stays up."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from core.collection import ILL
from core.health import judge_service
from models.compose import ServiceDeclaration
from models.environments import ServiceSpec
from models.errors_seen import Category, Severity, Strategy, Verdict
from models.health import HealthReport, ProbeResult, ServiceVerdict
from models.sightings import Sighting


def worst_service(report: HealthReport) -> ServiceVerdict:
    """The service that an unhealthy environment is to be blamed on: a required one that is down, if there is one."""
    return next((one for one in report.services if one.required and one.health in ILL), report.services[0])


def as_failure(verdict: Verdict) -> Verdict:
    """The verdict on words that came out of a failure: it may be of unknown cause, but not benign."""
    if verdict.category is not Category.BENIGN:
        return verdict
    return dataclasses.replace(
        verdict,
        category=Category.UNKNOWN,
        severity=Severity.HIGH,
        strategy=Strategy.INVESTIGATE,
        reason="the operation failed, and its words name no known cause",
    )


def judge_declared(
    declaration: ServiceDeclaration, sightings: Sequence[Sighting], probe: ProbeResult | None, spec: ServiceSpec
) -> ServiceVerdict:
    """Judge a declared service from its containers and its probe.

    A running service counts as a job only where somebody awaits its end: one that merely has neither check
    nor restart policy may well be meant to stay up. What has ended well counts as done for both.
    """
    mine = [seen for seen in sightings if seen.service == declaration.name and not seen.one_off]
    runs = any(seen.state == "running" for seen in mine)
    one_shot = declaration.awaited if runs else declaration.one_shot
    return judge_service(declaration.name, mine, probe, spec=spec, one_shot=one_shot)
