"""Secrets planted wherever an application can say them are found in nothing that is written, shown or sent."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from adapters.prometheus_exporter import StoreCollector
from flows.embedded import prefect_api
from models.settings import Settings
from tests.flows.conftest import IMAGE, Place

pytestmark = [pytest.mark.engine, pytest.mark.flow]

ROAS = Path(sys.executable).with_name("roas")

FROM_VARIABLE = 'v4r/plant"ed+9f3 a&b\\d9'
FROM_FILE = "f1le-planted/7c21+x"
FROM_ENV_FILE = "env-planted-77aa=="
ALL = (FROM_VARIABLE, FROM_FILE, FROM_ENV_FILE)

TALKER = f"""
talker:
  image: {IMAGE}
  init: true
  env_file: [talker.env]
  environment: {{TOKEN: "${{APP_PLANTED_TOKEN}}"}}
  volumes: ['./key:/run/key:ro']
  command:
    - sh
    - -c
    - |
      printf 'connecting with %s and %s and %s\\n' "$$TOKEN" "$$DB_PASSWORD" "$$(cat /run/key)"
      printf '%s' "$$TOKEN" | base64
      echo "redis://user:$$DB_PASSWORD@cache:6379/0" >&2
      touch /tmp/well /tmp/serves; exec sleep 600
  healthcheck:
    test:
      - CMD-SHELL
      - printf '%s and %s and %s' "$$TOKEN" "$$DB_PASSWORD" "$$(cat /run/key)"; test -e /tmp/well
    interval: 1s
    timeout: 2s
    retries: 1
    start_period: 10s
    start_interval: 200ms
"""
BROKEN = f"""
broken:
  image: {IMAGE}
  command: ["/bin/${{APP_PLANTED_TOKEN}}"]
  labels: {{secret: "${{APP_PLANTED_TOKEN}}"}}
"""
PROBE = """{talker: {probe: {kind: command, command: [sh, -c, 'cat /run/key; printenv TOKEN; test -e /tmp/serves']}}}"""
DECLARED = {
    "secrets": "[{name: APP_PLANTED_TOKEN}, {name: PLANTED_KEY, file: key}]",
    "services": PROBE,
    "recovery": "{verify_timeout_seconds: 3}",
}


class Roas:
    """The command in a process of its own; all that it ever said is kept."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.said = ""
        self.codes: dict[str, int] = {}

    def __call__(self, *words: str, stdin: str = "") -> int:
        surroundings = os.environ | {"APP_PLANTED_TOKEN": FROM_VARIABLE, "COLUMNS": "400"}
        done = subprocess.run(
            [ROAS, *words], input=stdin, capture_output=True, text=True, check=False, env=surroundings
        )
        self.said += f"\n$ roas {words[0]}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode


@pytest.fixture
def roas(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Roas]:
    """Commands against a Prefect server that keeps its files in the data folder, as theirs does."""
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setenv("PREFECT_HOME", str(place.folder / "data" / "prefect"))
    with prefect_api(place.settings):
        yield Roas(place)


def spellings(secret: str) -> set[bytes]:
    """The ways a secret may be written, but for a redacted whole."""
    data = secret.encode()
    texts = {
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        json.dumps(json.dumps(secret)[1:-1])[1:-1],
        data.hex(),
        base64.b64encode(data).decode(),
        base64.urlsafe_b64encode(data).decode(),
    }
    return {text.encode() for text in texts}


def written(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file's bytes, and every value of every database: a value may lie across several pages."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        yield str(path.relative_to(folder)), content
        if content.startswith(b"SQLite format 3\0"):
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
                    for row in database.execute(f'select * from "{table}"'):
                        yield f"{path.name}: {table}", repr(row).encode()
                        yield f"{path.name}: {table}", b"\0".join(str(value).encode() for value in row)
            database.close()


def leaks(place: Place, said: str) -> list[str]:
    found = set()
    sources = [("what the commands said", said.encode()), *written(place.folder / "data")]
    for where, content in sources:
        found |= {f"{secret} in {where}" for secret in ALL if any(one in content for one in spellings(secret))}
    return sorted(found)


def metrics(place: Place) -> str:
    registry = CollectorRegistry()
    with place.stores() as stores:
        registry.register(StoreCollector(stores, Settings(), clock=lambda: datetime.now(UTC)))
        return generate_latest(registry).decode()


async def test_planted_secrets_are_found_nowhere(place: Place, roas: Roas) -> None:
    (place.folder / "key").write_text(FROM_FILE + "\n")
    (place.folder / "talker.env").write_text(f"DB_PASSWORD={FROM_ENV_FILE}\n")
    place.declare(TALKER, **DECLARED)

    assert roas("validate", "test") == 0
    assert roas("start", "test") == 0
    assert roas("restart", "test", "--json") == 0
    assert roas("collect", "test", "--json") == 0
    # The application falls ill: its health check and its probe print what they know.
    subprocess.run(
        ["docker", "exec", place.container("talker"), "rm", "/tmp/well", "/tmp/serves"], check=True, capture_output=True
    )
    roas("health", "test")
    roas("collect", "test")
    pasted = f"FATAL: password authentication failed for {FROM_VARIABLE} or {FROM_ENV_FILE} or {FROM_FILE}"
    roas("recover", "test", "-", "--service", "talker", stdin=pasted)
    # The engine itself names the secret, since somebody made it the name of a program.
    place.declare(TALKER + BROKEN, **DECLARED)
    assert roas("start", "test") == 1
    for words in (["why"], ["status", "--json"], ["history", "--json"], ["tickets", "--json"], ["plan", "test"]):
        roas(*words)
    roas("lifecycle", "--json")

    assert "its own health check fails: [redacted] and [redacted] and [redacted]" in roas.said
    assert 'exec: "/bin/[redacted]"' in roas.said
    # The search sees what is there: a name that is no secret is found in our stores and in Prefect's.
    told = {where for where, content in written(place.folder / "data") if place.container("talker").encode() in content}
    assert {"errors.db", "prefect/prefect.db"} <= told
    assert leaks(place, roas.said + metrics(place)) == []
