"""What an environment does by the clock."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from models.fields import FilePath, Name, Strict, Text
from models.hooks import Command, ExecSpec, Hook

_MINUTES_OF_A_JOB = 60.0


class Job(Strict):
    """Work of one's own: a one-off container of `service`, a command inside a service, or one on this machine."""

    service: Name | None = Field(
        default=None, description="A service of the Compose files, of any profile; it runs as a one-off container."
    )
    exec: ExecSpec | None = Field(default=None, description="A command inside a running container of a service.")
    command: Command | None = Field(
        default=None,
        description="With `service` in place of the service's own command; alone a command on the machine of roas.",
    )

    @model_validator(mode="after")
    def _one_thing(self) -> Job:
        alone = self.command if self.service is None else None
        if sum(value is not None for value in (self.service, self.exec, alone)) != 1 or (
            self.exec is not None and self.command is not None
        ):
            raise ValueError("give exactly one of service, exec or command")
        return self


class Schedule(Strict):
    """One thing that is done by the clock."""

    run: Literal["snapshot", "rehearse", "update", "sync", "drift", "report"] | Job = Field(
        description="What is done: one of our own operations, or a job of yours."
    )
    at: Text = Field(
        description='When: "every day 03:00 Europe/Berlin", "every monday, thursday 03:00", "every 15 minutes", or the '
        'five fields of cron, "0 3 * * *". Without a time zone it is in UTC.'
    )
    rehearse: bool = Field(
        default=False, description="Of an update: it is rehearsed in a copy first, and left out where that fails."
    )
    limit_minutes: float | None = Field(
        default=None, gt=0, le=1440, description="So long it may take. By default an hour for a job, else no limit."
    )
    late_minutes: float = Field(
        default=15.0, ge=1, le=1440, description="What has not begun so long after its time counts as missed."
    )
    overlap: Literal["skip", "wait"] = Field(
        default="skip", description="Where its last run goes on: leave this one out, which is reported, or wait."
    )
    retries: int = Field(default=0, ge=0, le=10, description="So often it is tried again where it fails.")
    retry_after_seconds: float = Field(default=60.0, ge=0, le=3600, description="The pause before each of these.")
    ping_file: FilePath | None = Field(
        default=None,
        description="File with an address of healthchecks.io, or of another service with its protocol, that is pinged "
        "when a run begins, and at its end with how it ended.",
    )

    @model_validator(mode="after")
    def _only_of_an_update(self) -> Schedule:
        if self.rehearse and self.run != "update":
            raise ValueError("rehearse is of an update: write `run: update`, or leave it out")
        return self

    @property
    def does(self) -> str:
        """What it does, in words."""
        if not isinstance(self.run, Job):
            return self.run
        if self.run.exec is not None:
            return f"{' '.join(self.run.exec.command)} in {self.run.exec.service}"
        words = " ".join(self.run.command or ())
        return f"{self.run.service} {words}".strip() if self.run.service else words

    @property
    def limit_seconds(self) -> float | None:
        """So long a run may take, in seconds; None where there is no limit."""
        minutes = self.limit_minutes
        if minutes is None and isinstance(self.run, Job):
            minutes = _MINUTES_OF_A_JOB
        return None if minutes is None else minutes * 60

    def as_hook(self, name: str) -> Hook | None:
        """Its job as a hook of this name, which is run in the same way; None where it is an operation of ours."""
        if not isinstance(self.run, Job):
            return None
        job = self.run
        limit = self.limit_seconds or _MINUTES_OF_A_JOB * 60
        return Hook(name=name, service=job.service, exec=job.exec, command=job.command, timeout_seconds=limit)
