"""Snapshots of an application's data: what is saved, where to, how long it is kept, and what was saved."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from models.fields import Name, Strict, Text

_LOGIN = "Name of a secret of this environment; it reaches the program as a variable."


class PostgresqlData(Strict):
    """A database of a PostgreSQL server, dumped by its own pg_dump inside its container."""

    kind: Literal["postgresql"]
    service: Name = Field(description="The service that runs the server.")
    user: Text = Field(default="postgres", description="It owns the database, or is a superuser.")
    password_secret: str | None = Field(default=None, description=_LOGIN)
    database: Text | None = Field(default=None, description="By default the one with the user's name.")

    @property
    def name(self) -> str:
        """The part's name in a snapshot."""
        return f"{self.service}/{self.database or self.user}"


class MariadbData(Strict):
    """A database of a MariaDB or MySQL server, dumped by its own mariadb-dump or mysqldump inside its container."""

    kind: Literal["mariadb"]
    service: Name = Field(description="The service that runs the server.")
    user: Text = "root"
    password_secret: str | None = Field(default=None, description=_LOGIN)
    database: Text = Field(description="The database to save.")

    @property
    def name(self) -> str:
        """The part's name in a snapshot."""
        return f"{self.service}/{self.database}"


class RedisData(Strict):
    """All keys of a Redis or Valkey server, read by its own client inside its container."""

    kind: Literal["redis"]
    service: Name = Field(description="The service that runs the server.")
    password_secret: str | None = Field(default=None, description=_LOGIN)

    @property
    def name(self) -> str:
        """The part's name in a snapshot."""
        return self.service


class SqliteData(Strict):
    """A SQLite file of a service, copied by SQLite's own online backup."""

    kind: Literal["sqlite"]
    service: Name = Field(description="The service whose container has the file.")
    file: Annotated[Text, Field(pattern=r"^/.*[^/]$")] = Field(description="Its path inside the container.")

    @property
    def name(self) -> str:
        """The part's name in a snapshot."""
        return f"{self.service}{self.file}"


class FilesData(Strict):
    """The files of a volume or of a mounted folder. A file that changes meanwhile may be saved half changed."""

    kind: Literal["files"]
    volume: Text = Field(description="A volume's name in the Compose files, or the path of a mounted folder.")
    pause: bool = Field(
        default=False, description="True: the services that mount it are paused while its files are read."
    )

    @property
    def name(self) -> str:
        """The part's name in a snapshot."""
        return self.volume


DatabaseData = PostgresqlData | MariadbData | RedisData | SqliteData
SavedData = Annotated[DatabaseData | FilesData, Field(discriminator="kind")]
DATA_WITH_LOGIN = (PostgresqlData, MariadbData, RedisData)


class KeepSnapshots(Strict):
    """How many snapshots stay. Those of kept releases stay in any case."""

    last: int = Field(default=7, ge=1, le=1000, description="So many of the newest ones.")
    daily: int = Field(default=7, ge=0, le=1000, description="The newest one of each of so many days.")
    weekly: int = Field(default=4, ge=0, le=1000, description="The newest one of each of so many weeks.")


class DataSettings(Strict):
    """What of an application's data is saved by `roas snapshot` and before updates, and where to."""

    save: tuple[SavedData, ...] = Field(min_length=1, description="Databases, and volumes with files.")
    repository: Text | None = Field(
        default=None,
        description="A repository of restic: the whole path of a folder, or an address such as sftp:host:/folder or "
        "rest:https://host/. By default a folder in the data folder.",
    )
    password_secret: str | None = Field(
        default=None,
        description="Name of a secret of this environment that encrypts the repository; by default a password is "
        "generated and kept in the data folder.",
    )
    repository_secrets: tuple[str, ...] = Field(
        default=(), description="Names of secrets that restic gets as variables, such as AWS_SECRET_ACCESS_KEY."
    )
    keep: KeepSnapshots = Field(default=KeepSnapshots(), description="How many snapshots stay.")
    max_age_hours: float | None = Field(
        default=None,
        gt=0,
        le=87_600,
        description="An alert opens while the newest whole snapshot is older, or no restore of one was ever rehearsed.",
    )
    before_updates: Literal["changed", "all", "never"] = Field(
        default="changed",
        description="What is saved before an update: what the replaced services use, everything, or nothing.",
    )
    timeout_seconds: float = Field(
        default=3600.0, gt=0, le=86_400, description="So long the saving or restoring of one part may take."
    )

    @field_validator("repository")
    @classmethod
    def _usable_repository(cls, repository: str | None) -> str | None:
        if repository is None:
            return None
        if not repository.isprintable():
            raise ValueError("this is not one line of text")
        if not repository.startswith("/") and ":" not in repository:
            raise ValueError("give the whole path of a folder, from /, or an address of restic")
        _, at_scheme, address = repository.partition("://")
        login = address.partition("/")[0].rpartition("@")[0] if at_scheme else ""
        if ":" in login:
            raise ValueError(
                "the address holds a password: give it as a secret in repository_secrets, such as RESTIC_REST_PASSWORD"
            )
        return repository

    @model_validator(mode="after")
    def _different_names(self) -> DataSettings:
        names = [data.name for data in self.save]
        if double := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"save names {double!r} twice")
        return self

    @property
    def secrets(self) -> frozenset[str]:
        """The names of all secrets that are used."""
        of_parts = (data.password_secret for data in self.save if isinstance(data, DATA_WITH_LOGIN))
        return frozenset(name for name in (self.password_secret, *self.repository_secrets, *of_parts) if name)


