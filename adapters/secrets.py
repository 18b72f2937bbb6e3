"""The door to secrets and variables: read where they lie, handed on in memory, never written or logged."""

from __future__ import annotations

import os
from collections.abc import Mapping

from dotenv import dotenv_values

from models.environments import Environment, Secret

_DECIDED_BY_THE_ENVIRONMENT = (
    "COMPOSE_FILE",
    "COMPOSE_PROJECT_NAME",
    "COMPOSE_PROFILES",
    "COMPOSE_ENV_FILES",
    "DOCKER_CONTEXT",
)


def secret_values(environment: Environment) -> dict[str, str]:
    """The value of every secret that can be had, by name.

    A secret that cannot be had is not in the answer; `missing_secrets` says why, and validation reports it.
    """
    known = variables_of(environment, os.environ)
    values = {}
    for secret in environment.secrets:
        value, _ = _look_up(secret, known)
        if value:
            values[secret.name] = value
    return values


def missing_secrets(environment: Environment) -> dict[str, str]:
    """Why each secret that cannot be had is missing, by name."""
    known = variables_of(environment, os.environ)
    found = {secret.name: _look_up(secret, known) for secret in environment.secrets}
    return {name: why for name, (value, why) in found.items() if not value}


def process_environment(environment: Environment, variables: Mapping[str, str]) -> dict[str, str]:
    """The process environment to run Compose in: the given variables, the secrets, and the engine.

    What the environment itself decides (files, project, profiles, engine) is not left to variables.
    """
    kept = {name: value for name, value in variables.items() if name not in _DECIDED_BY_THE_ENVIRONMENT}
    return {**kept, **secret_values(environment), "DOCKER_HOST": environment.engine}


def variables_of(environment: Environment, variables: Mapping[str, str]) -> dict[str, str]:
    """Every variable that Compose can fill in, with its value: the process's own win over files.

    Without files named by the environment, Compose reads `.env` beside the first Compose file.
    """
    files = environment.env_files or (environment.compose_files[0].parent / ".env",)
    values: dict[str, str] = {}
    for file in files:
        if os.access(file, os.R_OK):
            values.update({name: value or "" for name, value in dotenv_values(file).items()})
    return {**values, **variables}


def _look_up(secret: Secret, known: Mapping[str, str]) -> tuple[str, str]:
    if secret.file is None:
        return known.get(secret.name, ""), f"variable {secret.name} is not set or empty"
    try:
        value = secret.file.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        return "", f"file {secret.file} cannot be read: {reason}"
    return value, f"file {secret.file} is empty"
