"""What an operation would undo and lose, for a person to confirm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePreview:
    """What a restore of a snapshot loses. `changes` are those to each part of the data since, in words.

    `other_release` says that the data is of another release than the one that runs; empty where it is of that one, or
    goes back together with it.
    """

    environment: str
    snapshot_id: str
    proof: str
    """Whether a restore of it was rehearsed."""
    loss: str
    changes: Mapping[str, str]
    other_release: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackPreview:
    """Which release a rollback brings back. `later_releases` are undone, with their changes, newest first."""

    environment: str
    release_id: str
    proven_at: datetime
    later_releases: tuple[str, ...]
    data: RestorePreview | None = None
