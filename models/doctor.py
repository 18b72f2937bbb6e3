"""What `roas doctor` finds on this machine: facts, and a verdict on each."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from models.containers import EngineInfo, SystemSample
from models.validation import Trouble


class FindingLevel(StrEnum):
    """How a fact is judged. Only what is wrong makes the command fail."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorFinding:
    """One line of the command: what was checked, what was found, and the command that fixes it."""

    name: str
    verdict: FindingLevel
    finding: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledProgram:
    """A program of this installation. `version` is None where it is missing; `required` is such as >=3.11,<3.14.

    `known_fault` says what is wrong with this version, and `avoided_by` what to do about it.
    """

    name: str
    version: str | None
    required: str = ""
    fits: bool = True
    known_fault: str = ""
    avoided_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFile:
    """A file or folder that is not private: others than its owner may read it, or its owner is another user."""

    path: Path
    mode: int
    owner: int
    is_folder: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFolder:
    """The data folder. `exposed` are it and its files that are not private; at most some are listed."""

    path: Path
    exists: bool
    writable: bool
    free_bytes: int
    exposed: tuple[OpenFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """The Prefect server. `url` is None where none is configured and none runs here.

    `problem` says why it does not answer. `workers` are the online workers of each work pool, None where the server
    did not say; `is_served_here`: a `roas serve` of this machine, which runs the flows itself.
    """

    url: str | None = None
    problem: str = ""
    is_served_here: bool = False
    workers: dict[str, int] | None = None
    wants_password: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentFacts:
    """One environment. `problem` says why its file cannot be used; `watched_at` is the last heartbeat of its watch,
    `watched_by` the process of this host that watches it.

    `restic_problem`: it names data to save, and why the program that saves it cannot be used. `stop_first` says of each
    service that should be replaced start-first why it is not, and `overlap_notes` what fails or is cut when it is.
    `snapshot_problems` says what is wrong with its snapshots, by its policy.
    """

    name: str
    problem: Trouble | None = None
    missing_secrets: dict[str, str] = field(default_factory=dict)
    exposed_secrets: tuple[OpenFile, ...] = ()
    watched_at: datetime | None = None
    watched_by: str | None = None
    restic_problem: str = ""
    stop_first: dict[str, str] = field(default_factory=dict)
    overlap_notes: dict[str, str] = field(default_factory=dict)
    snapshot_problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """Everything that `roas doctor` looks at. `refused`: the engine is there, but this user may not use it.

    `stores_clock_skew` is how far this machine's clock is ahead of the database's, None where the stores are files.
    """

    checked_at: datetime
    user: int
    programs: tuple[InstalledProgram, ...]
    engine_url: str
    engine: EngineInfo | Trouble
    refused: bool
    compose_version: str | Trouble
    clock_offset: timedelta | None
    host: SystemSample | None
    data: DataFolder
    server: ServerFacts
    environments: tuple[EnvironmentFacts, ...] = ()
    stores_problem: Trouble | None = None
    stores_clock_skew: timedelta | None = None
