"""The programs that dump, load and question each kind of database, inside its own container.

A password is in none of the arguments: the program reads it from a variable.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any

from core.storage.changes import MARIADB_SIZE, POSTGRESQL_COUNTERS
from models.snapshots import DatabaseData, MariadbData, PostgresqlData, RedisData, SqliteData

PASSWORD_VARIABLE = {"postgresql": "PGPASSWORD", "mariadb": "MYSQL_PWD", "redis": "REDISCLI_AUTH"}
"""The variable that the programs of a kind read the password from."""

# A program under its new or its old name, whichever the image has.
_EITHER = 'name=$1 old=$2; shift 2; if command -v "$name" >/dev/null; then exec "$name" "$@"; else exec "$old" "$@"; fi'


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How a dump is loaded: the program that reads it, and what it reads before and after it."""

    command: tuple[str, ...]
    before: str = ""
    after: str = ""


def dump_command(data: DatabaseData) -> tuple[str, ...]:
    """The program that prints all of a database, as it was at one moment, while it stays available."""
    match data:
        case PostgresqlData():
            host, user, database = _postgresql_place(data)
            return ("sh", "-c", _DUMP_POSTGRESQL, "sh", database, *host, user)
        case MariadbData():
            options = ("--single-transaction", "--quick", "--routines", "--triggers", "--events", "--hex-blob")
            more = ("--skip-dump-date", "--add-drop-database", "--databases", data.database)
            return (*_either_name("mariadb-dump", "mysqldump"), f"--user={data.user}", *options, *more)
        case RedisData():
            return ("sh", "-c", _COPY_REDIS)
        case SqliteData():
            return ("sh", "-c", _COPY_SQLITE, "sh", data.file)


def load_of(data: PostgresqlData | MariadbData) -> Load:
    """How a dump replaces what a running server has.

    PostgreSQL replaces it in one transaction, which ends only with the last words: a load that is cut off at any
    moment changes nothing. MariaDB knows no such transaction.
    """
    if isinstance(data, PostgresqlData):
        command = ("psql", "--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", *_postgresql(data))
        return Load(command=(*command, "--output=/dev/null"), before=_EMPTY_POSTGRESQL, after="\nCOMMIT;\n")
    return Load(command=(*_either_name("mariadb", "mysql"), f"--user={data.user}"))


def ready_command(data: DatabaseData) -> tuple[str, ...]:
    """The program that ends well once the server takes connections.

    It asks by TCP: while an image prepares a new server, that takes connections by its socket alone.
    """
    match data:
        case PostgresqlData():
            return ("pg_isready", "--quiet", "--host=127.0.0.1")
        case MariadbData():
            return (*_either_name("mariadb-admin", "mysqladmin"), "--host=127.0.0.1", f"--user={data.user}", "ping")
        case _:
            return (*_either_name("redis-cli", "valkey-cli"), "dbsize")


def question_command(data: PostgresqlData | MariadbData | RedisData) -> tuple[str, ...]:
    """The program that says what a database has: lines of a name, a tab and a number."""
    match data:
        case PostgresqlData():
            return ("psql", "--no-psqlrc", "--tuples-only", "--no-align", "--field-separator=\t", "--no-password",
                    "--set=ON_ERROR_STOP=1", *_postgresql(data), "--command", _ROWS_POSTGRESQL)  # fmt: skip
        case MariadbData():
            return (*_either_name("mariadb", "mysql"), "--batch", "--skip-column-names", f"--user={data.user}",
                    data.database, "--execute", _TABLES_MARIADB)  # fmt: skip
        case RedisData():
            return (*_either_name("redis-cli", "valkey-cli"), "dbsize")


def counters_command(data: DatabaseData) -> tuple[str, ...]:
    """The program that prints a server's counters of what was written; empty where there is none.

    It reads no table, and waits for no lock.
    """
    match data:
        case PostgresqlData():
            options = ("--no-psqlrc", "--tuples-only", "--no-align", "--field-separator=\t", "--no-password")
            return ("psql", *options, *_postgresql(data), "--command", POSTGRESQL_COUNTERS)
        case MariadbData():
            return (*_either_name("mariadb", "mysql"), "--batch", "--skip-column-names", f"--user={data.user}",
                    data.database, "--execute", MARIADB_SIZE)  # fmt: skip
        case RedisData():
            return question_command(data)
        case SqliteData():
            return ()


