"""Credentials of the Prefect server's clients, and its encryption key: files of the data folder."""

from __future__ import annotations

import base64
import json
import os
import secrets
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from adapters.host.private_files import FOLDER_MODE, keep_private, make_private_folder, write_private
from models.failures import RoasError

PROFILE = "roas"
_AUTH_STRING = "auth_string"
_ENCRYPTION_KEY = "encryption_key"
_BUSY_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCredentials:
    """Secrets of one Prefect server, in its folder."""

    home: Path
    auth_string: str = field(repr=False)
    """USER:PASSWORD."""

    @property
    def auth_file(self) -> Path:
        """The file with the user and password for the UI."""
        return self.home / _AUTH_STRING

    @property
    def profiles_file(self) -> Path:
        """The profiles file with address and credentials for the `prefect` command line."""
        return self.home / "profiles.toml"


def server_credentials(home: Path) -> ServerCredentials:
    """Read the credentials of the server in folder `home`, or create them on first use for the owner alone.

    Raises:
        RoasError: They can be neither read nor created.
    """
    try:
        make_private_folder(home).chmod(FOLDER_MODE)
        made = f"roas:{secrets.token_hex(24)}"
        auth_string = keep_private(home / _AUTH_STRING, made.encode()).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RoasError(
            f"The credentials of the Prefect server in {home} can be neither read nor made: {error};",
            advice="the folder must belong to this user. ROAS_DATA_DIR names another data folder.",
        ) from error
    return ServerCredentials(home=home, auth_string=auth_string)


def encryption_key(home: Path) -> tuple[str, bool]:
    """Read the key of the server's encrypted blocks, and whether another key was removed from its database.

    Blocks that were encrypted with the removed key are encrypted again.

    Raises:
        RoasError: The key can be neither read nor removed from the database.
    """
    database = home / "prefect.db"
    try:
        key = keep_private(home / _ENCRYPTION_KEY, base64.urlsafe_b64encode(os.urandom(32))).decode().strip()
        stored = _has_stored_key(database)
        if stored:
            _remove_stored_key(database, key)
    except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
        raise RoasError(
            f"The key of the Prefect server's encrypted blocks in {home} can be neither read nor taken out of "
            f"{database.name}: {error};",
            advice="does another process hold that database? Try again once it has ended.",
        ) from error
    return key, stored


def write_profile(credentials: ServerCredentials, url: str) -> None:
    """Write the profile with which the `prefect` command line reaches the running server.

    Raises:
        OSError: The file cannot be written.
    """
    lines = (
        f'active = "{PROFILE}"',
        f"[profiles.{PROFILE}]",
        f"PREFECT_API_URL = {json.dumps(url)}",
        f"PREFECT_API_AUTH_STRING = {json.dumps(credentials.auth_string)}",
    )
    write_private(credentials.profiles_file, "".join(f"{line}\n" for line in lines).encode())


def remove_profile(credentials: ServerCredentials) -> None:
    """Remove the profile, so that no password is sent to the next process on the server's port."""
    with suppress(OSError):
        credentials.profiles_file.unlink(missing_ok=True)


def _has_stored_key(database: Path) -> bool:
    if not database.exists():
        return False
    with closing(sqlite3.connect(database, timeout=_BUSY_SECONDS)) as connection:
        # A new database has no tables yet.
        if not connection.execute("select 1 from sqlite_master where name = 'configuration'").fetchone():
            return False
        return connection.execute("select 1 from configuration where key = 'ENCRYPTION_KEY'").fetchone() is not None


def _remove_stored_key(database: Path, key: str) -> None:
    # Both need a quarter of a second to import, and this is done once.
    import sqlalchemy as sa

    from adapters.server.block_encryption import remove_stored_key

    try:
        remove_stored_key(sa.URL.create("sqlite", database=str(database)), key)
    except sa.exc.SQLAlchemyError as error:
        raise OSError(str(error.__cause__ or error)) from error
    with closing(sqlite3.connect(database, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
        # Deleted rows stay readable in free pages and in the write-ahead log.
        connection.execute("vacuum")
        connection.execute("pragma wal_checkpoint(truncate)")
