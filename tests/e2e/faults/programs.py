"""Three applications of real programs: Flask on PostgreSQL, Python on MariaDB, and nginx before Node.js and Redis."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.flows.test_notifications import Webhook
from tests.support.ports import free_port
from tests.support.registry import Registry
from tests.support.warm import warm_commands

IMAGE = "roas/gallery:local"
_BIN = Path(sys.executable).parent
PASSWORD = "first-of-all"
DISK_MEGABYTES = {"shop": 128, "notes": 2, "board": 2}
_WRITTEN_BY_USER = {"shop": ("uploads",), "notes": ("disk/exports",), "board": ("disk/redis",)}
_TIMES = {"interval": "1s", "timeout": "30s", "retries": 3, "start_period": "60s", "start_interval": "300ms"}

_SHOP = """\
import json
import psycopg2
from flask import Flask

with open("/srv/settings.json") as file:
    settings = json.load(file)
catalogue = b"x" * (settings["catalogue_mb"] << 20)
app = Flask(__name__)
psycopg2.connect("").close()

@app.get("/")
def index():
    with psycopg2.connect("") as connection, connection.cursor() as cursor:
        cursor.execute("select 1")
    with open("/srv/uploads/last", "w") as file:
        file.write("seen")
    return "shop"
"""
_NOTES = """\
import http.server, os, sys, traceback
import pymysql

def connect():
    return pymysql.connect(host=os.environ["DB_HOST"], user="app", password=os.environ["DB_PASSWORD"], database="notes")

