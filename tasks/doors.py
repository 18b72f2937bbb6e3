"""The doors a run needs, opened once a process and shared by its tasks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from adapters.compose_cli import ComposeCli
from adapters.docker_engine import DockerEngine
from adapters.environment_files import environment_for_compose_files, load_environment
from adapters.secrets import process_environment, secret_values
from core.redaction import Redactor
from models.environments import Environment
from models.settings import Settings


def engine_of(environment: Environment) -> DockerEngine:
    """The door to the environment's Docker engine, which lets none of the environment's secrets through."""
    engine = _engine(environment.engine)
    engine.conceal(secret_values(environment).values())
    return engine


def compose_of(environment: Environment, document: Mapping[str, Any] | None = None) -> ComposeCli:
    """Compose, with the variables and secrets this environment may see; of a release's document where one
    is given, else of the environment's files."""
    return ComposeCli(environment, process_environment(environment, os.environ), document)


def redactor_of(environment: Environment) -> Redactor:
    """Takes this environment's secret values out of whatever is about to be written."""
    return Redactor(engine_of(environment).concealed)


def find_environment(name: str, compose_files: tuple[str, ...] = ()) -> Environment:
    """The environment of that name, or one made up for bare Compose files.

    Raises:
        EnvironmentFileError: There is no such file, or it is not a valid environment.
    """
    if compose_files:
        files = [Path(file) for file in compose_files]
        return environment_for_compose_files(files, project=name, cwd=Path.cwd())
    return load_environment(name, Settings().environments_dir)


@lru_cache(maxsize=4)
def _engine(address: str) -> DockerEngine:
    return DockerEngine(address)
