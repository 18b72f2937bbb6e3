"""Rehearsals of updates: what is recorded of one."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class RehearsedService(BaseModel):
    """How one service came up in the copy, or failed; `line` is what its log says of that."""

    model_config = ConfigDict(frozen=True)

    service: str
    ok: bool = True
    seconds: float = 0.0
    reason: str = ""
    line: str = ""


class UpdateRehearsal(BaseModel):
    """One rehearsal of an update, in a copy of the application. Sizes are in bytes.

    `changes` are the services that the update changes. `tried` is how each change alone ended, empty where it works;
    `culprits` are those to blame. `notes` say what the copy is not given.
    """

    model_config = ConfigDict(frozen=True)

    passed: bool | None = None
    verdict: str = ""
    changes: tuple[str, ...] = ()
    services: tuple[RehearsedService, ...] = ()
    hooks: tuple[str, ...] = ()
    tried: dict[str, str] = {}
    culprits: tuple[str, ...] = ()
    snapshot: str = ""
    notes: tuple[str, ...] = ()
    image_bytes: int = 0
    data_bytes: int = 0
    memory_bytes: int = 0
