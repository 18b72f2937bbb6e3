"""A small shop with a database and a proxy, and bad versions of it: what each changes, and what must be said of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from tests.support.data_application import IMAGE, PASSWORD

_HEALTH = "interval: 3s, timeout: 30s, retries: 3, start_period: 10s, start_interval: 300ms"
_ASK = (
    "exec 3<>/dev/tcp/127.0.0.1/8000; printf 'GET /health HTTP/1.0\\\\r\\\\n\\\\r\\\\n' >&3; "
    "answer=$$(cat <&3); echo \\\"$$answer\\\" | tail -n 1; [[ $$answer == *' 200 '* ]]"
)

# The version that serves. A bad one is a few replaced words of these files.
GOOD = {
    "compose.yaml": f"""\
services:
  db:
    image: roas-bad-updates/postgres
    pull_policy: never
    command: [postgres, -c, config_file=/conf/postgresql.conf]
    environment: {{POSTGRES_USER: shop, POSTGRES_DB: shop, POSTGRES_PASSWORD: {PASSWORD}}}
    volumes: [pg:/var/lib/postgresql/data, ./pg:/conf:ro]
    healthcheck: {{test: [CMD-SHELL, "pg_isready -q -t 30 -h 127.0.0.1"], {_HEALTH}}}
  app:
    build: ./app
    init: true
    env_file: shop.env
    environment: {{DB_PASSWORD: {PASSWORD}}}
    volumes: [uploads:/srv/uploads]
    depends_on: {{db: {{condition: service_healthy}}}}
    healthcheck: {{test: [CMD, bash, -c, "{_ASK}"], {_HEALTH.replace("300", "310")}}}
  front:
    image: {IMAGE}
    pull_policy: never
    init: true
    command: [nginx, -c, /conf/nginx.conf, -g, 'daemon off;']
    ports: ['127.0.0.1:@PORT@:8080']
    volumes: ['./web:/conf:ro']
    depends_on: {{app: {{condition: service_healthy}}}}
    healthcheck: {{test: [CMD, test, -e, /tmp/nginx.pid], {_HEALTH}}}
volumes: {{pg: {{}}, uploads: {{}}}}
""",
    "test.yaml": """\
name: test
project: @PROJECT@
compose_files: [compose.yaml]
stabilisation_seconds: 1
start_timeout_seconds: 300
secrets: [{name: SHOP_PASSWORD}]
data: {save: [{kind: postgresql, service: db, user: shop, password_secret: SHOP_PASSWORD}]}
hooks:
  before: []
  after: [{name: smoke, command: [curl, --fail, --silent, --show-error, 'http://127.0.0.1:@PORT@/']}]
services: {app: {drain_seconds: 0}}
""",
    "shop.env": "DB_HOST=db\nGREETING=hello\n",
    "app/Dockerfile": f"""\
FROM {IMAGE}
WORKDIR /srv
COPY *.py settings.ini ./
ENV VERSION=1
CMD ["python3", "/srv/app.py"]
""",
    "app/settings.ini": "[shop]\ncurrency = EUR\n",
    "app/app.py": """\
import configparser, http.server, os, threading, time, traceback
from contextlib import closing
import psycopg2
greeting, settings = os.environ["GREETING"], configparser.ConfigParser()
with open("/srv/settings.ini") as file:
    settings.read_file(file)
open("/srv/uploads/written", "w").close()
def connect():
    return psycopg2.connect(
        host=os.environ["DB_HOST"], user="shop", dbname="shop", password=os.environ["DB_PASSWORD"], connect_timeout=5)
def order():
    with closing(connect()) as db, db, db.cursor() as cursor:
        cursor.execute("insert into orders (note) values ('x')")
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = 200, os.environ["VERSION"]
        try:
            if self.path == "/health":
                connect().close()
            else:
                order()
        except Exception as error:
            traceback.print_exc()
            status, body = 500, str(error)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *words):
        pass
connect().close()
http.server.ThreadingHTTPServer.request_queue_size = 128
print("listening", flush=True)
http.server.ThreadingHTTPServer(("", 8000), Answer).serve_forever()
""",
    "app/migrate.py": """\
import os
import psycopg2
db = psycopg2.connect(host=os.environ["DB_HOST"], user="shop", dbname="shop", password=os.environ["DB_PASSWORD"])
db.autocommit = True
for statement in []:
    print(statement, flush=True)
    db.cursor().execute(statement)
""",
    "pg/postgresql.conf": "max_connections = 90\nfsync = off\n",
    "web/nginx.conf": """\
pid /tmp/nginx.pid;
events {}
http {
  access_log off;
  server {
    listen 8080;
    location / {
      proxy_pass http://app:8000;
      proxy_connect_timeout 5s;
    }
  }
}
""",
}
# Like the official image, by whose name and command the program is recognised.
POSTGRES = f"""\
FROM {IMAGE}
ENV PGDATA=/var/lib/postgresql/data ENTRYPOINT=/bin/docker-entrypoint.sh
RUN printf '#!/bin/sh\\nshift\\nexec start-postgres "$@"\\n' > $ENTRYPOINT && chmod 755 $ENTRYPOINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
"""
SCHEMA = "create table orders (id serial primary key, note text not null)"
RENAMES = "alter table orders rename column note to remark"


class Needs(StrEnum):
    """What a person has to do next, which the first printed command must do."""

    REPAIR = "begin again, once what was refused is repaired"
    EVIDENCE = "read why it failed: the good version serves, with all that was written"
    DATA = "put the data back that a migration may have changed"


Edit = tuple[str, str, str]
"""In a file, some words become others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadVersion:
    """What a version changes, and the `words` of its cause, which must be in the first line."""

    name: str
    words: str
    edits: tuple[Edit, ...]
    needs: Needs
    changes: str = "app"
    """The services that it changes; the containers of the others stay as they are."""


