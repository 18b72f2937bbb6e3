"""Shell completion: values come from files and stores, quickly, silently, and without starting anything."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.recorded_names import recorded_hosts
from adapters.server.host_keys import HostKeys
from adapters.stores import Stores
from cli.completers import VARIABLE
from models.hosts import HostIdentity
from models.settings import Settings
from tests.integration.stores.values import record_some
from tests.support.commands import run_roas_text
from tests.support.postgresql_server import postgresql

ROOT = Path(__file__).parents[3]
_SLOW = {"prefect", "sqlalchemy", "sqlmodel", "docker", "numpy", "redis", "httpx"}
_ENDS_WITHIN_SECONDS = 300

RELEASES = (
    ("r-1", "prod", "prod-1", "2026-07-01 12:00:00", 1),
    ("r-2", "prod", "prod-2", "2026-07-01 13:00:00", 0),
    ("r-3", "other", "other-1", "2026-07-01 14:00:00", 1),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Stores.open(Settings(data_dir=tmp_path / "data")) as stores:
        record_some(stores)
    insert(
        tmp_path, "deployment_logs", "releases (release_id, environment, deployment_id, created_at, proven)", *RELEASES
    )
    insert(
        tmp_path,
        "monitoring",
        "alerts (alert_id, environment, service, metric, severity, reason, opened_at, state)",
        ("alert-1", "prod", "web", "memory_percent", "critical", "memory is used up", "2026-07-01 12:00:00", "open"),
    )
    (tmp_path / "compose.yaml").write_text("services: {web: {image: a}, worker: {image: a}, db: {image: b}}\n")
    (tmp_path / "roas").mkdir()
    (tmp_path / "roas" / "shop.yaml").write_text(
        "compose_files: [../compose.yaml]\nproject: shop\nservices: {cache: {}}\n"
    )
    return tmp_path


def insert(folder: Path, store: str, table: str, *rows: tuple[object, ...]) -> None:
    with closing(sqlite3.connect(folder / "data" / f"{store}.db")) as connection:
        connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        connection.commit()


def variables(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROAS_", "PREFECT_"))}
    program = f"{Path(sys.executable).parent}:{kept['PATH']}"
    return kept | {"PYTHONPATH": str(ROOT), "ROAS_DATA_DIR": str(folder / "data"), "ROAS_WARM": "0", "PATH": program}


def of_shell(line: str) -> dict[str, str]:
    """The variables with which a shell asks for completions of the last word of a line."""
    return {VARIABLE: "fish_complete", "COMP_WORDS": line, "COMP_CWORD": line.rpartition(" ")[2]}


def asked(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """The answer to a shell that completes the last word of a line."""
    return run_roas_text(cwd=folder, env=variables(folder) | of_shell(line))


def imported_when_asked(folder: Path, line: str) -> list[str]:
    """The modules that a process of its own has imported when it has answered."""
    ends = "import atexit; atexit.register(lambda: print('imported', *sys.modules)); from cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv[0] = 'roas'; {ends}"],
        cwd=folder, env=variables(folder) | of_shell(line), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.rpartition("imported ")[2].split()


def completed(folder: Path, line: str) -> list[str]:
    answers = asked(folder, line).stdout.splitlines()
    return [answer.split("\t")[0].removeprefix("plain,") for answer in answers if answer]


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("roas hist", ["history"]),
        ("roas start s", ["shop"]),
        ("roas status p", ["prod"]),
        ("roas restart shop w", ["web", "worker"]),
        ("roas logs shop c", ["cache"]),
        ("roas pause w", ["web", "worker"]),
        ("roas completion z", ["zsh"]),
        ("roas db c", ["check", "clean"]),
    ],
)
def test_names_are_completed(folder: Path, line: str, values: list[str]) -> None:
    assert completed(folder, line) == values


@pytest.mark.parametrize(
    ("line", "store", "query"),
    [
        ("roas resume ", "deployment_logs", "SELECT deployment_id FROM deployment_operations ORDER BY id DESC"),
        ("roas tickets t", "errors", "SELECT ticket_id FROM manual_intervention_tickets ORDER BY id DESC"),
        ("roas resolve ", "errors", "SELECT ticket_id FROM manual_intervention_tickets ORDER BY id DESC"),
        ("roas acknowledge ", "monitoring", "SELECT alert_id FROM alerts ORDER BY id DESC"),
    ],
)
def test_ids_are_those_of_the_stores(folder: Path, line: str, store: str, query: str) -> None:
    with closing(sqlite3.connect(folder / "data" / f"{store}.db")) as connection:
        recorded = [row[0] for row in connection.execute(query)]
    assert completed(folder, line) == recorded
    assert recorded


def test_history_takes_an_environment_or_an_operation(folder: Path) -> None:
    assert completed(folder, "roas history ") == ["shop", "prod", *completed(folder, "roas resume ")]


def test_hosts_of_a_fleet_are_completed(folder: Path) -> None:
    settings, now = Settings(data_dir=folder / "data"), datetime.now(UTC)
    keys = HostKeys(settings.prefect_home)
    for name in ("host-a", "host-b"):
        keys.invite(name, now, timedelta(hours=1))
    with Stores.open(settings) as stores:
        stores.hosts.report(
            HostIdentity(host_id="id-1", name="machine-a"), version="1", engine="unix:///e.sock", backlog=0
        )

    assert completed(folder, "roas fleet revoke host") == ["host-a", "host-b"]
    assert completed(folder, "roas fleet dismiss m") == ["machine-a"]
    assert completed(folder, "roas fleet dismiss x") == []


def test_hosts_are_completed_from_postgresql(tmp_path: Path) -> None:
    with postgresql() as server, server.database() as url:
        settings = Settings(data_dir=tmp_path, stores_url=url)
        with Stores.open(settings) as stores:
            for name in ("alpha", "beta"):
                stores.hosts.report(
                    HostIdentity(host_id=name, name=name), version="1", engine="unix:///e.sock", backlog=0
                )
        assert [one.name for one in recorded_hosts(settings, "al")] == ["alpha"]
        assert [one.name for one in recorded_hosts(settings)] == ["alpha", "beta"]


def test_a_rollback_takes_a_proven_release_of_its_environment(folder: Path) -> None:
    assert completed(folder, "roas rollback prod ") == ["r-1"]


def test_a_post_mortem_takes_operations_errors_and_tickets(folder: Path) -> None:
    together = [*completed(folder, "roas resume "), *completed(folder, "roas resolve ")]
    assert set(together) < set(completed(folder, "roas postmortem "))


def test_a_shell_shows_what_an_id_is(folder: Path) -> None:
    [answer] = asked(folder, "roas history prod-1").stdout.splitlines()
    assert re.fullmatch(r"plain,prod-1\tstart of prod: failed at \d{4}-\d\d-\d\d \d\d:\d\d", answer)


@pytest.mark.parametrize(
    "line", ["roas start ", "roas history ", "roas tickets x", "roas restart shop w", "roas nosuch "]
)
def test_what_cannot_be_read_is_silent(folder: Path, line: str) -> None:
    for store in (folder / "data").glob("*.db"):
        store.write_bytes(b"damaged " * 1000)
    (folder / "compose.yaml").write_text("services: [unclosed")
    (folder / "roas" / "shop.yaml").write_text("compose_files: [compose.yaml, {]\n")

    done = asked(folder, line)

    assert (done.returncode, done.stderr) == (0, "")
    assert "damaged" not in done.stdout


def test_completing_writes_nothing_and_imports_no_slow_library(folder: Path) -> None:
    def files() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in (folder / "data").rglob("*") if path.is_file()}

    before = files()
    for line in ("roas tickets ", "roas history ", "roas restart shop "):
        imported = imported_when_asked(folder, line)
        assert "click" in imported
        assert not {name.partition(".")[0] for name in imported} & _SLOW
    assert files() == before


def test_bash_completes_what_a_user_types(folder: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    screen = Screen([bash, "--norc", "--noprofile", "-i"], folder)
    try:
        screen.type("PS1='ready> '; bind 'set show-all-if-ambiguous on'; bind 'set enable-bracketed-paste off'\n")
        screen.type('eval "$(roas completion bash)"; echo script is $?\n')
        screen.await_text(r"script is 0")
        screen.type("roas sta\t")
        screen.await_text(r"start +stats +status")
        screen.type("\x15roas restart sh\t")
        screen.await_text("roas restart shop ")
        screen.type("w\t")
        screen.await_text(r"web +worker")
        screen.type("\x15roas history prod\t")
        screen.await_text("prod-2 +prod-1")
    finally:
        screen.close()


class Screen:
    """A program on a pseudo-terminal: what it has printed since the last look."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            os.chdir(folder)
            os.execve(command[0], command, variables(folder) | {"TERM": "dumb", "HOME": str(folder)})
        self._text = ""

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def await_text(self, pattern: str) -> None:
        deadline = time.monotonic() + _ENDS_WITHIN_SECONDS
        while (found := re.search(pattern, self._text)) is None:
            assert time.monotonic() < deadline, f"{pattern!r} is not on the screen: {self._text!r}"
            if select.select([self._terminal], [], [], 0.2)[0]:
                self._text += os.read(self._terminal, 4096).decode(errors="replace")
        self._text = self._text[found.end() :]

    def close(self) -> None:
        os.close(self._terminal)
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
