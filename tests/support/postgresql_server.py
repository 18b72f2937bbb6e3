"""A PostgreSQL server of the tests' own: a temporary folder, and a Unix socket.

It listens on no network, unless it is given an address. Its commits survive its own death, but wait for no disk: only
a machine that loses its power forgets them, and a disk that others use too takes seconds for a new database.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from adapters.stores import Stores
from models.settings import Settings
from tests.support.ports import free_port

_TEMPLATE = "with_schemas"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresqlForTests:
    """A running server, and how to have databases on it."""

    folder: Path
    programs: Path
    address: str = ""
    """Where it listens besides its socket; who comes from there needs a password."""
    port: int = 5432
    connections: int = 60

    def url(self, database: str, user: str = "roas") -> str:
        port = f"&port={self.port}" if self.address else ""
        return f"postgresql://{user}@/{database}?host={self.folder}{port}"

    def url_elsewhere(self, database_url: str) -> str:
        """A database's URL as it is reached at the address, without a user."""
        return f"postgresql://{self.address}:{self.port}{urlsplit(database_url).path}"

    def run(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a database that has the three schemas, and nothing in them."""
        name = f"test_{secrets.token_hex(6)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        try:
            yield self.url(name)
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def control(self, *words: str) -> None:
        """Start, stop or restart it, and wait until that is done."""
        options = (
            f"-c listen_addresses={self.address} -c port={self.port} -c unix_socket_directories={self.folder} "
            f"-c max_connections={self.connections} -c fsync=off"
        )
        run_as_server(
            [self.programs / "pg_ctl", *words, "-w", "-D", self.folder / "cluster", "-l", self.folder / "log"]
            + ([] if "stop" in words else ["-o", options])
        )


@contextmanager
def postgresql(address: str = "", connections: int = 60) -> Iterator[PostgresqlForTests]:
    """A server from Debian's package, stopped and removed afterwards; with an address it listens there, too."""
    programs = server_programs()
    folder = Path(tempfile.mkdtemp(prefix="roas-pg-"))
    port = free_port() if address else 5432
    server = PostgresqlForTests(folder=folder, programs=programs, address=address, port=port, connections=connections)
    try:
        if (user := server_user()) is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        run_as_server(
            [
                *(programs / "initdb", "-D", folder / "cluster", "-U", "roas", "--auth=trust", "--encoding=UTF8"),
                *("--locale=C.UTF-8", "--data-checksums", "--no-sync"),
            ]
        )
        if address:
            with (folder / "cluster" / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {address}/24 scram-sha-256\n")
        server.control("start")
        try:
            server.run(f"CREATE DATABASE {_TEMPLATE}")
            with Stores.open(Settings(data_dir=folder / "data", stores_url=server.url(_TEMPLATE))):
                pass
            yield server
        finally:
            server.control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


def server_programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    if not found:
        pytest.fail("PostgreSQL is not installed; `make test` installs it.")
    return found[-1].parent


def server_user() -> pwd.struct_passwd | None:
    """Who runs the server: the user of the tests, but not root, whom PostgreSQL refuses."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def run_as_server(command: list[object]) -> None:
    user = server_user()
    identity = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    # Into a file, not a pipe: the server would keep a pipe open, and its reader waiting.
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(
            [str(word) for word in command], check=False, stdout=said, stderr=said, cwd="/", **identity
        )
        said.seek(0)
        assert done.returncode == 0, said.read().decode()
