"""The audit log: who did what, chained by hash so that a later change of the record is found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who asked for something: what the kernel says of the process that asked, and beside it what it claims.

    `uid` and `user` are the real user, `login_uid` the user that logged in where sudo or su changed it since.
    They are None and empty where the request came through Prefect's API: its one password names no user.
    `claimed` is a name that the caller chose (a parameter, LOGNAME, SUDO_UID); nothing proves it.
    """

    uid: int | None = None
    user: str = ""
    login_uid: int | None = None
    claimed: str = ""

    def __str__(self) -> str:
        """As a person reads it: the proven user first."""
        text = "" if self.uid is None else f"{self.user} (uid {self.uid})"
        if self.login_uid is not None:
            text += f", logged in as uid {self.login_uid}"
        if not self.claimed or self.claimed == self.user:
            return text
        return f"{text}, claimed: {self.claimed}" if text else f"claimed: {self.claimed}"


SYSTEM = Actor()
"""The program acted by itself, not for a user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One entry of a store's audit log as it is stored. `content` is JSON: the rows as they were recorded."""

    seq: int
    at: str
    kind: str
    subject: str
    asked_uid: int | None
    asked_user: str | None
    login_uid: int | None
    claimed_by: str | None
    content: str
    previous_hash: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFinding:
    """One thing that is not as it was recorded. `entry` is the number of the audit entry that tells of it."""

    store: str
    subject: str
    what: str
    entry: int | None = None

    def __str__(self) -> str:
        """As one line."""
        reported = "" if self.entry is None or f"entry {self.entry}" in self.what else f" (entry {self.entry})"
        return f"{self.store}: {self.subject}: {self.what}{reported}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What verifying one store's audit log found. `head` is the hash of its last entry.

    `rows` counts the rows that were compared, `archives` the archive files that were; `missing_archives` are
    gone from the data folder, so their rows could not be.
    """

    store: str
    entries: int
    rows: int
    archives: int
    missing_archives: tuple[str, ...]
    head: str
    findings: tuple[AuditFinding, ...]