class SnapshotState(StrEnum):
    """State of a snapshot. Only a whole one is offered."""

    BEGUN = "begun"
    WHOLE = "whole"
    FAILED = "failed"


BEING_DELETED = "it is being deleted, as data.keep says"
"""Problem of a snapshot that failed by that alone: parts of it may be gone from the repository."""


class SnapshotReason(StrEnum):
    """Why a snapshot was taken."""

    REQUESTED = "requested"
    UPDATE = "update"
    SAFETY = "safety"
    ADOPTED = "adopted"
    """Another installation took it. The policy of this one never removes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPart:
    """One database or volume in a snapshot. Sizes are in bytes; `added_bytes` is what the repository grew by.

    `restic_id` is the id of restic's own snapshot. `facts` are what a restore or rehearsal needs to know: the number
    of files, or where Redis keeps its file.
    """

    name: str
    kind: str
    restic_id: str
    bytes: int
    added_bytes: int
    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryEntry:
    """One of restic's snapshots of an environment: a part of a snapshot, or its manifest.

    `installation` is the one that made it, empty for what was made before they had ids. `path` is what restic saved.
    """

    restic_id: str
    snapshot_id: str
    installation: str
    saved_at: datetime
    path: str
    bytes: int = 0
    files: int = 0
    is_manifest: bool = False


class UnknownState(StrEnum):
    """State of a snapshot that the repository has and the store does not know."""

    WHOLE = "whole"
    INCOMPLETE = "incomplete"
    """Another installation takes it now, or was killed."""
    UNPROVEN = "unproven"
    """It has no manifest, since an earlier version took it: each part is complete, others may be missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownSnapshot:
    """A snapshot that the repository has and the store does not know; the size of its parts is in bytes."""

    snapshot_id: str
    begun_at: datetime
    installation: str
    state: UnknownState
    paths: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """Result of a rehearsed restore: what was found in each part; `problem` is empty where all is well."""

    ok: bool
    seconds: float
    found: dict[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSnapshot:
    """A snapshot of an environment's data.

    `release_id` is the release that ran when it was taken. `deployment_id` is the operation that took it; empty for
    one that was requested alone. `restoring` names the operation that is putting it back, until that has ended.
    """

    snapshot_id: str
    environment: str
    begun_at: datetime
    state: SnapshotState = SnapshotState.BEGUN
    reason: SnapshotReason = SnapshotReason.REQUESTED
    deployment_id: str = ""
    release_id: str = ""
    ended_at: datetime | None = None
    parts: tuple[SnapshotPart, ...] = ()
    problem: str = ""
    rehearsed_at: datetime | None = None
    rehearsal: Rehearsal | None = None
    restoring: str = ""

    @property
    def is_being_deleted(self) -> bool:
        """Whether its deletion has begun, which the next run of the policy finishes."""
        return self.state is SnapshotState.FAILED and self.problem == BEING_DELETED

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return None if self.ended_at is None else (self.ended_at - self.begun_at).total_seconds()

    @property
    def bytes(self) -> int:
        """Size of the data, before it was compressed."""
        return sum(part.bytes for part in self.parts)

    @property
    def added_bytes(self) -> int:
        """Bytes that the repository grew by."""
        return sum(part.added_bytes for part in self.parts)
