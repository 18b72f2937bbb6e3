"""Decisions before a start: each fact becomes a check with its severity, its finding and its fix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from core.deployment.checks import engine, resources, services
from models.compose import Application
from models.containers import SystemSample
from models.validation import Facts, Trouble, ValidationResult

_OF_THE_HOST = (
    *("cpus", "load_1m", "memory_total_bytes", "memory_available_bytes", "disk_total_bytes", "disk_free_bytes"),
    *("inodes_free", "open_files_limit"),
)
_OF_THE_ENGINE = ("version", "api_version", "operating_system", "architecture", "storage_driver")


def validate(facts: Facts, now: datetime, redact: Callable[[str], str] = str) -> ValidationResult:
    """Judge everything that was found out. A check whose facts could not be had is left out, never passed.

    `redact` removes secrets from a text: an image's name or a path in a finding may hold a token.
    """
    checks = [*engine.CHECKS]
    if not isinstance(facts.declared, Trouble):
        checks += [*services.CHECKS, *resources.CHECKS]
    results = [result for check in checks for result in check(facts)]
    return ValidationResult(
        environment=facts.environment,
        validated_at=now,
        checks=tuple(replace(result, finding=redact(result.finding), fix=redact(result.fix)) for result in results),
        system_resources=_resources(facts.host),
        docker_environment=_docker(facts),
    )


def refused_service(result: ValidationResult, application: Application | None) -> str | None:
    """Return the service that all critical findings are about; None where they are about several, or about none."""
    subjects = {check.subject for check in result.critical}
    service_names = () if application is None else application.services
    return next(iter(subjects)) if len(subjects) == 1 and subjects <= {*service_names} else None


def _resources(host: SystemSample | None) -> dict[str, object]:
    return {} if host is None else {name: getattr(host, name) for name in _OF_THE_HOST}


def _docker(facts: Facts) -> dict[str, object]:
    docker_environment: dict[str, object] = {"engine": facts.engine_url}
    if not isinstance(facts.compose_version, Trouble):
        docker_environment["compose_version"] = facts.compose_version
    if not isinstance(facts.engine, Trouble):
        docker_environment |= {name: getattr(facts.engine, name) for name in _OF_THE_ENGINE}
    docker_environment["images"] = {
        image.reference: image.held.image_id for image in facts.images if image.held is not None
    }
    return docker_environment