def roles_command(data: PostgresqlData) -> tuple[str, ...]:
    """The program that prints the roles of a server that a load brings back, one a line: none but for a superuser."""
    options = ("--no-psqlrc", "--tuples-only", "--no-align", "--no-password", "--set=ON_ERROR_STOP=1")
    return ("psql", *options, *_postgresql(data), "--command", _ROLES_POSTGRESQL)


def rows_command(data: MariadbData, tables: tuple[str, ...]) -> tuple[str, ...]:
    """The program that counts the rows of these tables."""
    counted = " union all ".join(
        # Names from the server's own list.
        f"select '{_sql(table)}', count(*) from `{table.replace('`', '``')}`"  # noqa: S608
        for table in tables
    )
    options = ("--batch", "--skip-column-names", f"--user={data.user}")
    return (*_either_name("mariadb", "mysql"), *options, data.database, "--execute", counted)


def redis_facts_command() -> tuple[str, ...]:
    """The program that says where Redis keeps its file, as pairs of lines."""
    names = ("dir", "dbfilename", "appendonly", "appenddirname", "appendfilename")
    return (*_either_name("redis-cli", "valkey-cli"), "config", "get", *names)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisFiles:
    """Where a Redis server loads its data from at its start: paths inside its container.

    `collect` is where the file is written first. `manifest` is empty without an append-only log; with one, it names the
    file at `path`.
    """

    path: str
    collect: str
    remove: tuple[str, ...] = ()
    manifest: str = ""
    manifest_text: str = ""


def redis_facts(printed: str) -> dict[str, str]:
    """What Redis said of its files; empty where it may not be asked."""
    lines = printed.splitlines()
    return {name: value for name, value in zip(lines[::2], lines[1::2], strict=False) if name and " " not in name}


def redis_files(facts: dict[str, Any]) -> RedisFiles:
    """The files to write so that a server loads a dump at its start."""
    folder, name = str(facts.get("dir") or "/data"), str(facts.get("dbfilename") or "dump.rdb")
    collect = posixpath.join(folder, ".roas-new")
    if facts.get("appendonly") != "yes":
        return RedisFiles(path=posixpath.join(folder, name), collect=collect)
    log = str(facts.get("appendfilename") or "appendonly.aof")
    inner = posixpath.join(folder, str(facts.get("appenddirname") or "appendonlydir"))
    # Redis 7 and Valkey: the log begins with a dump, and a manifest names it.
    base = f"{log}.1.base.rdb"
    return RedisFiles(
        path=posixpath.join(inner, base),
        collect=collect,
        remove=(inner,),
        manifest=posixpath.join(inner, f"{log}.manifest"),
        manifest_text=f"file {base} seq 1 type b",
    )


def counts_in(printed: str) -> dict[str, int]:
    """Names and numbers in the lines that a question's program printed."""
    counts = {}
    for line in printed.splitlines():
        name, _, number = line.rpartition("\t")
        if name and number.strip().isdecimal():
            counts[name] = int(number)
    return counts


def _postgresql(data: PostgresqlData) -> tuple[str, ...]:
    host, user, database = _postgresql_place(data)
    return (*host, user, f"--dbname={database}")


def _postgresql_place(data: PostgresqlData) -> tuple[tuple[str, ...], str, str]:
    # With a password by TCP: where the socket is, differs between images.
    host = ("--host=127.0.0.1",) if data.password_secret else ()
    return host, f"--username={data.user}", data.database or data.user


def _either_name(name: str, old: str) -> tuple[str, ...]:
    return ("sh", "-c", _EITHER, "sh", name, old)


def _sql(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "''")


# Roles first, since the dump grants them rights. Not compressed: restic compresses, and finds what it has already.
# A role that is there keeps its password, since what logs in now knows that one. Only a superuser may read passwords.
# pg_dumpall forbids psql's own commands in what it prints, and here some are added: lines of its own that begin like
# one are left out. In a log of the server no statement may show the hash of a password.
_DUMP_POSTGRESQL = r"""
set -e
database=$1
shift
roles() { pg_dumpall --roles-only --no-password --database="$database" "$@"; }
text=$(roles "$@" 2>/dev/null) || text=$(roles --no-role-passwords "$@")
cat <<'END'
SELECT rolsuper AS is_superuser FROM pg_roles WHERE rolname = current_user \gset
\if :is_superuser
\set ON_ERROR_STOP off
\set ON_ERROR_ROLLBACK on
SET LOCAL log_statement = 'none';
SET LOCAL log_min_messages = 'panic';
SET LOCAL log_min_duration_statement = -1;
END
printf '%s\n' "$text" | sed -e '/^\\/d' -e '/^--/d' -e '/^CREATE ROLE .*;$/a\
\\set there :ERROR' -e 's/^\(ALTER ROLE .* WITH .*\) PASSWORD '"'[^']*'"'\(.*\);$/\\if :there\
\1\2;\
\\else\
&\
\\endif/'
cat <<'END'
\set ON_ERROR_ROLLBACK off
\set ON_ERROR_STOP on
RESET log_min_messages;
\endif
END
exec pg_dump --format=plain --no-password "$@" --dbname="$database"
"""