def fails(name: str, words: str, *edits: Edit) -> BadVersion:
    return BadVersion(name=name, words=words, edits=edits, needs=Needs.EVIDENCE)


def refused(name: str, words: str, *edits: Edit) -> BadVersion:
    return BadVersion(name=name, words=words, edits=edits, needs=Needs.REPAIR, changes="")


def migrates(name: str, words: str, statements: list[str], *edits: Edit) -> BadVersion:
    hook = "before: [{name: migrate, service: app, command: [python3, /srv/migrate.py]}]"
    migration = ("app/migrate.py", "in []", f"in {statements!r}"), ("test.yaml", "before: []", hook)
    return BadVersion(name=name, words=words, edits=(*migration, *edits), needs=Needs.DATA)


def code(old: str, new: str) -> Edit:
    return "app/app.py", old, new


def begins(line: str) -> Edit:
    """A line at the beginning of the program."""
    return code("import psycopg2\n", f"import psycopg2\n{line}\n")


def built(old: str, new: str) -> Edit:
    return "app/Dockerfile", old, new


def compose(old: str, new: str) -> Edit:
    return "compose.yaml", old, new


def app_has(line: str) -> Edit:
    return compose("    build: ./app\n", f"    build: ./app\n    {line}\n")


ADDS = "alter table orders add price int"
CRASHES = begins('raise SystemExit("no licence found")')
DIES = begins('threading.Timer(5, lambda: (print("FATAL: licence server lost", flush=True), os._exit(3))).start()')
HOLDS = ("test.yaml", "stabilisation_seconds: 1", "stabilisation_seconds: 10")
ANSWERS = "connect().close()\n            else"
SLOW = compose("period: 10s, start_interval: 310ms", "period: 300s, start_interval: 310ms")
HURRIED = ("test.yaml", "start_timeout_seconds: 300", "start_timeout_seconds: 30")
CHECKED = compose("127.0.0.1/8000", "127.0.0.1/8001")
TYPO = compose("gallery:local\n    pull_policy: never\n    init", "galery:local\n    pull_policy: never\n    init")
TOKEN = compose("volumes: {pg", "secrets: {token: {file: ./token.txt}}\nvolumes: {pg")
JOB = compose("  front:\n", """\
  prices:
    image: debian:trixie-slim
    pull_policy: never
    command: [sh, -c, 'echo no prices of this year; exit 4']
  front:
""")  # fmt: skip
AWAITED = compose("{app: {", "{prices: {condition: service_completed_successfully}, app: {")

BAD = (
    fails("crash at start", "app .*no licence found", CRASHES),
    fails("crash after 5 s", "app .*licence server lost", DIES, HOLDS),
    fails("never healthy", "app .*queue is lost", code(ANSWERS, f'raise OSError("queue is lost")\n{" " * 12}else')),
    fails(
        "answers 500 through the proxy", "smoke.*500", code("order()\n        except", '{}["price"]\n        except')
    ),
    fails("late", "app .*has not passed its health check", begins("time.sleep(600)"), SLOW, HURRIED),
    fails("wrong port", "app .*refused", code("8000", "8002")),
    fails("wrong port behind the proxy", "app.*front answers 502", code("8000", "8001"), CHECKED),
    fails("missing variable", "app .*GREETING", ("shop.env", "GREETING=hello", "")),
    fails("missing file", "app .*No such file.*settings.ini", built(" settings.ini", "")),
    fails("another entrypoint", "app .*start.sh", app_has("entrypoint: [/srv/start.sh]")),
    replace(fails("job fails", "prices .*no prices of this year", JOB, AWAITED), changes="prices front"),
    refused("image with a typo", "roas/galery:local", TYPO),
    refused("broken build", "app.*exit code: 7", built("ENV VERSION=1", "RUN echo install-what; exit 7")),
    migrates("migration fails half way", 'migrate.*column "note" does not exist', [RENAMES, RENAMES]),
    migrates("migration, then a crash", "app .*no licence found", [RENAMES], CRASHES),
    migrates("migration, then wrong answers", "smoke.*500", [RENAMES], code("(note)", "(remark, price)")),
    migrates("migration that the good version bears", "app .*no licence found", [ADDS], CRASHES),
    refused("refused by nginx", 'front.*directive "proxy_pas"', ("web/nginx.conf", "proxy_pass ", "proxy_pas ")),
    refused("proxy to a wrong port", "front.*502", ("web/nginx.conf", "app:8000", "app:9999")),
    refused("refused by PostgreSQL", 'db.*"max_cons"', ("pg/postgresql.conf", "max_connections", "max_cons")),
    refused(
        "no YAML", "compose.yaml.*line|yaml.*line", compose("    build: ./app\n", "    build: ./app\n   init: true\n")
    ),
    refused("undefined volume", "downloads", compose("[uploads:/srv/uploads]", "[downloads:/srv/uploads]")),
    refused("file of a secret missing", "token.txt", app_has("secrets: [token]"), TOKEN),
    refused(
        "awaited health check removed",
        "app.*health ?check",
        compose("{test: [CMD, bash,", "{disable: true, test: [CMD, bash,"),
    ),
)
"""One for each way in which an update ends; by which words and commands each cause is told, tests/e2e/faults/ show."""
