"""Look before anything is touched."""

from __future__ import annotations

from dataclasses import replace

from prefect import task

from adapters import preflight
from models.environments import Environment
from models.validation import ValidationResult
from models.validation_facts import Facts
from tasks.runtime.clients import redactor_of
from tasks.runtime.retry_policy import READ


@task(name="look before", task_run_name="look before the start of {environment.name}", **READ)
async def gather_facts(environment: Environment) -> Facts:
    """Gather every fact that a start of the environment is validated from."""
    return await preflight.gather_facts(environment)


def without_secrets(environment: Environment, validation: ValidationResult) -> ValidationResult:
    """The validation as it may be kept: an image's name or a path in a finding may hold a token."""
    clean = redactor_of(environment).text
    checks = [replace(one, finding=clean(one.finding), fix=clean(one.fix)) for one in validation.checks]
    return replace(validation, checks=tuple(checks))
