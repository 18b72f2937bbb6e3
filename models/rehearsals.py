"""Rehearsals of updates: what is recorded of one."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class UpdateRehearsal(BaseModel):
    """One rehearsal of an update, in a copy of the application. Sizes are in bytes, of images those of new ones.

    `changes` are the services that the update changes, `took_seconds` how long each service took to start in the copy.
    `tried` is how each change alone ended, empty where it works; `culprits` are those to blame. `notes` say how hooks
    ended, and what the copy lacks.
    """

    model_config = ConfigDict(frozen=True)

    passed: bool
    verdict: str
    changes: tuple[str, ...] = ()
    took_seconds: dict[str, float] = {}
    tried: dict[str, str] = {}
    culprits: tuple[str, ...] = ()
    snapshot: str = ""
    notes: tuple[str, ...] = ()
    image_bytes: int = 0
    data_bytes: int = 0
    memory_bytes: int = 0
