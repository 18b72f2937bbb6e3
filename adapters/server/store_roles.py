"""Roles of PostgreSQL for enrolled hosts: each reaches the stores with a password of its own, which can be taken away.

A role acts as the user of the control plane's own stores, so that tables belong to one user whoever makes them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql

from adapters.stores.postgresql import connect
from models.failures import RoasError
from models.settings import Settings

_SECONDS = 10.0


def make_role(settings: Settings, role: str) -> str:
    """Make a role, or renew the password of one; the password.

    Raises:
        RoasError: The database does not answer, or its user may make no roles.
    """
    password = secrets.token_urlsafe(32)
    with _connected(settings, f"The role {role} cannot be made") as connection:
        # The server's log may show statements, so it is given the password as it will be kept.
        kept = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        owner = connection.execute("SELECT current_user").fetchone()
        assert owner is not None  # noqa: S101 - a SELECT without FROM has one row
        there = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
        verb = "ALTER" if there else "CREATE"
        name = sql.Identifier(role)
        connection.execute(sql.SQL(f"{verb} ROLE {{}} LOGIN PASSWORD {{}}").format(name, sql.Literal(kept)))
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(owner[0]), name))
        connection.execute(sql.SQL("ALTER ROLE {} SET role TO {}").format(name, sql.Literal(owner[0])))
    return password


def end_role(settings: Settings, role: str) -> None:
    """Let a role connect no longer, and end its connections; nothing happens where there is none.

    Raises:
        RoasError: The database does not answer, or its user may change no roles.
    """
    with _connected(settings, f"The role {role} cannot be ended") as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
            connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(sql.Identifier(role)))
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [role])


@contextmanager
def _connected(settings: Settings, failed: str) -> Iterator[psycopg.Connection[Any]]:
    if settings.stores_url is None:
        raise RoasError(
            f"{failed}: the stores of this control plane are files;",
            advice="set ROAS_STORES_URL, then invite it again.",
        )
    try:
        url = sa.make_url(settings.stores_url)
        with connect(url, settings.stores_password_file, _SECONDS) as connection:
            connection.autocommit = True
            yield connection
    except psycopg.errors.InsufficientPrivilege as error:
        raise RoasError(
            f"{failed}: the stores' user may not do it;",
            advice="as the database's administrator: ALTER ROLE … CREATEROLE.",
        ) from error
    except psycopg.Error as error:
        raise RoasError(
            f"{failed}: {' '.join(str(error).split()) or type(error).__name__};",
            advice="does ROAS_STORES_URL reach it?",
        ) from error
