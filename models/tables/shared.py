"""Tables that every store has for itself: archives, refused rows, positions of spools, audit log, transactions."""

from __future__ import annotations

import types
from datetime import datetime
from typing import Any

from sqlmodel import SQLModel

from models.tables.columns import big, identity, json_text, key_number, maybe_big, maybe_text, moment, number, some_text


class Numbered(SQLModel):
    """A row with a number that is never used twice."""

    id: int | None = identity()

    def __init_subclass__(cls, **options: Any) -> None:
        """Let SQLite number the rows of each table itself."""
        super().__init_subclass__(**options)
        cls.__table_args__ = (*cls.__dict__.get("__table_args__", ()), {"sqlite_autoincrement": True})


def own_table(kind: type[SQLModel], store: type[SQLModel]) -> type[SQLModel]:
    """A store's table of a kind that several stores have."""
    return types.new_class(f"{store.__name__}{kind.__name__}", (kind, store), {"table": True})


class AuditLog(SQLModel):
    """What was done and the users behind it; each entry holds the hash of the one before it."""

    __tablename__ = "audit_log"
    seq: int = key_number()
    at: datetime = moment()
    kind: str = some_text()
    subject: str = some_text()
    asked_uid: int | None = maybe_big()
    asked_user: str | None = maybe_text()
    login_uid: int | None = maybe_big()
    claimed_by: str | None = maybe_text()
    content: str = some_text()
    previous_hash: str = some_text()
    hash: str = some_text()


class Version(SQLModel):
    """Number of the last transaction over several stores that this store contains."""

    __tablename__ = "cross_store_version"
    id: int = number(primary_key=True, autoincrement=False)
    seq: int = big()


class SpoolPosition(SQLModel):
    """How far each spool, in which versions up to 0.2 left rows, is in this store, in bytes."""

    __tablename__ = "spool_positions"
    spool: str = some_text(primary_key=True)
    position: int = big()


class DeadLetter(Numbered):
    """A row this store refused, with the reason."""

    __tablename__ = "dead_letters"
    buried_at: datetime = moment()
    target: str = some_text()
    reason: str = some_text()
    payload: dict[str, Any] | None = json_text()


class Archive(Numbered):
    """A file of rows taken out of this store. `bytes` is the file's size."""

    __tablename__ = "archives"
    file: str = some_text(unique=True)
    source: str = some_text()
    first: str = some_text()
    last: str = some_text()
    rows: int = number()
    bytes: int = number()
    sha256: str = some_text()
    archived_at: datetime = moment()
