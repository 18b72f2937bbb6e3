"""An environment that is open: its Docker engine, Compose, variables, secrets and redactor."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from adapters.compose.cli import ComposeCli
from adapters.compose.declared_secrets import concealed_values, secrets_of_document
from adapters.compose.variables import process_environment, secret_values
from adapters.docker.engine import DockerEngine
from core.errors.redact import Redactor
from models.containers import ContainerState
from models.environments import Environment
from tasks.runtime.clients import find_environment
from tasks.runtime.retry_policy import make_async, retry_read


class Project:
    """A loaded environment and its clients, opened once for an operation, a collection or an evaluation of a watch.

    Files of variables and secrets are read at their first use, which raises an EnvironmentFileError where one is
    unusable, and after `refresh` again. Threads may share one object.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self._engine = _shared_engine(environment.engine)
        self.refresh()

    def __repr__(self) -> str:
        return f"Project({self.environment.name!r})"

    def refresh(self) -> None:
        """Read variables and secrets again at their next use, since their files may have changed."""
        self._is_concealed = False
        self._secrets: Mapping[str, str] | None = None
        self._variables: Mapping[str, str] | None = None

    @property
    def engine(self) -> DockerEngine:
        """The client of its Docker engine, which redacts its secrets."""
        return self._engine if self._is_concealed else self._conceal()

    def inspect_containers(self, service: str | None = None) -> list[ContainerState]:
        """Inspect every container of the project or of one service, stopped ones too, by service and number."""
        return self.engine.containers.inspect_project(self.environment.project, service)

    def redactor(self) -> Redactor:
        """The redactor of its secrets as they are now."""
        return Redactor(self._conceal().concealed_values)

    def secrets(self) -> Mapping[str, str]:
        """The value of every available secret, by name."""
        if self._secrets is None:
            self._secrets = secret_values(self.environment)
        return self._secrets

    def variables(self) -> Mapping[str, str]:
        """The process environment of Compose for the environment's files, secrets included."""
        if self._variables is None:
            self._variables = process_environment(self.environment, os.environ)
        return self._variables

    def compose(self, document: Mapping[str, Any] | None = None) -> ComposeCli:
        """Compose for the environment's files, or for a release's document with the values that this carries."""
        # Compose reads plain files of variables itself: what is made next has what they hold now.
        engine = self._conceal()
        if document is None:
            return ComposeCli(self.environment, self.variables())
        engine.conceal(secrets_of_document(self.environment, document))
        return ComposeCli(self.environment, process_environment(self.environment, os.environ, document), document)

    def _conceal(self) -> DockerEngine:
        self._engine.conceal(concealed_values(self.environment))
        self._is_concealed = True
        return self._engine


def open_project(name: str, compose_files: tuple[str, ...] = ()) -> Project:
    """Open an environment as `find_environment` finds it."""
    return Project(find_environment(name, compose_files))


load_project = retry_read(make_async(open_project))


@lru_cache(maxsize=4)
def _shared_engine(address: str) -> DockerEngine:
    return DockerEngine(address)
