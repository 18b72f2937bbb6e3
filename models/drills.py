"""Drills: which faults an environment may be given on purpose, and what is recorded of one."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from models.compose import NetworkPlace
from models.fields import Name, Strict, TimeOfWeek


class Fault(StrEnum):
    """What a drill does to one container of a service."""

    KILL = "kill"
    STOP = "stop"
    UNHEALTHY = "unhealthy"
    FULL_DISK = "full-disk"
    REFUSED_LOGIN = "refused-login"
    LOST_NETWORK = "lost-network"


class DrillObjectives(Strict):
    """How soon after the fault what has to have happened."""

    detect_seconds: float = Field(default=60.0, gt=0, le=3600, description="A failure is on record.")
    repair_seconds: float = Field(default=300.0, gt=0, le=3600, description="All is healthy again, by itself.")
    message_seconds: float = Field(
        default=300.0, gt=0, le=3600, description="A message is sent; without blocks in notify none is expected."
    )


class Drills(Strict):
    """Which faults `roas drill` may make. Each asks a person all the same."""

    faults: tuple[Fault, ...] = Field(min_length=1, description="The faults that may be made.")
    services: tuple[Name, ...] = Field(default=(), description="Services they may be made in; none means all.")
    windows: tuple[TimeOfWeek, ...] = Field(default=(), description="When a drill may begin; none means always.")
    objectives: DrillObjectives = Field(default=DrillObjectives(), description="What a drill is measured against.")


class FaultPlaces(BaseModel):
    """What a container offers to faults, and what undoes them.

    `networks` are those of its own project, `path` is a tmpfs with a size, `role` one of PostgreSQL that logs in.
    """

    model_config = ConfigDict(frozen=True)

    stop_signal: str = "SIGTERM"
    has_check: bool = False
    path: str = ""
    networks: tuple[NetworkPlace, ...] = ()
    role: str = Field(default="", pattern=r"^[A-Za-z0-9_]{0,63}$")


class DrillRecord(BaseModel):
    """One drill: the fault, what undoes it, and when what followed.

    `undone_at` is None where the fault was repaired before its end. `error_id` is the first failure since the fault.
    """

    model_config = ConfigDict(frozen=True)

    deployment_id: str
    service: str
    fault: Fault
    container_id: str
    made_at: datetime
    until: datetime
    objectives: DrillObjectives = DrillObjectives()
    message_expected: bool = False
    places: FaultPlaces = FaultPlaces()
    detected_at: datetime | None = None
    healthy_at: datetime | None = None
    message_at: datetime | None = None
    undone_at: datetime | None = None
    error_id: str = ""
    verdict: str = ""
    passed: bool | None = None

    @property
    def repaired_at(self) -> datetime | None:
        """When all was healthy again; None where the end of the drill had to undo the fault."""
        return self.healthy_at if self.undone_at is None else None

    def seconds_to(self, at: datetime | None) -> float | None:
        """The seconds from the fault to a moment."""
        return None if at is None else max(timedelta(), at - self.made_at).total_seconds()
