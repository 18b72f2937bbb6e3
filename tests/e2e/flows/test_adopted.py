"""`roas init` on applications with servers from Debian's packages: what it writes validates, and a start proves it."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.gallery.__main__ import BUILD
from tests.support.prefect_server import server_variables
from tests.support.projects import remove_project
from tests.support.warm import warm_commands

pytestmark = [pytest.mark.engine, pytest.mark.flow]
ROOT = Path(__file__).parents[3]
ROAS = Path(sys.executable).with_name("roas")
REPOSITORY = "roas-adopted"
PASSWORD = "correct-horse-7"
# As the official images: their names, what they run, and how they read a password from a file.
IMAGES = {
    "postgres": 'CMD ["sh", "-c", "export POSTGRES_PASSWORD=${POSTGRES_PASSWORD:-$(cat $POSTGRES_PASSWORD_FILE)}'
    ' && exec start-postgres"]',
    "mariadb": 'CMD ["start-mariadb"]',
    "redis": 'CMD ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no"]',
    "nginx": 'CMD ["nginx", "-g", "daemon off;"]',
    "python": 'CMD ["python3"]',
}
APPLICATIONS: dict[str, dict[str, str]] = {
    "a password file": {
        "compose.yaml": """\
services:
  db:
    image: roas-adopted/postgres:17
    restart: always
    secrets: [db-password]
    environment: [POSTGRES_DB=example, POSTGRES_PASSWORD_FILE=/run/secrets/db-password]
    healthcheck: {test: [CMD-SHELL, "pg_isready -q -h 127.0.0.1"], interval: 1s, retries: 60}
  web: {build: app, restart: always, depends_on: {db: {condition: service_healthy}}}
  proxy: {image: "roas-adopted/nginx:1.26", restart: always, depends_on: [web], expose: ["80"]}
secrets: {db-password: {file: password.txt}}
""",
        "app/Dockerfile": 'FROM roas-adopted/python:3.13\nEXPOSE 8000\nCMD ["python3", "-m", "http.server", "8000"]\n',
        "password.txt": f"{PASSWORD}\n",
    },
    "a password in .env": {
        "compose.yaml": """\
services:
  db:
    image: roas-adopted/mariadb:11.8
    restart: always
    environment: {MARIADB_USER: shop, MARIADB_DATABASE: shop, MARIADB_PASSWORD: "${SHOP_DB_PASS}"}
  site: {image: "roas-adopted/nginx:1.26", restart: always, environment: {DB_HOST: db}, expose: ["80"]}
""",
        ".env": f"SHOP_DB_PASS={PASSWORD}\n",
    },
    "a cache with a password, and one that stands in the file": {
        "compose.yaml": f"""\
services:
  cache:
    image: roas-adopted/redis:8
    command: redis-server --bind 0.0.0.0 --requirepass ${{CACHE_PASSWORD}}
    restart: always
  db:
    image: roas-adopted/postgres:17
    restart: always
    environment: {{POSTGRES_USER: app, POSTGRES_PASSWORD: {PASSWORD}}}
  api:
    image: roas-adopted/python:3.13
    command: python3 -m http.server 9000
    expose: [9000]
    restart: always
    environment: {{CACHE_HOST: cache}}
""",
        ".env": f"CACHE_PASSWORD={PASSWORD}\n",
    },
}
PROBES = {
    "a password file": {"db": "postgresql", "web": "tcp", "proxy": "tcp"},
    "a password in .env": {"db": "mysql", "site": "tcp"},
    "a cache with a password, and one that stands in the file": {"cache": "redis", "db": "command", "api": "tcp"},
}


@pytest.fixture(scope="module", autouse=True)
def images() -> None:
    subprocess.run([BUILD], check=True, capture_output=True)
    for name, command in IMAGES.items():
        tag = {"postgres": "17", "mariadb": "11.8", "redis": "8", "nginx": "1.26", "python": "3.13"}[name]
        build = ["docker", "build", "--quiet", "--tag", f"{REPOSITORY}/{name}:{tag}", "-"]
        subprocess.run(build, input=f"FROM roas/gallery:local\n{command}\n".encode(), check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[str]:
    name = f"roas-test-{secrets.token_hex(4)}"
    yield name
    remove_project(name)


@pytest.mark.parametrize("application", APPLICATIONS)
@pytest.mark.campaign(seconds=20)
def test_what_init_writes_validates_and_its_start_is_proven(application: str, tmp_path: Path, project: str) -> None:
    folder = tmp_path / "app"
    for name, text in APPLICATIONS[application].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    kept = {"ROAS_DATA_DIR": str(tmp_path / "data"), "PYTHONPATH": str(ROOT)} | warm_commands()
    environment = {name: value for name, value in server_variables().items() if not name.startswith("ROAS_")} | kept

    def roas(*words: str) -> dict[str, Any]:
        done = subprocess.run([ROAS, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert PASSWORD not in done.stdout + done.stderr
        assert done.returncode == 0, done.stdout + done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    try:
        written = yaml.safe_load(Path(roas("init", "-p", project, "--json")["file"]).read_text())
        probes = {name: spec["probe"]["kind"] for name, spec in written["services"].items()}
        assert probes == PROBES[application]
        roas("validate", "--json")
        started = roas("start", "--json")
        health = {one["service"]: one["health"] for one in started["health"]["services"]}
        assert health == dict.fromkeys(PROBES[application], "healthy")
    finally:
        subprocess.run(["docker", "image", "rm", f"{project}-web"], check=False, capture_output=True)
