"""Stores that are away, or whose disk is full, for all processes of ours but the one that only reads for us."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import sqlalchemy as sa

from tests.simulation import kernel

_READER = 1


@dataclass(slots=True)
class StoreTrouble:
    """`how` is "away" while no statement gets an answer, "full" while none that writes does, else empty."""

    how: str = ""

    def install(self) -> None:
        """Let statements fail from now on as `how` says."""

        @sa.event.listens_for(sa.Engine, "before_cursor_execute")
        def _(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            process = kernel.current.get()
            if not self.how or process is None or process.pid == _READER:
                return
            if self.how == "away":
                raise _error("unable to open database file", sqlite3.SQLITE_CANTOPEN, "SQLITE_CANTOPEN")
            if statement.lstrip().startswith(("INSERT", "UPDATE", "REPLACE")):
                raise _error("database or disk is full", sqlite3.SQLITE_FULL, "SQLITE_FULL")


def _error(text: str, code: int, name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error
