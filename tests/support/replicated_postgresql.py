"""A PostgreSQL primary and its replica from Debian's package, on ports of the loopback, with passwords."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.support.ports import free_port
from tests.support.postgresql_server import run_as_server, server_programs, server_user

PASSWORD = "s3cret-of-the-primary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One server, with the user roas, whose password is PASSWORD."""

    folder: Path
    port: int

    def control(self, *words: str) -> None:
        """Start or stop it, and wait until that is done."""
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories={self.folder.parent}"
        # Shared buffers of a test: some MB.
        options += " -c shared_buffers=4MB -c max_connections=20 -c wal_retrieve_retry_interval=100ms"
        log = self.folder.with_suffix(".log")
        command = [server_programs() / "pg_ctl", *words, "-w", "-D", self.folder, "-l", log]
        run_as_server(command if "stop" in words else [*command, "-o", options])

    def run(self, statement: str) -> list[tuple[object, ...]]:
        """The rows of a statement."""
        url = f"postgresql://roas:{PASSWORD}@127.0.0.1:{self.port}/postgres"
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def primary_and_replica() -> Iterator[tuple[Cluster, Cluster]]:
    """Both servers, running; stopped and removed afterwards."""
    programs, folder = server_programs(), Path(tempfile.mkdtemp(prefix="roas-pg-"))
    primary = Cluster(folder=folder / "primary", port=free_port())
    replica = Cluster(folder=folder / "replica", port=free_port())
    try:
        (folder / "password").write_text(PASSWORD)
        if (user := server_user()) is not None:
            for path in (folder, folder / "password"):
                os.chown(path, user.pw_uid, user.pw_gid)
        run_as_server(
            [
                *(programs / "initdb", "-D", primary.folder, "-U", "roas", "--auth=scram-sha-256", "--no-sync"),
                *("--encoding=UTF8", "--locale=C.UTF-8", f"--pwfile={folder / 'password'}"),
            ]
        )
        primary.control("start")
        try:
            source = f"host=127.0.0.1 port={primary.port} user=roas password={PASSWORD}"
            run_as_server([programs / "pg_basebackup", "-d", source, "-D", replica.folder, "-R", "-c", "fast", "-N"])
            replica.control("start")
            try:
                yield primary, replica
            finally:
                replica.control("stop", "-m", "immediate")
        finally:
            if (primary.folder / "postmaster.pid").exists():
                primary.control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder)
