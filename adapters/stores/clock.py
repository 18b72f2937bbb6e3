"""The clock that decides between hosts: the database's. Files have one host, so there this machine's clock is it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

_NEGLIGIBLE = timedelta(seconds=1)
"""The way to the server and back is not told from a difference as small as this."""


def database_now(connection: sa.Connection, here: datetime | None = None) -> datetime:
    """The time by the database's clock at this moment; `here` is this machine's, which counts for files."""
    if connection.dialect.name != "postgresql":
        return here or datetime.now(UTC)
    now: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    return now.astimezone(UTC)


def clock_skew(connection: sa.Connection) -> timedelta:
    """How far this machine's clock is ahead of the database's; zero for files.

    The middle of the way there and back is compared, so that a slow network is no skew.
    """
    if connection.dialect.name != "postgresql":
        return timedelta()
    sent_at = datetime.now(UTC)
    there = database_now(connection)
    return sent_at + (datetime.now(UTC) - sent_at) / 2 - there


def to_database_clock(connection: sa.Connection, moment: datetime) -> datetime:
    """A moment by this machine's clock as the database's clock has it; what differs little stays as it is."""
    skew = clock_skew(connection)
    return moment if abs(skew) < _NEGLIGIBLE else moment - skew
