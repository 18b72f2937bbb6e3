"""Incidents: an error as it was reported, and where it happened."""

from __future__ import annotations

from dataclasses import dataclass

from models.compose import Application
from models.environments import Environment
from models.errors import Category
from models.evidence import EvidenceBundle
from models.metrics import Dependency


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One reported error.

    `source` says who reported it: person, watch, collection, prediction, event, validation or an operation.
    `failing_services` is how many fail at once. `evidence` was taken already and is not stored yet. `causes` are
    the categories that earlier attempts at the same incident were made for.
    """

    environment: str
    text: str
    source: str = "person"
    service: str | None = None
    deployment_id: str | None = None
    predictive: bool = False
    failing_services: int = 1
    evidence: tuple[EvidenceBundle, ...] = ()
    causes: tuple[Category, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentContext:
    """The environment, its application and who needs whom in it; None and empty where they could not be read."""

    environment: Environment | None
    application: Application | None
    dependencies: tuple[Dependency, ...] = ()
    compose_files: tuple[str, ...] = ()
