"""Look before anything is touched."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from prefect import task

from adapters.preflight import gather_facts
from models.environments import Environment
from models.validation import ValidationResult
from models.validation_facts import Facts
from tasks.runtime.clients import find_environment, redactor_of
from tasks.runtime.retry_policy import READ


@task(name="look before", task_run_name="look before the start of {name}", **READ)
async def look_before(name: str, compose_files: tuple[str, ...] = ()) -> tuple[Environment, Facts]:
    """The environment, and every fact its validation is judged from.

    Raises:
        EnvironmentFileError: The environment's file cannot be used.
    """
    environment = await asyncio.to_thread(find_environment, name, compose_files)
    return environment, await gather_facts(environment)


def without_secrets(environment: Environment, validation: ValidationResult) -> ValidationResult:
    """The validation as it may be kept: an image's name or a path in a finding may hold a token."""
    clean = redactor_of(environment).text
    checks = [replace(one, finding=clean(one.finding), fix=clean(one.fix)) for one in validation.checks]
    return replace(validation, checks=tuple(checks))
