"""The stores in PostgreSQL: three schemas of one database, shared by many hosts.

What a file lock does for SQLite files, an advisory lock does here: one writer at a time in a store, across
hosts, held by the transaction itself, so that the server drops it with the connection of a dead process. Rows get
their ids in the order they become visible, and no writer decides on rows that another is changing. A transaction over
several stores is one transaction of the database.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.adapt import Buffer
from psycopg.types.string import StrDumperUnknown

from adapters.host.private_files import read_regular
from adapters.stores.gate import Waits
from adapters.stores.migrate import HEADS, upgrade
from adapters.stores.outages import Outage
from adapters.stores.transactions import Bound, Together
from adapters.stores.trouble import OurWords, to_store_error
from core.storage.retention import FileUse
from models.failures import BadInputError, StoreError, StoreUnreachableError
from models.settings import Settings
from models.storage import RetentionPolicy

LOCKS = {"deployment_logs": 0x726F6173_01, "monitoring": 0x726F6173_02, "errors": 0x726F6173_03}
"""Advisory locks, by the store whose writers they line up. In this order where one takes several."""

OPENING_LOCK = 0x726F6173_00
_PAGE = 8192
_CONNECT_SECONDS = 10
_STATEMENT_SECONDS = 300
_IDLE_SECONDS = 25
"""Less than writers wait for their turn: a host that was cut off within a transaction makes no other one fail."""

_ROW_BYTES, _KEY_BYTES = 28, 24
"""What PostgreSQL adds to a row, and to each of its keys in an index."""


class PostgresqlServer:
    """One database on one server, and the connections of this process to it."""

    def __init__(self, settings: Settings, *, deadline_seconds: float) -> None:
        """Connect to nothing yet.

        Raises:
            BadInputError: The URL is none of PostgreSQL, or carries a password.
        """
        self._url = _check_url(settings.stores_url or "")
        self._password_file = settings.stores_password_file
        self.deadline_seconds = deadline_seconds
        self.waits = Waits(settings.data_dir / "waits")
        self.is_restricted = False
        """Whether this user, as that of an enrolled host, writes only what is its own; known once it is open."""
        self._outage = Outage()
        self._writers = self._engine()
        # Each transaction of theirs sees a single moment. The connections are the same: to make one takes several ways
        # to the server and back, which may be far.
        self._readers = self._writers.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        _servers.add(self)

    @property
    def place(self) -> str:
        """The database's address; the URL carries no password."""
        return self._url.render_as_string()

    @property
    def label_of_rows(self) -> str:
        """The folder of rows that wait for this database, whichever user writes them."""
        elsewhere = [self._url.query.get(name) for name in ("host", "hostaddr", "port")]
        where = [self._url.host, self._url.port or 5432, self._url.database, *elsewhere]
        return f"postgresql-{hashlib.sha256(json.dumps(where).encode()).hexdigest()[:16]}"

    @property
    def label(self) -> str:
        """The address in messages."""
        return f"PostgreSQL {self.place}"

    @property
    def source(self) -> dict[str, str | None]:
        """What another process needs to connect, but for the password itself."""
        return {"url": self.place, "password_file": None if self._password_file is None else str(self._password_file)}

    def open(self) -> None:
        """Make or upgrade the schemas, one process at a time.

        Raises:
            StoreTooNewError: A later version of this program made a store.
            StoreUnreachableError: The server does not answer, or does not let this user in.
            StoreError: A schema cannot be made or upgraded.
        """
        if self._is_up_to_date():
            return
        for name in LOCKS:
            with OurWords(f"Store {name} ({self.label})"), self._writers.begin() as connection:
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({OPENING_LOCK})"))
                is_owner = connection.scalar(_IS_OWNER, {"name": name})
                if is_owner is None:
                    connection.execute(sa.schema.CreateSchema(name))
                _enter(connection, name)
                self.is_restricted = is_owner is False
                upgrade(connection, name, may_change=not self.is_restricted)

    def _is_up_to_date(self) -> bool:
        """Whether all schemas are there, at the revisions of this program: asked at once, not one after the other."""
        try:
            with OurWords(f"The stores ({self.label})"), self._readers.connect() as connection:
                *revisions, is_owner = connection.exec_driver_sql(_REVISIONS).one()
                self.is_restricted = not is_owner
                return revisions == [HEADS["deployment_logs"], HEADS["monitoring"], HEADS["errors"]]
        except StoreUnreachableError:
            raise
        except StoreError:
            # One is not there, or may not be read; the process that makes it says so.
            return False

    def close(self) -> None:
        """Close every connection of this process."""
        self._writers.dispose()

    @contextmanager
    def alone(self, what: str) -> Iterator[sa.Connection]:
        """A connection for what may not run inside a transaction, without a limit of time."""
        with OurWords(what), self._writers.connect() as connection:
            driver = connection.connection.dbapi_connection
            if driver is None:
                raise RuntimeError("the connection is closed")
            driver.autocommit = True
            try:
                connection.exec_driver_sql("SET statement_timeout = 0")
                yield connection
            finally:
                connection.invalidate()

    def forget_after_fork(self) -> None:
        """In a forked child: leave the parent's connections alone, and open own ones when needed."""
        self._writers.dispose(close=False)

    @contextmanager
    def shared_write(self, what: str) -> Iterator[sa.Connection]:
        """A transaction that writes beside others, for rows that only one writer has: it must name schemas itself."""
        with OurWords(what), self._writers.begin() as connection:
            yield connection

    @contextmanager
    def transaction(self, what: str, name: str, locks: Sequence[str] = ()) -> Iterator[sa.Connection]:
        """A transaction in a store's schema that has the stores of `locks` to itself.

        Without any it sees one moment and changes nothing.
        """
        with OurWords(what):
            connection = self._begin(name, locks)
            try:
                yield connection
                connection.commit()
            finally:
                connection.close()

    def _begin(self, name: str, locks: Sequence[str]) -> sa.Connection:
        """A connection with a transaction that has begun; waits for the server where this is worth it."""
        began = time.monotonic()
        while True:
            try:
                connection = self._begin_once(name, locks)
            except sa.exc.DBAPIError as error:
                ours = to_store_error(error, self.label)
                if not isinstance(ours, StoreUnreachableError) or not self._outage.wait(began, ours.what):
                    raise
            else:
                self._outage.end()
                return connection

    def _begin_once(self, name: str, locks: Sequence[str]) -> sa.Connection:
        engine = self._writers if locks else self._readers
        connection = engine.connect()
        try:
            try:
                self._first_words(connection, name, locks)
            except sa.exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                # The server was restarted since the last use; nothing was said on this connection yet.
                connection.close()
                connection = engine.connect()
                self._first_words(connection, name, locks)
        except BaseException:
            connection.close()
            raise
        return connection

    def _first_words(self, connection: sa.Connection, name: str, locks: Sequence[str]) -> None:
        if not locks:
            _enter(connection, name)
        # Each only once the one before is held, or two that take several could wait for each other.
        for number, lock in enumerate(lock for lock in LOCKS if lock in locks):
            self._wait_turn(connection, lock, enters=name if number == 0 else None)

    def _wait_turn(self, connection: sa.Connection, name: str, *, enters: str | None) -> None:
        key = LOCKS[name]
        first = "" if enters is None else f"set_config('search_path', '{enters}', true), "
        # Said in one statement, since each is a way to the server and back.
        if connection.exec_driver_sql(f"SELECT {first}pg_try_advisory_xact_lock({key})").one()[-1]:
            return
        began = time.monotonic()
        try:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({key})")
        finally:
            self.waits.add(time.monotonic() - began)

    def _engine(self) -> sa.Engine:
        return sa.create_engine(
            "postgresql+psycopg://",
            creator=lambda: connect(self._url, self._password_file, self.deadline_seconds),
            pool_size=4,
            max_overflow=16,
            pool_timeout=self.deadline_seconds,
            pool_use_lifo=True,
            # No column is of this type, and to look for it takes three more ways to the server.
            use_native_hstore=False,
        )


