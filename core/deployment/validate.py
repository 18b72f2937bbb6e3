"""Decisions before a start: each fact becomes a check with its severity, its finding and its fix."""

from __future__ import annotations

from datetime import datetime

from core.deployment.checks.engine import (
    check_another_run,
    check_clock,
    check_compose,
    check_engine,
    check_gaps,
    check_host,
    check_variables,
)
from core.deployment.checks.resources import (
    check_container_names,
    check_mounts,
    check_networks,
    check_ports,
    check_reservations,
    check_volumes,
)
from core.deployment.checks.services import check_dependencies, check_healthchecks, check_images
from models.containers import SystemSample
from models.validation import ValidationResult
from models.validation_facts import Facts, Trouble


def validate(facts: Facts, now: datetime) -> ValidationResult:
    """Judge everything that was found out. A check whose facts could not be had is left out, never passed."""
    checks = [
        *check_engine(facts),
        *check_compose(facts),
        *check_variables(facts),
        *check_another_run(facts),
        *check_clock(facts),
        *check_host(facts),
        *check_gaps(facts),
    ]
    if not isinstance(facts.declared, Trouble):
        application = facts.declared
        checks += [
            *check_dependencies(application),
            *check_images(facts),
            *check_healthchecks(facts, application),
            *check_ports(facts),
            *check_container_names(facts, application),
            *check_mounts(facts),
            *check_networks(facts, application),
            *check_volumes(facts, application),
            *check_reservations(facts, application),
        ]
    return ValidationResult(
        environment=facts.environment,
        validated_at=now,
        checks=tuple(checks),
        system_resources=_resources(facts.host),
        docker_environment=_docker(facts),
    )


def _resources(host: SystemSample | None) -> dict[str, object]:
    if host is None:
        return {}
    return {
        "cpus": host.cpus,
        "load_1m": host.load_1m,
        "memory_total_bytes": host.memory_total_bytes,
        "memory_available_bytes": host.memory_available_bytes,
        "disk_total_bytes": host.disk_total_bytes,
        "disk_free_bytes": host.disk_free_bytes,
        "inodes_free": host.inodes_free,
        "open_files_limit": host.open_files_limit,
    }


def _docker(facts: Facts) -> dict[str, object]:
    compose = facts.compose_version
    found: dict[str, object] = {"engine": facts.engine_url}
    if not isinstance(compose, Trouble):
        found["compose_version"] = compose
    if not isinstance(facts.engine, Trouble):
        found |= {
            "version": facts.engine.version,
            "api_version": facts.engine.api_version,
            "operating_system": facts.engine.operating_system,
            "architecture": facts.engine.architecture,
            "storage_driver": facts.engine.storage_driver,
        }
    found["images"] = {image.reference: image.held.image_id for image in facts.images if image.held is not None}
    return found
