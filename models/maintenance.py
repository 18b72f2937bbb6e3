"""Maintenance of a host: what is stopped for it, what is done meanwhile, and what came up again."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Stage(StrEnum):
    """How far a maintenance came. It is on the disk before what it names begins, and goes in this order only."""

    STOPPING = "stopping"
    STOPPED = "stopped"
    WORKING = "working"
    STARTING = "starting"


class MaintainedEnvironment(BaseModel):
    """An environment that is brought up again, with the `services` that ran.

    `after` is its operation that was the newest then, or our stop: a newer one but `start_id`, our own restart, is a
    person's word. `outcome` is why it is not up, or was left; empty where it is up.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    services: tuple[str, ...]
    after: str
    start_id: str
    down_at: datetime | None = None
    up_at: datetime | None = None
    outcome: str = ""
    failed: bool = False

    def __str__(self) -> str:
        """In words, as the report has it."""
        if self.up_at is None:
            return f"{self.name}: {'not up' if self.failed else 'left'}: {self.outcome or 'nothing was done yet'}"
        down = f", down for {(self.up_at - self.down_at).total_seconds():.0f} s" if self.down_at else ""
        return f"{self.name}: up{down}"


class Maintenance(BaseModel):
    """One maintenance of a host, or what is done after a boot that nobody `announced`.

    `boot` names the boot of the machine in which it began. `command` is without secrets, and empty where there is none;
    `worked` says how that ended. Environments are in the order in which they are stopped.
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
    stage: Stage
    announced: bool = True
    reboot: bool = False
    command: str = ""
    worked: str = ""
    failed: bool = False
    output: tuple[str, ...] = ()
    environments: tuple[MaintainedEnvironment, ...]

    @property
    def title(self) -> str:
        """Of what, by whom and why: the reason of its pauses too."""
        what = f"maintenance of {self.host} by {self.by}" if self.announced else f"boot of {self.host}"
        return f"{what} ({self.maintenance_id}): {self.reason}"

    @property
    def success(self) -> bool:
        """Whether the work is done and all is up that was to be."""
        return not (self.failed or any(one.failed for one in self.environments))

    @property
    def lines(self) -> tuple[str, ...]:
        """What was done, and how each environment is, in the order of the stop."""
        return (*((self.worked,) if self.worked else ()), *map(str, self.environments))
