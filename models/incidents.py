"""Incidents: an error as it was reported."""

from __future__ import annotations

from dataclasses import dataclass

from models.errors import Category
from models.evidence import EvidenceBundle


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
