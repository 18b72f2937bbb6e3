from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from sqlalchemy.dialects import postgresql as pg

from adapters.server.block_encryption import remove_stored_key
from models.failures import RoasError
from tests.support.postgresql_server import postgresql
from tests.support.prefect_server import copy_database

STORED = Fernet.generate_key().decode()
OURS = Fernet.generate_key().decode()

# As Prefect has them in either dialect.
JSON = sa.JSON().with_variant(pg.JSONB(), "postgresql")
TABLES = sa.MetaData()
CONFIGURATION = sa.Table("configuration", TABLES, sa.Column("key", sa.String), sa.Column("value", JSON))
BLOCKS = sa.Table(
    "block_document", TABLES, sa.Column("id", sa.Uuid), sa.Column("name", sa.String), sa.Column("data", JSON)
)
STORED_ROWS = [{"key": "ENCRYPTION_KEY", "value": {"fernet_key": STORED}}, {"key": "OTHER", "value": {"kept": 1}}]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.URL]:
    """An empty database of each kind that a Prefect server uses."""
    if request.param == "sqlite":
        yield sa.make_url(f"sqlite:///{tmp_path_factory.mktemp('prefect')}/prefect.db")
        return
    with postgresql() as server, server.database() as url:
        yield sa.make_url(url).set(drivername="postgresql+psycopg")


@pytest.fixture
def engine(database: sa.URL) -> Iterator[sa.Engine]:
    engine = sa.create_engine(database)
    TABLES.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(CONFIGURATION), STORED_ROWS)
    yield engine
    TABLES.drop_all(engine)
    engine.dispose()


def add_block(engine: sa.Engine, name: str, key: str) -> None:
    with engine.begin() as connection:
        secret = Fernet(key).encrypt(f"secret of {name}".encode()).decode()
        connection.execute(sa.insert(BLOCKS), {"id": uuid.uuid4(), "name": name, "data": secret})


def blocks(engine: sa.Engine) -> dict[str, str]:
    with engine.connect() as connection:
        return {row.name: row.data for row in connection.execute(sa.select(BLOCKS))}


def configuration(engine: sa.Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.scalars(sa.text("SELECT key FROM configuration")))


def test_blocks_of_either_key_have_ours_and_the_stored_key_is_gone(database: sa.URL, engine: sa.Engine) -> None:
    add_block(engine, "older", STORED)
    add_block(engine, "newer", OURS)

    assert remove_stored_key(database, OURS) == 2

    read = {name: Fernet(OURS).decrypt(data).decode() for name, data in blocks(engine).items()}
    assert read == {"older": "secret of older", "newer": "secret of newer"}
    assert configuration(engine) == {"OTHER"}
    assert remove_stored_key(database, OURS) == 0


def test_a_block_that_no_key_opens_changes_nothing(database: sa.URL, engine: sa.Engine) -> None:
    add_block(engine, "older", STORED)
    add_block(engine, "strange", Fernet.generate_key().decode())
    before = blocks(engine)

    with pytest.raises(RoasError, match="block strange of the Prefect server can be read with no known key"):
        remove_stored_key(database, OURS)

    assert blocks(engine) == before
    assert configuration(engine) == {"ENCRYPTION_KEY", "OTHER"}


def test_a_database_without_tables_is_left_as_it_is(tmp_path: Path) -> None:
    assert remove_stored_key(sa.make_url(f"sqlite:///{tmp_path}/new.db"), OURS) == 0


def test_what_is_no_fernet_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RoasError, match="is not a Fernet key"):
        remove_stored_key(sa.make_url(f"sqlite:///{tmp_path}/new.db"), "password")


@pytest.mark.flow
@pytest.mark.campaign(seconds=25)
def test_a_copy_of_prefect_s_database_no_longer_opens_its_blocks(tmp_path: Path) -> None:
    home = tmp_path / "prefect"
    # Its server had a key of its own, so none is stored yet.
    copy_database(home)
    assert "ENCRYPTION_KEY" not in configuration(sa.create_engine(f"sqlite:///{home}/prefect.db"))

    def prefect(script: str, **variables: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", f"from prefect.blocks.system import Secret; {script}"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ
            | {"PREFECT_HOME": str(home), "PREFECT_API_URL": "", "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true"}
            | {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120"}
            | variables,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    prefect("Secret(value='the zebra').save('webhook')")
    database = sa.create_engine(f"sqlite:///{home}/prefect.db")
    assert "ENCRYPTION_KEY" in configuration(database)

    assert remove_stored_key(database.url, OURS) == 1

    assert "ENCRYPTION_KEY" not in configuration(database)
    read = prefect("print(Secret.load('webhook').get())", PREFECT_SERVER_ENCRYPTION_KEY=OURS)
    assert read.strip() == "the zebra"
    assert "ENCRYPTION_KEY" not in configuration(database)
    database.dispose()