_ROLES_POSTGRESQL = """
SELECT rolname FROM pg_roles
WHERE rolname !~ '^pg_' AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) ORDER BY 1
"""

# Into a file: on a pipe, redis-cli leaves the mark of the replication's end after the dump.
_COPY_REDIS = """
set -e
copy=$(mktemp)
trap 'rm -f "$copy"' EXIT
if command -v redis-cli >/dev/null; then redis-cli --rdb "$copy" >&2; else valkey-cli --rdb "$copy" >&2; fi
cat "$copy"
"""

_COPY_SQLITE = """
set -e
copy=$(mktemp)
trap 'rm -f "$copy"' EXIT
if command -v sqlite3 >/dev/null; then
    sqlite3 -bail -cmd '.timeout 30000' "$1" ".backup '$copy'" >&2
elif command -v python3 >/dev/null; then
    python3 -c 'import sqlite3, sys
source = sqlite3.connect(f"file:{sys.argv[1]}?mode=rw", uri=True, timeout=30)
copy = sqlite3.connect(sys.argv[2])
source.backup(copy)
copy.close()' "$1" "$copy" >&2
else
    echo "neither sqlite3 nor python3 is in the container" >&2
    exit 127
fi
cat "$copy"
"""

NO_SQLITE = 127
"""Exit code where the container has no program that can copy a SQLite file."""

_EMPTY_POSTGRESQL = """
BEGIN;
SET LOCAL lock_timeout = '60s';
SET LOCAL client_min_messages = warning;
DO $roas$
DECLARE
    one record;
    public_owner name;
BEGIN
    SELECT nspowner::regrole INTO public_owner FROM pg_namespace WHERE nspname = 'public';
    FOR one IN SELECT pubname AS name FROM pg_publication LOOP
        EXECUTE format('DROP PUBLICATION %I', one.name);
    END LOOP;
    FOR one IN SELECT evtname AS name FROM pg_event_trigger LOOP
        EXECUTE format('DROP EVENT TRIGGER %I', one.name);
    END LOOP;
    FOR one IN SELECT extname AS name FROM pg_extension WHERE extname <> 'plpgsql' LOOP
        EXECUTE format('DROP EXTENSION IF EXISTS %I CASCADE', one.name);
    END LOOP;
    FOR one IN SELECT fdwname AS name FROM pg_foreign_data_wrapper LOOP
        EXECUTE format('DROP FOREIGN DATA WRAPPER %I CASCADE', one.name);
    END LOOP;
    FOR one IN SELECT nspname AS name FROM pg_namespace
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', one.name);
    END LOOP;
    FOR one IN SELECT oid FROM pg_largeobject_metadata LOOP
        PERFORM lo_unlink(one.oid);
    END LOOP;
    IF public_owner IS NOT NULL THEN
        CREATE SCHEMA public;
        EXECUTE format('ALTER SCHEMA public OWNER TO %I', public_owner);
        GRANT USAGE ON SCHEMA public TO PUBLIC;
        IF current_setting('server_version_num')::int < 150000 THEN
            GRANT CREATE ON SCHEMA public TO PUBLIC;
        END IF;
    END IF;
END $roas$;
"""

_ROWS_POSTGRESQL = """
SELECT format('%I.%I', schemaname, relname),
    (xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM %I.%I', schemaname, relname),
        false, true, '')))[1]::text
FROM (SELECT schemaname, relname FROM pg_stat_user_tables
      ORDER BY pg_total_relation_size(relid) DESC, 1, 2 LIMIT 5) AS largest
UNION ALL SELECT '', count(*)::text FROM pg_stat_user_tables
"""

_TABLES_MARIADB = """
select table_name, greatest(data_length + index_length, 0) from information_schema.tables
where table_schema = database() and table_type = 'BASE TABLE' order by 2 desc, 1
"""
