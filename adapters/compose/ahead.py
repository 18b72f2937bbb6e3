"""Compose's answers about an environment, asked before they are needed, and again where a source has changed since."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TypeVar

from adapters.compose.cli import ComposeCli
from adapters.compose.known_applications import KnownApplications
from adapters.host.background import call_in_background
from models.compose import Application, ComposeVariable
from models.environments import Environment

Answer = TypeVar("Answer")


class ComposeAhead:
    """Asks what validation asks of Compose, each question in a thread of its own, as soon as it is made.

    Its methods raise what those of `ComposeCli` raise.
    """

    def __init__(self, environment: Environment, variables: Mapping[str, str], applications: KnownApplications) -> None:
        self._environment = environment
        self._variables = dict(variables)
        self._known = applications
        self._compose = ComposeCli(environment, variables)
        # Before Compose reads them, so that a change meanwhile counts as one.
        self._sources = self._sources_now()
        self._application = call_in_background(self._compose.render)
        self._used = call_in_background(self._compose.variables)
        self._version = call_in_background(self._compose.version)

    def is_about(self, environment: Environment, variables: Mapping[str, str]) -> bool:
        """Whether the questions were about this environment with these variables, and its sources are the same now."""
        same = (self._environment, self._variables) == (environment, dict(variables))
        return same and bool(self._sources) and self._sources == self._sources_now()

    def version(self) -> str:
        """The version of Compose."""
        return _answer(self._version, self._compose.version)

    def render(self) -> Application:
        """What the Compose files declare."""
        return _answer(self._application, self._compose.render)

    def variables(self) -> tuple[ComposeVariable, ...]:
        """The variables that the Compose files use."""
        return _answer(self._used, self._compose.variables)

    def _sources_now(self) -> str:
        return self._known.fingerprint(self._environment, self._variables)


def _answer(future: Future[Answer], ask: Callable[[], Answer]) -> Answer:
    # What failed then may succeed now, and else fails with what is true now.
    return ask() if future.exception() is not None else future.result()
