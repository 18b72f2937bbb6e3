"""What a simulated engine has: images with versions, volumes with data, containers with programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from math import ceil
from typing import Any

from tests.simulation.clock import BEGIN

KILLED, TERMINATED = 137, 143
NANOSECONDS = 1_000_000_000


class Outcome(StrEnum):
    """What the program of an image does once it is started."""

    SERVES = "serves"
    CRASHES = "crashes"
    UNHEALTHY = "unhealthy"
    HANGS = "hangs"
    """It never becomes ready."""
    CRASHES_LATER = "crashes later"
    """Some seconds after it became ready."""


OUTCOMES = (
    Outcome.SERVES,
    Outcome.CRASHES,
    Outcome.SERVES,
    Outcome.UNHEALTHY,
    Outcome.HANGS,
    Outcome.CRASHES_LATER,
)
"""What the versions of a drawn scenario do, in turn: a third of them serve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of a service's program. It migrates data of an older schema, and cannot read data of a newer one."""

    service: str
    number: int
    outcome: Outcome = Outcome.SERVES
    starts_in: float = 2.0
    crashes_after: float = 5.0
    """Of `CRASHES_LATER`: s after it became ready."""
    schema: int = 1
    is_blind: bool = False
    """Whether it serves also on data of a newer schema, without a word, though it cannot read them."""

    @property
    def image_id(self) -> str:
        """The id of its image, which says its service and number."""
        return "sha256:" + f"{self.service}-{self.number}".encode().hex().ljust(64, "0")


@dataclass(frozen=True, slots=True)
class Row:
    """What a program wrote: which row, which version of which service, when, and on which schema."""

    number: int
    service: str
    version: int
    written_at: float
    schema: int


@dataclass(slots=True)
class Data:
    """The contents of a volume: the schema and the rows. `of` is the snapshot that was put back last.

    `aside` is what is put back beside them, and `is_half` says that they are neither of before nor of that.
    """

    schema: int = 0
    rows: list[Row] = field(default_factory=list)
    of: str = ""
    aside: bytes | None = None
    is_half: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """A health check: it fails after so many failures in a row; those of the start period do not count. In seconds."""

    interval: float
    retries: int
    start_period: float
    start_interval: float

    @property
    def fails_after(self) -> float:
        """Seconds from the start until a program that never passes it is unhealthy."""
        in_period = ceil(self.start_period / self.start_interval)
        first_counted = in_period * self.start_interval if in_period else self.interval
        return first_counted + (self.retries - 1) * self.interval


@dataclass(slots=True, eq=False)
class Container:
    """A container and its program."""

    container_id: str
    name: str
    version: Version
    config: dict[str, Any]
    host_config: dict[str, Any]
    networks: dict[str, dict[str, Any]]
    mounts: list[dict[str, Any]]
    created_at: datetime
    status: str = "created"
    exit_code: int = 0
    oom_killed: bool = False
    health: str | None = None
    checked: list[dict[str, Any]] = field(default_factory=list)
    """The last results of its health check, as the engine reports them."""
    checked_at: datetime | None = None
    passes: bool = False
    """Whether its health check passes where it is run."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    restart_count: int = 0
    back_off: int = 0
    stopped_by_hand: bool = False
    put_back: bool = False
    """Whether it was made as another one was before, and not by Compose."""
    log: list[str] = field(default_factory=list)
    life: int = 0
    """Counts its starts, so that what was planned for an earlier one does not touch this one."""

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return self.config.get("Labels") or {}

    @property
    def check(self) -> Check | None:
        """Its health check, with the engine's defaults; None where it has none."""
        declared = self.config.get("Healthcheck") or {}
        if not declared.get("Test"):
            return None
        return Check(
            interval=(declared.get("Interval") or 30 * NANOSECONDS) / NANOSECONDS,
            retries=declared.get("Retries") or 3,
            start_period=(declared.get("StartPeriod") or 0) / NANOSECONDS,
            start_interval=(declared.get("StartInterval") or 5 * NANOSECONDS) / NANOSECONDS,
        )

    @property
    def is_up(self) -> bool:
        """Whether its program runs."""
        return self.status in ("running", "paused")

    @property
    def is_listed(self) -> bool:
        """Whether an engine counts it among those that run: also while it is about to start it again."""
        return self.is_up or self.status == "restarting"

    @property
    def serves(self) -> bool:
        """Whether it answers requests."""
        return self.status == "running" and self.health in (None, "healthy")

    def document(self) -> dict[str, Any]:
        """What the engine reports when it is inspected."""
        return {
            "Id": self.container_id,
            "Name": f"/{self.name}",
            "Created": go_time(self.created_at),
            "Image": self.version.image_id,
            "RestartCount": self.restart_count,
            "State": {
                "Status": self.status,
                "Running": self.is_listed,
                "Paused": self.status == "paused",
                "Restarting": self.status == "restarting",
                "OOMKilled": self.oom_killed,
                "Dead": False,
                "Pid": 4000 if self.is_up else 0,
                "ExitCode": self.exit_code,
                "Error": "",
                "StartedAt": go_time(self.started_at),
                "FinishedAt": go_time(self.finished_at),
                **({"Health": {"Status": self.health, "Log": list(self.checked)}} if self.health is not None else {}),
            },
            "Config": self.config,
            "HostConfig": self.host_config,
            "NetworkSettings": {"Networks": self.networks, "Ports": {}},
            "Mounts": self.mounts,
        }

    def line(self) -> dict[str, Any]:
        """What the engine reports of it in a list."""
        return {
            "Id": self.container_id,
            "Names": [f"/{self.name}"],
            "Image": self.config["Image"],
            "ImageID": self.version.image_id,
            "Created": int(self.created_at.timestamp()),
            "Labels": self.labels,
            "State": self.status,
            "Status": self.status,
            "Ports": [],
        }


def go_time(at: datetime | None) -> str:
    """A moment as Go prints it."""
    return "0001-01-01T00:00:00Z" if at is None else at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def image_document(version: Version, names: list[str]) -> dict[str, Any]:
    """What the engine reports of an image."""
    return {
        "Id": version.image_id,
        "RepoTags": [name for name in names if "@" not in name],
        "RepoDigests": [f"registry.example/{version.service}@{version.image_id}"],
        "Os": "linux",
        "Architecture": "amd64",
        "Size": 10_000_000,
        "Created": go_time(BEGIN),
        "Config": {"Labels": {}, "Env": [], "Cmd": ["serve"], "Entrypoint": None},
        "RootFS": {"Layers": [version.image_id]},
        "GraphDriver": {},
        "Metadata": {"LastTagTime": go_time(BEGIN)},
    }