class Notes(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            if self.path == "/report":
                rows = b"x" * (300 << 20)
            connect().close()
            with open("/srv/exports/notes.new", "w") as file:
                file.write("note " * 1000)
            os.replace("/srv/exports/notes.new", "/srv/exports/notes.txt")
            code, body = 200, b"notes"
        except Exception:
            traceback.print_exc()
            code, body = 500, b"Internal Server Error"
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass

connect().close()
http.server.ThreadingHTTPServer(("", 8000), Notes).serve_forever()
"""
_BOARD = """\
const http = require('http'), net = require('net');
const cache = Buffer.alloc(Number(process.env.CACHE_MB) << 20, 1);
function redis(...commands) {
  return new Promise((done, failed) => {
    const socket = net.connect(6379, process.env.REDIS_HOST);
    socket.on('error', failed);
    let answers = '';
    socket.on('data', (data) => {
      const lines = (answers += data).split('\\r\\n');
      const refused = lines.find((line) => line.startsWith('-'));
      if (refused || lines.length > 2) {
        socket.destroy();
        refused ? failed(new Error(refused.slice(1))) : done(answers);
      }
    });
    socket.write(`AUTH ${process.env.REDIS_PASSWORD}\\r\\n` + commands.join('\\r\\n') + '\\r\\n');
  });
}
redis('PING').then(() => http.createServer((request, response) => {
  redis('INCR visits').then(() => response.end('board'), (error) => {
    console.error(error);
    response.statusCode = 500;
    response.end();
  });
}).listen(8000), (error) => {
  console.error(error);
  process.exit(1);
});
"""
_NGINX = """\
pid /tmp/nginx.pid;
events {}
http {
  access_log off;
  server {
    listen 8080;
    location / { proxy_pass http://web:8000; }
  }
}
"""


@dataclass(slots=True, kw_only=True)
class BrokenApp:
    """One application that is well, in a folder with its Compose file, environment and mounted files."""

    kind: str
    folder: Path
    registry: Registry
    variables: dict[str, str]
    webhook: Webhook
    project: str = field(default_factory=lambda: f"roas-break-{secrets.token_hex(4)}")
    port: int = field(default_factory=free_port)
    taken: int = field(default_factory=free_port)
    services: dict[str, Any] = field(default_factory=dict)
    data: Path = Path()

    def write(self) -> None:
        """Write all as it is well."""
        self.services, files = {"shop": _shop, "notes": _notes, "board": _board}[self.kind](self.port)
        for service in self.services.values():
            service |= {"image": IMAGE, "pull_policy": "never"}
        for name, content in files.items():
            (self.folder / name).write_text(content)
        for name in _WRITTEN_BY_USER[self.kind]:
            path = self.folder / name
            path.mkdir(exist_ok=True, parents=True)
            subprocess.run(["chown", "-R", "1000:1000", path], check=True)
        self.change(lambda _: None)
        fields = {"name": self.kind, "project": self.project, "compose_files": ["compose.yaml"]}
        fields |= {"notify": ["custom-webhook/told"], "stabilisation_seconds": 3}
        (self.folder / f"{self.kind}.yaml").write_text(yaml.safe_dump(fields))

    def change(self, how: Callable[[dict[str, Any]], object]) -> None:
        """Edit the Compose file."""
        how(self.services)
        named = [str(one).partition(":")[0] for service in self.services.values() for one in service.get("volumes", ())]
        volumes = {name: {} for name in named if not name.startswith(".")}
        (self.folder / "compose.yaml").write_text(
            yaml.safe_dump({"services": self.services, "volumes": volumes}, sort_keys=False)
        )

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command line as its user does, in the application's folder."""
        own = {"ROAS_DATA_DIR": str(self.data), "ROAS_ENVIRONMENTS_DIR": str(self.folder), "COLUMNS": "160"}
        path = {"PATH": f"{_BIN}:{os.environ['PATH']}"}
        return subprocess.run(
            ["sh", "-c", command], cwd=self.folder, env=self.variables | warm_commands() | own | path,
            capture_output=True, text=True, errors="replace", check=False, timeout=600,
        )  # fmt: skip

    def inside(self, service: str, *command: str) -> None:
        """Run a command in a container; it may fail or be cut off by what it does."""
        words = ["docker", "exec", f"{self.project}-{service}-1", *command]
        subprocess.run(words, capture_output=True, check=False, timeout=120)

    def wait_until_failed(self, service: str) -> None:
        """Wait until the engine shows that a service has ended or is unhealthy."""
        form, deadline = "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}", time.monotonic() + 300
        command = ["docker", "inspect", "--format", form, f"{self.project}-{service}-1"]
        while (seen := subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()) not in (
            "running unhealthy", "exited unhealthy", "exited starting", "exited healthy",
        ):  # fmt: skip
            assert time.monotonic() < deadline, f"{service} is {seen}"
            time.sleep(0.1)


def _answers(port: int) -> dict[str, Any]:
    ask = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}/')"
    return {"test": ["CMD", "python3", "-c", ask], **_TIMES}


def _after(name: str) -> dict[str, Any]:
    return {name: {"condition": "service_healthy"}}


def _shop(port: int) -> tuple[dict[str, Any], dict[str, str]]:
    services = {
        "db": {
            "command": ["start-postgres", "-c", "max_wal_size=32MB", "-c", "min_wal_size=32MB"],
            "environment": {"POSTGRES_USER": "app", "POSTGRES_DB": "shop", "POSTGRES_PASSWORD": "${DB_PASSWORD}"},
            "volumes": ["./disk:/var/lib/postgresql/data"],
            "healthcheck": {"test": ["CMD", "pg_isready", "-q", "-h", "127.0.0.1"], **_TIMES},
        },
        "web": {
            "command": ["gunicorn", "--chdir", "/srv", "--bind", ":8000", "--threads", "4", "shop:app"],
            "user": "1000:1000",
            "environment": {"PGHOST": "db", "PGUSER": "app", "PGDATABASE": "shop", "PGPASSWORD": "${DB_PASSWORD}"},
            "volumes": ["./settings.json:/srv/settings.json:ro", "./uploads:/srv/uploads", "./shop.py:/srv/shop.py:ro"],
            "ports": [f"127.0.0.1:{port}:8000"],
            "depends_on": _after("db"),
            "healthcheck": _answers(8000),
        },
    }
    files = {"shop.py": _SHOP, "settings.json": '{"catalogue_mb": 120}\n', ".env": f"DB_PASSWORD={PASSWORD}\n"}
    return services, files


def _notes(port: int) -> tuple[dict[str, Any], dict[str, str]]:
    services = {
        "db": {
            "command": ["start-mariadb"],
            "environment": {"MARIADB_DATABASE": "notes", "MARIADB_PASSWORD": PASSWORD},
            "volumes": ["db:/var/lib/mysql"],
            "healthcheck": {"test": ["CMD", "mariadb-admin", "ping"], **_TIMES},
        },
        "web": {
            "command": ["python3", "/srv/notes.py"],
            "user": "1000:1000",
            "init": True,
            "mem_limit": "128m",
            "environment": {"DB_HOST": "db", "USER": "notes"},
            "env_file": ["web.env"],
            "volumes": ["./notes.py:/srv/notes.py:ro", "./disk/exports:/srv/exports"],
            "ports": [f"127.0.0.1:{port}:8000"],
            "depends_on": _after("db"),
            "healthcheck": _answers(8000),
        },
    }
    return services, {"notes.py": _NOTES, "web.env": f"DB_PASSWORD={PASSWORD}\n"}


def _board(port: int) -> tuple[dict[str, Any], dict[str, str]]:
    redis = ["redis-server", "--dir", "/data", "--appendonly", "yes", "--requirepass", PASSWORD]
    services = {
        "cache": {
            "command": redis,
            "user": "1000:1000",
            "environment": {"REDISCLI_AUTH": PASSWORD},
            "volumes": ["./disk/redis:/data"],
            "healthcheck": {"test": ["CMD", "redis-cli", "-e", "ping"], **_TIMES},
        },
        "web": {
            "command": ["node", "/srv/board.js"],
            "init": True,
            "environment": {"REDIS_HOST": "cache", "REDIS_PASSWORD": PASSWORD, "CACHE_MB": "150"},
            "volumes": ["./board.js:/srv/board.js:ro"],
            "depends_on": _after("cache"),
            "healthcheck": _answers(8000),
        },
        "front": {
            "command": ["nginx", "-g", "daemon off;"],
            "volumes": ["./nginx.conf:/etc/nginx/nginx.conf:ro"],
            "ports": [f"127.0.0.1:{port}:8080"],
            "depends_on": _after("web"),
            "healthcheck": _answers(8080),
        },
    }
    return services, {"board.js": _BOARD, "nginx.conf": _NGINX}
