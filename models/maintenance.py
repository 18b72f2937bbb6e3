"""Maintenance of a host: what is stopped for it, what is done meanwhile, and what came up again."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

MAINTAINED_BY = "maintenance"
"""The first word of the ids of maintenances, which ask for their operations."""


class Stage(StrEnum):
    """How far a maintenance came: on the disk before what it names begins, and in this order only."""

    STOPPING = "stopping"
    STOPPED = "stopped"
    WORKING = "working"
    STARTING = "starting"


class MaintainedEnvironment(BaseModel):
    """An environment that is brought up again, by the operation `start_id`, with the `services` that ran before.

    `after` is our stop, or the newest operation before a boot: a newer one is a person's word. `services` are empty
    after a boot: what ended then. `outcome` is how it is in the end.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    services: tuple[str, ...] = ()
    after: str
    start_id: str
    down_at: datetime | None = None
    outcome: str = ""
    failed: bool = False


class Maintenance(BaseModel):
    """One maintenance of a host; `boot` is the boot of the machine in which it began.

    `command` is without secrets, `output` its last lines; `worked` says how it ended. Environments are in the order in
    which they stop.
    """

    model_config = ConfigDict(frozen=True)

    maintenance_id: str
    host_id: str
    host: str
    boot: str
    by: str
    reason: str
    begun_at: datetime
    until: datetime
    stage: Stage = Stage.STOPPING
    reboot: bool = False
    command: str = ""
    worked: str = ""
    failed: bool = False
    output: tuple[str, ...] = ()
    environments: tuple[MaintainedEnvironment, ...] = ()

    @property
    def title(self) -> str:
        """Of what, by whom and why; the reason of its pauses too."""
        return f"{self.maintenance_id} of {self.host} by {self.by}: {self.reason or 'no reason given'}"

    @property
    def success(self) -> bool:
        """Whether the work is done and all is up that was to be."""
        return not (self.failed or any(one.failed for one in self.environments))

    @property
    def lines(self) -> tuple[str, ...]:
        """What was done, and how each environment is, in the order of the stop."""
        done = (self.worked,) if self.worked else ()
        return (*done, *(f"{one.name}: {one.outcome or self.stage}" for one in self.environments))
