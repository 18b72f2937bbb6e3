"""The door to secrets and variables: read where they lie, handed on in memory, never written or logged."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from dotenv.main import DotEnv

from adapters.private_files import MIB, read_regular
from models.environments import Environment, Secret
from models.failures import EnvironmentFileError

_DECIDED_BY_THE_ENVIRONMENT = (
    "COMPOSE_FILE",
    "COMPOSE_PROJECT_NAME",
    "COMPOSE_PROFILES",
    "COMPOSE_ENV_FILES",
    "DOCKER_CONTEXT",
)

_REFERENCE = re.compile(r"\$\{([^}:]*)")


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

    Raises:
        EnvironmentFileError: A file of variables is no regular file, too large, or no UTF-8 text.
    """
    files = environment.env_files or (environment.compose_files[0].parent / ".env",)
    values: dict[str, str] = {}
    for file in files:
        if os.access(file, os.R_OK):
            values.update(_variables_in(file))
    return {**values, **variables}


def _variables_in(file: Path) -> dict[str, str]:
    try:
        text = read_regular(file).decode("utf-8")
        _check_expansion(text)
    except (OSError, ValueError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
        raise EnvironmentFileError(
            f"File of variables {file} cannot be used: {getattr(error, 'strerror', None) or reason}.",
            advice="Give a text file with lines such as NAME=value.",
        ) from error
    return {name: value or "" for name, value in dotenv_values(stream=StringIO(text)).items()}


def _check_expansion(text: str) -> None:
    """Refuse variables whose values repeat each other until they fill the memory."""
    sizes: dict[str, int] = {}
    total = 0
    for name, value in DotEnv(None, StringIO(text), interpolate=False).parse():
        if value is not None:
            named = _REFERENCE.findall(value)
            sizes[name] = len(value) + sum(sizes.get(one, len(os.environ.get(one, ""))) for one in named)
            total += sizes[name]
        if total > MIB:
            raise ValueError(f"with variables filled in it is larger than {MIB:,} bytes")


def _look_up(secret: Secret, known: Mapping[str, str]) -> tuple[str, str]:
    if secret.file is None:
        return known.get(secret.name, ""), f"variable {secret.name} is not set or empty"
    try:
        value = read_regular(secret.file).decode("utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        return "", f"file {secret.file} cannot be read: {reason}"
    return value, f"file {secret.file} is empty"
