"""What went wrong in a store, in our words. Decided by the engine's own code, never by exception class."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

import sqlalchemy as sa

from models.failures import (
    StoreBusyError,
    StoreConstraintError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreUnreachableError,
)


class OurWords(AbstractContextManager[None]):
    """Turn a database's failure inside the body into a StoreError that names the store.

    A class, since a generator takes three times as long, and every statement has one.

    Raises:
        StoreBusyError: It stayed locked until the deadline.
        StoreFullError: Its disk or quota is used up.
        StoreCorruptError: Its file is damaged.
        StoreUnreachableError: Its server does not answer.
        StoreConstraintError: A row broke a rule of its table.
        StoreError: Anything else.
    """

    __slots__ = ("_damaged", "_store")

    def __init__(self, store: str, damaged: Callable[[], None] | None = None) -> None:
        """Watch over a body that works on this store; `damaged` is called after a sign of damage."""
        self._store = store
        self._damaged = damaged

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, UnicodeDecodeError):
            # Only text is ever written, and the driver raises this of a name in the schema as well.
            if self._damaged is not None:
                self._damaged()
            raise StoreCorruptError(f"{self._store}: {error};", advice=_ASIDE) from error
        if isinstance(error, StoreCorruptError) and self._damaged is not None:
            self._damaged()
        if isinstance(error, sa.exc.DBAPIError | sqlite3.Error):
            ours = to_store_error(error, self._store)
            if self._damaged is not None and isinstance(ours, StoreCorruptError):
                self._damaged()
            raise ours from error
        if isinstance(error, sa.exc.TimeoutError):
            raise StoreBusyError(
                f"{self._store}: every connection of this process stayed in use;",
                advice="try again, or look less often.",
            ) from error
        if isinstance(error, sa.exc.StatementError):
            raise StoreConstraintError(
                f"A value for {self._store} cannot be stored: {error.orig};", advice="give it the type its column has."
            ) from error


def to_store_error(error: BaseException, store: str) -> StoreError:
    """A database's failure as a StoreError that names the store."""
    original = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    if is_of_another_host(original):
        return StoreConstraintError(
            f"{store}: {one_line(original)};",
            advice="a host writes only what belongs to it: `roas fleet` shows where environments belong.",
        )
    code = getattr(original, "sqlite_errorname", None) or _postgresql_code(original)
    if not code and _NO_TEXT in str(original):
        return StoreCorruptError(f"{store}: {one_line(original)};", advice=_ASIDE)
    for kind, prefixes, advice in _KINDS:
        if code.startswith(prefixes):
            return kind(f"{store}: {one_line(original)} ({code});", advice=advice)
    return StoreError(f"{store}: {one_line(original)} ({code or type(original).__name__});", advice=_SEE)


_SEE = "`roas db check` tells the state of the stores."

_NO_TEXT = "Could not decode to UTF-8"
"""The driver's own words of a value that is no text; no code comes with them."""

_ASIDE = "the file is kept beside the new one, never deleted; `roas restore` restores the last backup."

_REACH = "is the server up, and do ROAS_STORES_URL and its password say the right things?"

_KINDS: tuple[tuple[type[StoreError], tuple[str, ...], str], ...] = (
    (StoreBusyError, ("SQLITE_BUSY", "SQLITE_LOCKED"), "another program holds it; try again, or find it with `fuser`."),
    (
        StoreBusyError,
        ("PG55P03", "PG40001", "PG40P01", "PG57014", "PG53300"),
        "others hold it; try again, or see who in pg_stat_activity.",
    ),
    (StoreUnreachableError, ("PG08", "PG57P", "PG28", "PG3D", "PG25P03"), _REACH),
    (
        StoreFullError,
        ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "PG53"),
        "free room on its disk; what waits to be written is kept and goes in by itself.",
    ),
    (
        StoreCorruptError,
        ("SQLITE_CORRUPT", "SQLITE_NOTADB"),
        _ASIDE,
    ),
    (
        StoreCorruptError,
        ("PGXX001", "PGXX002"),
        "PostgreSQL found damage; restore its last backup, and look at the disk under it.",
    ),
    (
        StoreConstraintError,
        ("SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_TOOBIG", "PG23", "PG22"),
        "the row breaks a rule of its table; correct the value.",
    ),
    (
        StoreError,
        ("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_CANTOPEN", "SQLITE_IOERR"),
        "may this user write to the data folder, and does its file still exist?",
    ),
    (
        StoreError,
        ("PG42501", "PG25006"),
        "this user may not do it: it needs CREATE on the database, which must not be read-only.",
    ),
)


def is_of_another_host(original: object) -> bool:
    """Whether PostgreSQL refused a row by its row-level security, which no code of its own says."""
    return getattr(getattr(original, "diag", None), "source_function", None) == "ExecWithCheckOptions" and (
        getattr(original, "sqlstate", None) == "42501"
    )


def one_line(original: object) -> str:
    """A database's words in one line. Of PostgreSQL only the first: the others repeat the row."""
    first = getattr(getattr(original, "diag", None), "message_primary", None)
    return " ".join(str(first or original).split())


def _postgresql_code(original: object) -> str:
    state = getattr(original, "sqlstate", None)
    if state is None and type(original).__module__.startswith("psycopg"):
        # A refused or lost connection has no code, and one that is not answered has none either.
        codes = {"OperationalError": "08006", "ConnectionTimeout": "08006", "DataError": "22000"}
        state = codes.get(type(original).__name__)
    return f"PG{state}" if state else ""