class PostgresqlDatabase:
    """A store in one schema of a PostgreSQL database.

    Raises:
        StoreBusyError: Others were writing until the deadline.
        StoreUnreachableError: The server does not answer.
        StoreError: The store cannot be read or written; the message says why.
    """

    def __init__(self, name: str, server: PostgresqlServer) -> None:
        """Connect to nothing yet."""
        self.name = name
        self.server = server

    @property
    def place(self) -> str:
        """The database and the schema in it."""
        return f"{self.server.place}, schema {self.name}"

    @property
    def archive_source(self) -> str:
        """The database and the schema in it, for the process that writes archives."""
        return "postgresql " + json.dumps({**self.server.source, "schema": self.name})

    def kept_aside(self) -> list[Path]:
        """Nothing: the server keeps its files itself."""
        return []

    def close(self) -> None:
        """Close every connection of this process to the server."""
        self.server.close()

    def read(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that sees one moment and changes nothing."""
        return self.server.transaction(self._label, self.name)

    def write(self, *, durable: bool = False) -> AbstractContextManager[sa.Connection]:
        """A transaction that has the store to itself, committed if the body ends well and undone if it raises."""
        del durable  # The server syncs whatever it commits.
        return self.server.transaction(self._label, self.name, [self.name])

    def faults(self) -> list[str]:
        """What PostgreSQL knows to be wrong: indexes and rules that do not hold, pages that did not check.

        It verifies pages as it reads them where the cluster has data checksums.
        """
        with self.read() as connection:
            broken = connection.execute(_BROKEN, {"name": self.name}).scalars().all()
            pages = connection.execute(_BAD_PAGES).scalar() or 0
        return [*broken, *([f"{pages} pages of the database did not match their checksums"] if pages else [])][:10]

    def use(self) -> FileUse:
        """How much of its pages is used, as far as PostgreSQL's statistics tell: deleted rows keep their room."""
        with self.read() as connection:
            tables = connection.execute(_TABLES, {"name": self.name}).all()
        pages = sum(int(table.bytes) for table in tables) // _PAGE
        used = 0
        for table in tables:
            whole = int(table.bytes)
            # Without statistics of its columns nothing is known of a table but its size.
            needed = int(table.rows) * (int(table.width) + _ROW_BYTES + _KEY_BYTES * int(table.indexes)) * 5 // 4
            used += min(whole, max(needed, _PAGE)) if table.width else whole
        return FileUse(pages=pages, free=max(0, pages - -(-used // _PAGE)), page_bytes=_PAGE)

    def sizes(self) -> dict[str, int]:
        """Bytes of the schema with its indexes; the log is the server's own."""
        with self.read() as connection:
            return {"database": int(connection.execute(_SIZE, {"name": self.name}).scalar_one())}

    def analyse(self) -> None:
        """Look at a sample of each table, so that queries choose well."""
        self._each_table("ANALYZE")

    def sync(self) -> None:
        """Nothing: the server syncs what it commits."""

    def settle(self) -> None:
        """Nothing: the server empties its log by itself."""

    def give_back(self, policy: RetentionPolicy, deadline: float, *, dry_run: bool) -> tuple[int, str | None]:
        """Make the room of deleted rows usable again, where there is enough of it to pay; autovacuum does it too.

        Files shrink only where their ends are free: PostgreSQL keeps the rest for new rows.
        """
        del deadline  # VACUUM does not make writers wait, so it need not be done in steps.
        with self.read() as connection:
            waste = connection.execute(_WASTE, {"name": self.name, "share": policy.vacuum_share}).scalars().all()
        if waste and not dry_run:
            self._each_table("VACUUM (ANALYZE)", waste)
        remark = f"{self.name}: PostgreSQL keeps freed room for new rows" if waste else None
        return self.sizes()["database"], remark

    def _each_table(self, command: str, tables: Sequence[str] | None = None) -> None:
        if tables is None:
            with self.read() as connection:
                tables = [row.table for row in connection.execute(_TABLES, {"name": self.name})]
        with self.server.alone(self._label) as connection:
            for table in tables:
                connection.exec_driver_sql(f'{command} "{self.name}"."{table}"')

    @cached_property
    def _label(self) -> str:
        return f"Store {self.name} ({self.server.label})"


class PostgresqlTransactions:
    """Transactions over several stores, which are the database's own."""

    def __init__(self, server: PostgresqlServer) -> None:
        """Begin nothing yet."""
        self._server = server

    @contextmanager
    def write(self, deadline_seconds: float) -> Iterator[Together]:
        """A transaction over the three stores; use the stores only through the value it yields."""
        del deadline_seconds  # Every connection has it.
        what = f"A transaction over the three stores ({self._server.label})"
        with self._server.transaction(what, "deployment_logs", list(LOCKS)) as connection:
            yield _together(connection)

    @contextmanager
    def read(self, deadline_seconds: float) -> Iterator[Together]:
        """The three stores at one moment.

        Raises:
            StoreError: A store cannot be read.
        """
        del deadline_seconds
        with self._server.transaction(f"A read of the three stores ({self._server.label})", "errors") as connection:
            yield _together(connection)


def _together(connection: sa.Connection) -> Together:
    now = ""

    def enter(connection: sa.Connection, name: str) -> None:
        nonlocal now
        if name != now:
            _enter(connection, name)
            now = name

    return Together({name: Bound(name, connection, enter) for name in LOCKS})


def _enter(connection: sa.Connection, name: str) -> None:
    """Names of tables mean those of this store, until the end of the transaction."""
    connection.exec_driver_sql(f"SET LOCAL search_path TO {name}")


class _Text(StrDumperUnknown):
    """Text as PostgreSQL takes it: what a container wrote may hold zero bytes, which it refuses."""

    def dump(self, obj: str) -> Buffer | None:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in obj else obj)


def connect(url: sa.URL, password_file: Path | None, deadline_seconds: float) -> psycopg.Connection[Any]:
    """A connection of the driver's own that waits for others and for the server so long and no longer.

    Raises:
        StoreError: The password's file cannot be read.
        psycopg.Error: The server does not answer, or does not let this user in.
    """
    seconds = {
        "lock_timeout": deadline_seconds,
        "statement_timeout": max(_STATEMENT_SECONDS, 2 * deadline_seconds),
        "idle_in_transaction_session_timeout": _IDLE_SECONDS,
    }
    limits = " ".join(f"-c {name}={round(value * 1000)}" for name, value in seconds.items())
    parameters: dict[str, Any] = {
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": "roas",
        "tcp_user_timeout": 1000 * _CONNECT_SECONDS,
        # Who waits for an answer sends nothing, and would not notice for hours that the network was cut meanwhile.
        "keepalives_idle": _CONNECT_SECONDS,
        "keepalives_interval": _CONNECT_SECONDS // 2,
        "keepalives_count": 3,
        "host": url.host,
        "port": url.port,
        "user": url.username,
        "dbname": url.database,
        **url.query,
        "options": f"{url.query.get('options', '')} {limits} -c timezone=UTC".strip(),
    }
    if password_file is not None:
        parameters["password"] = _password(password_file)
    connection: psycopg.Connection[Any] = psycopg.connect(
        **{name: value for name, value in parameters.items() if value is not None}
    )
    connection.adapters.register_dumper(str, _Text)
    return connection


def _password(file: Path) -> str:
    try:
        return read_regular(file).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise StoreError(
            f"The password of the stores cannot be read from {file}: {reason};",
            advice="set ROAS_STORES_PASSWORD_FILE to a file this user may read.",
        ) from error


def _check_url(text: str) -> sa.URL:
    advice = "give one like postgresql://user@host/database, and the password in ROAS_STORES_PASSWORD_FILE."
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        # Not the driver's words: they repeat the text, and with it a password that was put there.
        raise BadInputError("ROAS_STORES_URL cannot be read;", advice=advice) from None
    if url.drivername not in ("postgresql", "postgres") or not url.database:
        raise BadInputError(f"ROAS_STORES_URL names {url.drivername}, not a PostgreSQL database;", advice=advice)
    if url.password is not None or "password" in url.query:
        raise BadInputError("ROAS_STORES_URL carries a password, which would be shown;", advice=advice)
    return url


_IS_OWNER = sa.text("SELECT pg_has_role(nspowner, 'MEMBER') FROM pg_namespace WHERE nspname = :name")

_REVISIONS = """
SELECT (SELECT version_num FROM deployment_logs.alembic_version), (SELECT version_num FROM monitoring.alembic_version),
    (SELECT version_num FROM errors.alembic_version),
    (SELECT pg_has_role(nspowner, 'MEMBER') FROM pg_namespace WHERE nspname = 'errors')
"""

_SIZE = sa.text("""
SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class
WHERE relnamespace = to_regnamespace(:name) AND relkind = 'r'
""")

_TABLES = sa.text("""
SELECT c.relname AS "table", pg_total_relation_size(c.oid) AS bytes, coalesce(s.n_live_tup, 0) AS rows,
    (SELECT count(*) FROM pg_index i WHERE i.indrelid = c.oid) AS indexes,
    (SELECT coalesce(sum(p.avg_width), 0) FROM pg_stats p
        WHERE p.schemaname = :name AND p.tablename = c.relname) AS width
FROM pg_class c LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.relnamespace = to_regnamespace(:name) AND c.relkind = 'r' ORDER BY c.relname
""")

_WASTE = sa.text("""
SELECT relname FROM pg_stat_user_tables WHERE schemaname = :name
    AND n_dead_tup > 1000 AND n_dead_tup > :share * (n_live_tup + n_dead_tup) ORDER BY relname
""")

_BROKEN = sa.text("""
SELECT 'index ' || i.indexrelid::regclass || ' is not valid' FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = to_regnamespace(:name) AND NOT i.indisvalid
UNION ALL
SELECT 'rule ' || conname || ' was never verified' FROM pg_constraint
    WHERE connamespace = to_regnamespace(:name) AND NOT convalidated
LIMIT 10
""")

_BAD_PAGES = sa.text("SELECT checksum_failures FROM pg_stat_database WHERE datname = current_database()")

_servers: weakref.WeakSet[PostgresqlServer] = weakref.WeakSet()


def _forget_servers() -> None:
    for server in _servers:
        server.forget_after_fork()


os.register_at_fork(after_in_child=_forget_servers)
