"""Remove the key of Prefect's encrypted blocks from its database.

Without PREFECT_SERVER_ENCRYPTION_KEY a Prefect server creates a key and stores it in the table `configuration`, beside
the encrypted blocks. Once the variable is set, the server uses that key alone and could not read the older blocks.
"""

from __future__ import annotations

import os
import sys

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from models.failures import RoasError

_METADATA = sa.MetaData()
_CONFIGURATION = sa.Table("configuration", _METADATA, sa.Column("key", sa.String), sa.Column("value", sa.JSON))
_BLOCKS = sa.Table(
    "block_document", _METADATA, sa.Column("id", sa.String), sa.Column("name", sa.String), sa.Column("data", sa.JSON)
)
_KEY_ROW = _CONFIGURATION.c.key == "ENCRYPTION_KEY"


def remove_stored_key(database: sa.URL, key: str) -> int:
    """Encrypt every block with this key instead of the one in the database, and remove that one; the number of blocks.

    It is one transaction. Without a key in the database it does nothing.

    Raises:
        RoasError: A block can be read with neither key, or this key is not a Fernet key; nothing has changed.
    """
    try:
        new = Fernet(key)
    except ValueError as error:
        raise RoasError(
            "PREFECT_SERVER_ENCRYPTION_KEY is not a Fernet key;", advice="it is 32 bytes in URL-safe base64"
        ) from error
    engine = sa.create_engine(database)
    try:
        with engine.begin() as connection:
            if not sa.inspect(connection).has_table(_CONFIGURATION.name):
                return 0
            stored = connection.scalar(sa.select(_CONFIGURATION.c.value).where(_KEY_ROW))
            if stored is None:
                return 0
            # Encrypts with the first, decrypts with either: blocks made since the variable was set have the new key.
            keys = MultiFernet([new, Fernet(stored["fernet_key"])])
            # As text: SQLite and PostgreSQL keep the id in types of their own.
            block_id = sa.cast(_BLOCKS.c.id, sa.String)
            blocks = connection.execute(sa.select(block_id, _BLOCKS.c.name, _BLOCKS.c.data)).all()
            for identity, name, data in blocks:
                try:
                    rotated = keys.rotate(data.encode()).decode()
                except InvalidToken as error:
                    raise RoasError(
                        f"block {name} of the Prefect server can be read with no known key;",
                        advice="restore the key that it was made with, or delete the block and add it again",
                    ) from error
                connection.execute(sa.update(_BLOCKS).where(block_id == identity).values(data=rotated))
            connection.execute(sa.delete(_CONFIGURATION).where(_KEY_ROW))
            return len(blocks)
    finally:
        engine.dispose()


def _server_database() -> sa.URL:
    """Database of the production server, from the variables that the server itself is given."""
    settings = {name: os.environ[f"PREFECT_SERVER_DATABASE_{name}"] for name in ("USER", "PASSWORD", "HOST", "NAME")}
    return sa.URL.create(
        "postgresql+psycopg",
        username=settings["USER"],
        password=settings["PASSWORD"],
        host=settings["HOST"],
        port=int(os.environ["PREFECT_SERVER_DATABASE_PORT"]),
        database=settings["NAME"],
    )


if __name__ == "__main__":
    try:
        moved = remove_stored_key(_server_database(), os.environ["PREFECT_SERVER_ENCRYPTION_KEY"])
    except RoasError as failure:
        sys.exit(f"error: {failure}")
    if moved:
        print(f"{moved} encrypted blocks have the key of .secrets/prefect_encryption_key now")
