"""Secrets planted wherever an application can say them are found in nothing that is written, shown or sent."""

from __future__ import annotations

import base64
import json
import os
import re
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, quote_plus

import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from adapters.prometheus.exporter import StoreCollector
from flows.server.embedded import prefect_api, wait_for_api
from models.settings import Settings
from tests.e2e.flows.conftest import Place
from tests.e2e.flows.planted import DECLARED, SECRET_PART, SHAPED, TYPED, plant
from tests.support.warm import warm_commands

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign]

ROAS = Path(sys.executable).with_name("roas")
PLANTED = DECLARED | {name: SECRET_PART.get(name, text) for name, text in SHAPED.items()} | TYPED


class Roas:
    """The command in a process of its own; all that it ever said is kept."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.said = ""
        self.variables: dict[str, str] = {}

    def __call__(self, *words: str, stdin: str = "") -> int:
        context_of_step = os.environ | warm_commands() | self.variables | {"COLUMNS": "400"}
        done = subprocess.run(
            [ROAS, *words], input=stdin, capture_output=True, text=True, check=False, env=context_of_step
        )
        self.said += f"\n$ roas {words[0]}\n{done.stdout}\n{done.stderr}"
        self.last = done.stdout
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode


@pytest.fixture
def roas(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Roas]:
    """Commands against a Prefect server that keeps its files in the data folder, as theirs does."""
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setenv("PREFECT_HOME", str(place.folder / "data" / "prefect"))
    with prefect_api(place.settings) as timeout:
        wait_for_api(timeout)
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
        base64.b64encode(data).decode().rstrip("="),
        base64.urlsafe_b64encode(data).decode().rstrip("="),
        base64.b64encode(b"user:" + data).decode().rstrip("=")[7:],
        *(line for line in secret.splitlines() if len(line) >= 16),
    }
    return {text.encode() for text in texts}


def written(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file's bytes, unpacked too, and every value of every database: a value may lie across several pages."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        content, where = path.read_bytes(), str(path.relative_to(folder))
        yield where, content
        if path.suffix == ".parquet":
            yield where, b"\0".join(str(row).encode() for row in pq.read_table(path).to_pylist())
        if content.startswith(b"SQLite format 3\0"):
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
                    for row in database.execute(f'select * from "{table}"'):
                        yield f"{where}: {table}", b"\0".join(str(value).encode() for value in row)
                        for value in row:
                            if isinstance(value, bytes):
                                yield f"{where}: {table}", _unpacked(value)
            database.close()


def _unpacked(value: bytes) -> bytes:
    try:
        return zlib.decompress(value, wbits=zlib.MAX_WBITS | 32)
    except zlib.error:
        return value


def leaks(roas: Roas, shown: str) -> dict[str, set[str]]:
    """Where each planted secret is found, by its name."""
    found: dict[str, set[str]] = {name: set() for name in PLANTED}
    sought = {name: spellings(secret) for name, secret in PLANTED.items()}
    folder = roas.place.folder
    sources = [("stdout and stderr", shown.encode()), *written(folder / "data"), *written(folder / "backup")]
    for where, content in sources:
        for name, spelled in sought.items():
            if any(one in content for one in spelled):
                found[name].add(re.sub(r"[0-9a-f-]{20,}", "…", where))
    return found


def metrics(place: Place) -> str:
    registry = CollectorRegistry()
    with place.stores() as stores:
        registry.register(StoreCollector(stores, Settings(), clock=lambda: datetime.now(UTC)))
        return generate_latest(registry).decode()


def live_through_it(roas: Roas) -> None:
    """A start that succeeds, an illness, recoveries, words of people, starts that fail, a backup, an archive."""
    place = roas.place
    roas.variables = plant(place, broken=False)
    assert roas("start", "test") == 0, roas.said
    subprocess.run(
        ["docker", "exec", place.container("talker"), "rm", "/tmp/well", "/tmp/serves"], check=True, capture_output=True
    )
    roas("collect", "test")
    known = [value for name, value in DECLARED.items() if name != "program that does not exist"]
    said = " and ".join([f"password={TYPED['recover TEXT']}", *known, *SHAPED.values()])
    roas("recover", "test", "-", "--service", "talker", stdin=f"FATAL: login failed with {said}")
    plant(place, broken=True)
    assert roas("start", "test") == 1
    roas(
        "pause", "talker", "--env", "test", "--reason", f"token {DECLARED['environment PW']} {_typed('pause --reason')}"
    )
    roas("alerts", "--json")
    alerts = json.loads(roas.last)
    alert = alerts[0]["alert_id"] if alerts else "al-none"
    note = f"{DECLARED['Compose secret, by file']} {_typed('acknowledge --note')} {SHAPED['GitLab token']}"
    roas("acknowledge", alert, "--note", note)
    for words in (["why", "--evidence"], ["status", "--json"], ["history", "--json"]):
        roas(*words)
    roas("tickets", "--json")
    for ticket in json.loads(roas.last):
        note = f"{DECLARED['env_file, by name']} {_typed('resolve --note')} {SHAPED['Slack token']}"
        roas("resolve", ticket["ticket_id"], "--note", note)
        roas("tickets", ticket["ticket_id"], "--json")
    # An image whose name holds a token: the engine names it in what it refuses.
    compose = json.loads((place.folder / "compose.yaml").read_text())
    compose["services"]["broken"]["image"] = f"127.0.0.1:9/shop:{TYPED['image name']}"
    (place.folder / "compose.yaml").write_text(json.dumps(compose))
    assert roas("start", "test") != 0
    roas("validate", "test", "--json")
    roas("backup", str(place.folder / "backup"))
    roas.variables |= {
        f"ROAS_KEEP_{name}_DAYS": "0.00001" for name in ("ERRORS", "DEPLOYMENTS", "MONITORING", "FAILED", "RUNS")
    }
    roas("db", "clean", "--json")


def _typed(name: str) -> str:
    return f"password={TYPED[name]}"


async def test_planted_secrets_are_found_nowhere(place: Place, roas: Roas) -> None:
    live_through_it(roas)

    found = leaks(roas, roas.said + metrics(place))
    for name, places in found.items():
        print(f"{name:45} {', '.join(sorted(places)) or '-'}")
    leaked = {name: sorted(places) for name, places in found.items() if places}
    print(f"{len(leaked)} of {len(PLANTED)} planted secrets are found somewhere")

    # The search finds text: a name that is no secret is found in our stores and in Prefect's.
    reported = {
        where for where, content in written(place.folder / "data") if place.container("talker").encode() in content
    }
    assert {"errors.db", "prefect/prefect.db"} <= reported
    assert "[redacted]" in roas.said
    assert len(PLANTED) >= 45
    assert leaked == {}
