"""Drills: which faults an environment may be given on purpose, and what is recorded of one."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from models.compose import NetworkPlace
from models.fields import Name, Strict, TimeOfWeek

_Seconds = Annotated[float, Field(gt=0, le=3600)]


class Fault(StrEnum):
    """What a drill does to one container of a service."""

    KILL = "kill"
    STOP = "stop"
    UNHEALTHY = "unhealthy"
    FULL_DISK = "full-disk"
    LOST_NETWORK = "lost-network"
    SLOW = "slow"
    REFUSED_LOGIN = "refused-login"


class Drills(Strict):
    """Which faults `roas drill` may make, and how soon after one what has to have happened. A person begins each."""

    faults: tuple[Fault, ...] = Field(min_length=1, description="The faults that may be made.")
    services: tuple[Name, ...] = Field(default=(), description="Services they may be made in; none means all.")
    windows: tuple[TimeOfWeek, ...] = Field(default=(), description="When a drill may begin; none means always.")
    detect_seconds: _Seconds = Field(default=60.0, description="A failure is on record.")
    repair_seconds: _Seconds = Field(default=300.0, description="All is healthy again, by itself.")
    message_seconds: _Seconds = Field(default=300.0, description="A message is sent, where notify names a block.")


class FaultPlaces(BaseModel):
    """What a container offers to faults: `path` is a tmpfs with a size, `networks` are its own project's.

    `limit` is the engine's field of its processor time, with its usual and its slow value. `database` of PostgreSQL
    can be closed and opened by `user` from another database.
    """

    model_config = ConfigDict(frozen=True)

    container_id: str
    stop_signal: str = "SIGTERM"
    has_check: bool = False
    path: str = ""
    networks: tuple[NetworkPlace, ...] = ()
    limit: tuple[str, int, int] | None = None
    user: str = ""
    database: str = ""
    password_secret: str | None = None


class DrillRecord(FaultPlaces):
    """One drill. `undone_at` is None where all was healthy again before its end had to undo the fault."""

    deployment_id: str
    service: str
    fault: Fault
    made_at: datetime
    until: datetime
    detected_at: datetime | None = None
    healthy_at: datetime | None = None
    message_at: datetime | None = None
    undone_at: datetime | None = None
    verdict: str = ""
    passed: bool | None = None

    def cut_off(self, at: datetime | None = None) -> DrillRecord:
        """The record of a drill that did not come to its end, with the moment from which its fault was undone."""
        verdict = "cut off before its end" + ("; its fault was undone" if at else "")
        return self.model_copy(update={"undone_at": at, "passed": False, "verdict": verdict})

    def __str__(self) -> str:
        """In words, as people are shown it."""
        ended = {True: "passed", False: "missed", None: "has not ended"}[self.passed]
        return f"{self.made_at:%Y-%m-%d %H:%M} UTC {self.fault} of {self.service} {ended}: {self.verdict}".rstrip(": ")
