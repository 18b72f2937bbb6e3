"""Sessions of the page, sign-ins that work once, and forms that were sent: a small database in the server's folder.

Of each secret it has a hash alone: who reads the file can sign in nowhere.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path

from adapters.host.private_files import make_private_folder, open_private
from models.failures import RoasError
from models.page_access import Session, Viewer

SESSION_SECONDS = 12 * 3600
INVITATION_SECONDS = 300
FORM_SECONDS = 3600

_FILE = "page.db"
_BUSY_SECONDS = 5
_SCHEMA = """
create table if not exists session (
    token text primary key, name text, may_write integer, csrf text, credential text, expires real
) without rowid;
create table if not exists invitation (
    token text primary key, name text, credential text, expires real
) without rowid;
create table if not exists sent_form (token text primary key, place text, expires real) without rowid;
"""


class PageSessions:
    """The database. `clock` gives seconds since the epoch."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = home / _FILE, clock

    def invite(self, name: str, credential: str) -> str:
        """Make a sign-in that works once, within INVITATION_SECONDS; the token for its address.

        Raises:
            RoasError: The database cannot be used.
        """
        token = secrets.token_urlsafe(32)
        with self._database() as database:
            self._forget_expired(database)
            expires = self._clock() + INVITATION_SECONDS
            database.execute("insert into invitation values (?, ?, ?, ?)", [_hash(token), name, credential, expires])
        return token

    def redeem(self, token: str, credential: str) -> str | None:
        """Use a sign-in up; the name it was made for. None where there is none such, or none any more.

        Raises:
            RoasError: The database cannot be used.
        """
        with self._database() as database:
            row = database.execute(
                "delete from invitation where token = ? returning name, credential, expires", [_hash(token)]
            ).fetchone()
        if row is None or row[1] != credential or row[2] <= self._clock():
            return None
        return str(row[0])

    def open(self, viewer: Viewer, credential: str) -> str:
        """Open a session for SESSION_SECONDS; the token for its cookie.

        Raises:
            RoasError: The database cannot be used.
        """
        token, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        expires = self._clock() + SESSION_SECONDS
        row = [_hash(token), viewer.name, viewer.may_write, csrf, credential, expires]
        with self._database() as database:
            self._forget_expired(database)
            database.execute("insert into session values (?, ?, ?, ?, ?, ?)", row)
        return token

    def find(self, token: str) -> Session | None:
        """The session with this token; None where there is none such, or none any more.

        Raises:
            RoasError: The database cannot be used.
        """
        with self._database() as database:
            row = database.execute(
                "select name, may_write, csrf, credential from session where token = ? and expires > ?",
                [_hash(token), self._clock()],
            ).fetchone()
        if row is None:
            return None
        name, may_write, csrf, credential = row
        return Session(viewer=Viewer(name=name, may_write=bool(may_write)), csrf=csrf, credential=credential)

    def close(self, token: str) -> None:
        """End a session.

        Raises:
            RoasError: The database cannot be used.
        """
        with self._database() as database:
            database.execute("delete from session where token = ?", [_hash(token)])

    def note_result(self, token: str, place: str) -> str:
        """Note where the result of a form is shown, unless that was noted before; where it is shown.

        Raises:
            RoasError: The database cannot be used.
        """
        with self._database() as database:
            row = [_hash(token), place, self._clock() + 2 * FORM_SECONDS]
            if database.execute("insert or ignore into sent_form values (?, ?, ?)", row).rowcount == 1:
                return place
        return self.place_of_result(token)

    def forget_result(self, token: str) -> None:
        """Let a form be sent again, since nothing was done.

        Raises:
            RoasError: The database cannot be used.
        """
        with self._database() as database:
            database.execute("delete from sent_form where token = ?", [_hash(token)])

    def place_of_result(self, token: str) -> str:
        """Where the result of a form is shown; empty where nothing was noted.

        Raises:
            RoasError: The database cannot be used.
        """
        with self._database() as database:
            row = database.execute("select place from sent_form where token = ?", [_hash(token)]).fetchone()
        return str(row[0]) if row else ""

    def _forget_expired(self, database: sqlite3.Connection) -> None:
        for table in ("session", "invitation", "sent_form"):
            database.execute(f"delete from {table} where expires <= ?", [self._clock()])  # noqa: S608 - our own names

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            make_private_folder(self._path.parent)
            # SQLite gives its journal the mode of the file.
            os.close(open_private(self._path, os.O_RDONLY))
            with closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)) as database:
                database.executescript(_SCHEMA)
                yield database
        except (OSError, sqlite3.Error) as error:
            raise RoasError(
                f"The sessions of the page in {self._path} cannot be used: {error};",
                advice="does the folder belong to this user, and has its disk room? Without the file all sign in anew.",
            ) from error


def _hash(token: str) -> str:
    # The tokens have 256 random bits, so they need neither salt nor a slow hash.
    return sha256(token.encode()).hexdigest()
