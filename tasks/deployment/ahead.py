"""Ask for an operation what no operation changes, while its command still waits for Prefect.

That is what Compose says of the files, which counts only while they are unchanged, and what registries say of images.
The stores are opened meanwhile, too.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from adapters.compose.ahead import ComposeAhead
from adapters.host.background import call_in_background
from adapters.stores.migrate import HEADS, file_revision
from models.compose import OF_UPDATE, FetchOptions, RegistryAnswer
from models.failures import RoasError
from models.settings import current_settings
from tasks.deployment.images import ask_registries, pulled_references
from tasks.runtime.clients import known_applications
from tasks.runtime.project import Project, open_project
from tasks.runtime.stores import open_stores

_FRESH_SECONDS = 5.0
"""An answer that is older is asked for again: the operation has waited for another one to end."""


@dataclass(frozen=True, slots=True)
class _Ahead:
    compose: ComposeAhead
    answers: Future[dict[str, RegistryAnswer]]
    asked_at: float = field(default_factory=time.monotonic)

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self.asked_at < _FRESH_SECONDS


_ahead: dict[str, _Ahead] = {}


def look_ahead(name: str, compose_files: tuple[str, ...], kind: str, parameters: Mapping[str, Any]) -> None:
    """Begin to ask in the background for a flow of this kind, `start` or `update`, with these parameters.

    Nothing is raised, since a caller that needs an answer that failed asks again.
    """
    options = FetchOptions(pull=bool(parameters.get("pull")), build=bool(parameters.get("build")))
    if kind == "update":
        options = replace(OF_UPDATE, services=frozenset(parameters.get("services") or ()) or None)
    try:
        project = open_project(name, compose_files)
        compose = ComposeAhead(project.environment, project.variables(), known_applications())
    except (RoasError, OSError):
        return
    if _open_as_they_are():
        # A failure is reported by the caller that uses them.
        call_in_background(open_stores)
    answers = call_in_background(lambda: ask_registries(project, pulled_references(project, compose.render(), options)))
    _ahead[project.environment.name] = _Ahead(compose, answers)


def compose_ahead(project: Project) -> ComposeAhead | None:
    """Compose's answers about the environment as its files are now; None where they were not asked for lately."""
    ahead = _ahead.get(project.environment.name)
    if ahead is None or not ahead.is_fresh:
        return None
    return ahead.compose if ahead.compose.is_about(project.environment, project.variables()) else None


def answers_ahead(environment: str, references: Collection[str]) -> dict[str, RegistryAnswer]:
    """What registries answered lately about these images, by reference; those that were not asked for are left out."""
    ahead = _ahead.get(environment)
    if ahead is None or not ahead.is_fresh or ahead.answers.exception() is not None:
        return {}
    answers = ahead.answers.result()
    return {name: answers[name] for name in references if name in answers}


def _open_as_they_are() -> bool:
    """Whether the stores' files are there and of this version: making or upgrading them is part of the operation."""
    settings = current_settings()
    if settings.stores_url is not None:
        return False
    try:
        return all(file_revision(settings.store_path(store)) == head for store, head in HEADS.items())
    except OSError:
        return False
