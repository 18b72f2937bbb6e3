"""An application with data of every kind that snapshots know: PostgreSQL, MariaDB, Redis, SQLite, and files."""

from __future__ import annotations

import secrets
import subprocess
from dataclasses import dataclass

IMAGE = "roas/gallery:local"
PASSWORD = f"correct-horse-{secrets.token_hex(4)}"
"""Of this process alone: tests that run beside it have their passwords in arguments of their programs."""

_CHECK = "interval: 5s, timeout: 30s, retries: 60, start_interval: 300ms, start_period: 60s"

SERVICES = {
    "db": f"""
db:
  image: {IMAGE}
  command: [start-postgres]
  environment: {{POSTGRES_USER: shop, POSTGRES_DB: shop, POSTGRES_PASSWORD: {PASSWORD}}}
  volumes: [pg:/var/lib/postgresql/data]
  healthcheck: {{test: [CMD-SHELL, "pg_isready -q -h 127.0.0.1"], {_CHECK}}}
""",
    "maria": f"""
maria:
  image: {IMAGE}
  command: [start-mariadb]
  environment: {{MARIADB_DATABASE: shop}}
  volumes: [maria:/var/lib/mysql]
  healthcheck: {{test: [CMD-SHELL, "mariadb-admin ping"], {_CHECK}}}
""",
    "cache": f"""
cache:
  image: {IMAGE}
  command: [redis-server, --dir, /data, --appendonly, "yes", --requirepass, {PASSWORD}]
  volumes: [cache:/data]
  healthcheck: {{test: [CMD-SHELL, "REDISCLI_AUTH={PASSWORD} redis-cli ping"], {_CHECK}}}
""",
    "app": f"""
app:
  image: {IMAGE}
  init: true
  command: [sh, -c, "touch /tmp/well; exec sleep 3600"]
  volumes: [files:/srv/files, state:/srv/state]
  healthcheck: {{test: [CMD, test, -e, /tmp/well], {_CHECK}}}
""",
}
VOLUMES = {"db": ("pg",), "maria": ("maria",), "cache": ("cache",), "app": ("files", "state")}
SAVED = {
    "db": "{kind: postgresql, service: db, user: shop, password_secret: SHOP_PASSWORD}",
    "maria": "{kind: mariadb, service: maria, database: shop}",
    "cache": "{kind: redis, service: cache, password_secret: SHOP_PASSWORD}",
    "app": "{kind: sqlite, service: app, file: /srv/state/app.db}, {kind: files, volume: files}",
}


def compose(*services: str, change: str = "1") -> str:
    """The Compose file of some services; another `change` replaces their containers."""
    text = "services:\n"
    for name in services:
        body = (
            SERVICES[name].rstrip().replace("\n", "\n  ")
            + f'\n    pull_policy: never\n    labels: {{change: "{change}"}}\n'
        )
        text += body.lstrip("\n")
    names = [volume for name in services for volume in VOLUMES[name]]
    return text + "volumes: {" + ", ".join(f"{name}: {{}}" for name in names) + "}\n"


def data_of(*services: str, more: str = "") -> str:
    """The environment's `data`, in one line."""
    return "{save: [" + ", ".join(SAVED[name] for name in services) + f"]{more}}}"


@dataclass(frozen=True, slots=True)
class Data:
    """Reads and writes the data of a project's containers."""

    project: str

    def inside(self, service: str, *command: str, given: str = "") -> str:
        """What a command in a service's container prints."""
        password = ["-e", f"PGPASSWORD={PASSWORD}", "-e", f"REDISCLI_AUTH={PASSWORD}"]
        words = ["docker", "exec", "-i", *password, f"{self.project}-{service}-1", *command]
        done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def postgresql(self, statement: str) -> str:
        words = ("psql", "-h", "127.0.0.1", "-U", "shop", "-d", "shop", "-qAt", "-v", "ON_ERROR_STOP=1")
        return self.inside("db", *words, given=statement)

    def mariadb(self, statement: str) -> str:
        return self.inside("maria", "mariadb", "-N", "shop", given=statement)

    def redis(self, *words: str) -> str:
        return self.inside("cache", "redis-cli", *words)

    def sqlite(self, statement: str) -> str:
        code = (
            "import sqlite3, sys\n"
            "with sqlite3.connect('/srv/state/app.db') as c:\n"
            "    c.execute('pragma journal_mode = wal')\n"
            "    print(*(row[0] for row in c.execute(sys.argv[1])), sep='\\n')"
        )
        return self.inside("app", "python3", "-c", code, statement)

    def shell(self, script: str) -> str:
        return self.inside("app", "sh", "-c", script)

    def fill(self, value: str, services: tuple[str, ...]) -> None:
        """Let every kind of data hold a value and nothing else."""
        if "db" in services:
            self.postgresql(
                "drop schema public cascade; create schema public; create extension if not exists pgcrypto;"
                f"create table goods (name text primary key); insert into goods values ('{value}');"
                f"create table only_{value} (id serial primary key); select lo_from_bytea(0, '\\x01');"
                "create view shown as select name from goods;"
            )
        if "maria" in services:
            self.mariadb(
                f"drop table if exists goods; create table goods (name text); insert into goods values ('{value}');"
                f"create table if not exists only_{value} (id int);"
                "create or replace view shown as select name from goods;"
                "create trigger stamped before insert on goods for each row set new.name = concat(new.name, '!');"
            )
        if "cache" in services:
            self.redis("flushall")
            self.redis("set", "goods", value)
        if "app" in services:
            self.sqlite("drop table if exists goods")
            self.sqlite("create table goods (name text)")
            self.sqlite(f"insert into goods values ('{value}')")
            self.shell(
                f"cd /srv/files && rm -rf ..?* .[!.]* * && mkdir -p 'a b/c' && printf {value} > 'a b/c/goods' && "
                f"touch only-{value} .hidden-{value} && ln -s 'a b/c/goods' link && "
                "chown 1234:4321 'a b/c/goods' && chmod 640 'a b/c/goods'"
            )

    def held(self, services: tuple[str, ...]) -> dict[str, str]:
        """What every kind of data holds."""
        found = {}
        if "db" in services:
            tables = "select string_agg(relname, ',' order by relname) from pg_stat_user_tables"
            found["db"] = self.postgresql(f"select name from shown; {tables}; select count(*) from pg_largeobject;")
        if "maria" in services:
            found["maria"] = self.mariadb("select name from shown; show tables; show triggers;").replace("\t", " ")
            found["maria"] = found["maria"].partition("stamped")[0]
        if "cache" in services:
            found["cache"] = self.redis("get", "goods") + " " + self.redis("dbsize")
        if "app" in services:
            found["sqlite"] = self.sqlite("select name from goods")
            found["files"] = self.shell(
                "cd /srv/files && find . | sort | xargs -d '\\n' stat -c '%n %a %u:%g' && cat link"
            )
        return found
