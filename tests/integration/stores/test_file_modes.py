"""Only their owner opens the files of a data folder, neither to read them nor to hold their locks."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.host.fingerprints import Fingerprints
from adapters.stores import Stores
from adapters.stores.backup import backup
from adapters.stores.check import check
from adapters.stores.data_folder import narrow_access
from adapters.stores.lifecycle.steps import compress_monitoring
from models.operations import OperationStatus
from models.settings import Settings
from tests.integration.stores.test_lifecycle import NOW, operation, samples
from tests.integration.stores.values import ERROR
from tests.support.store_rows import all_or_none

HOUR = timedelta(hours=1)
ROAS = Path(sys.executable).parent / "roas"
OTHER_USER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(autouse=True)
def _umask_that_keeps_nobody_out() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    made = Path(tempfile.mkdtemp(prefix="roas-modes-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made)


def write_to_all(stores: Stores) -> None:
    """What a start, monitoring and the life cycle write: rows, journals, archives, waits and keys."""
    all_or_none(
        stores,
        [
            lambda inside: inside.operations.begin(operation("d1", 1, OperationStatus.SUCCESS)),
            lambda inside: inside.errors.record(ERROR),
        ],
    )
    stores.metrics.add(samples("bot", NOW - timedelta(days=92), 1))
    compress_monitoring(stores, NOW)
    stores.writer.put_metrics(samples("bot", NOW - HOUR, 1)[:5])
    stores.waits.add(0.1)
    Fingerprints(stores.folder)


def open_to_others(folder: Path) -> list[str]:
    return [str(one) for one in (folder, *folder.rglob("*")) if not one.is_symlink() and one.stat().st_mode & 0o077]


def make_wide(folder: Path) -> None:
    """As an earlier version made it under the usual umask."""
    for one in (folder, *folder.rglob("*")):
        one.chmod(0o755 if one.is_dir() else 0o644)


def test_whatever_is_written_is_its_owners_alone_under_any_umask(settings: Settings, tmp_path: Path) -> None:
    with Stores.open(settings) as stores:
        write_to_all(stores)
        assert stores.rows_folder.is_dir()
        assert list((settings.data_dir / "archive").rglob("*.parquet"))
        assert open_to_others(settings.data_dir) == []
        if settings.stores_url is None:
            assert (settings.data_dir / "errors.db-wal").exists()
            backup(stores, tmp_path / "backups" / "b", NOW)
            assert open_to_others(tmp_path / "backups") == []


def attempts_of_another_user(folder: Path, files: list[Path]) -> str:
    """What another user gets by trying to list the folder, and to read and lock each file of it."""
    script = (
        'ls "$1" 2>/dev/null && echo "listed $1"; shift; for file; do '
        'head -c 1 "$file" >/dev/null 2>&1 && echo "read $file"; '
        'flock --nonblock "$file" true 2>/dev/null && echo "locked $file"; done; true'
    )
    done = subprocess.run(
        [*OTHER_USER, "sh", "-c", script, "sh", str(folder), *map(str, files)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


@needs_root
@pytest.mark.parametrize("mended", [False, True])
def test_another_user_can_neither_read_nor_lock_any_file(place: Path, *, mended: bool) -> None:
    settings = Settings(data_dir=place / "data")
    with Stores.open(settings) as stores:
        write_to_all(stores)
        files = [one for one in settings.data_dir.rglob("*") if one.is_file()]
        assert {"gate.lock", "in_use.lock", "errors.db", "errors.db-wal", "waits"} <= {one.name for one in files}
        if mended:
            make_wide(settings.data_dir)
            assert "locked" in attempts_of_another_user(settings.data_dir, files)
            Stores.open(settings).close()
        assert attempts_of_another_user(settings.data_dir, files) == ""


@needs_root
@pytest.mark.files
def test_another_user_cannot_stop_all_recording_by_the_gates_lock(place: Path) -> None:
    settings = Settings(data_dir=place / "data")
    Stores.open(settings).close()
    hold = "exec 9<$1 && flock --nonblock 9 && echo held; read end"
    command = [*OTHER_USER, "sh", "-c", hold, "sh", str(settings.data_dir / "gate.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as attacker:
        assert attacker.stdout is not None
        said = attacker.stdout.readline()
        with Stores.open(settings, deadline_seconds=1) as stores:
            stores.operations.begin(operation("d1", 1, OperationStatus.SUCCESS))
        attacker.communicate()
    assert said == b""


def test_a_wide_data_folder_is_narrowed_at_the_next_start_and_reported_once(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with Stores.open(settings) as stores:
        write_to_all(stores)
    (settings.data_dir / "prefect").mkdir()
    (settings.data_dir / "prefect" / "server.log").write_text("x")
    make_wide(settings.data_dir)
    caplog.clear()
    with Stores.open(settings) as stores:
        assert open_to_others(settings.data_dir) == []
        [report] = [one for one in check(stores, NOW) if one.store == "deployment_logs"]
        assert report.faults == ()
        assert "other users could open" in report.remarks[0]
        assert [one for one in caplog.messages if "other users could open" in one] == [report.remarks[0]]
    with Stores.open(settings) as stores:
        assert check(stores, NOW)[0].remarks == ()


def test_a_check_narrows_and_tells_a_wide_file_in_a_private_folder(stores: Stores) -> None:
    write_to_all(stores)
    [archive] = (stores.folder / "archive").rglob("*.parquet")
    archive.chmod(0o644)
    assert archive.name in check(stores, NOW)[0].remarks[0]
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600


def test_a_link_is_reported_and_what_it_leads_to_stays_as_it_is(settings: Settings, tmp_path: Path) -> None:
    Stores.open(settings).close()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch(0o644)
    (tmp_path / "elsewhere").chmod(0o755)
    (settings.data_dir / "archive").symlink_to(tmp_path / "elsewhere")
    os.link(tmp_path / "elsewhere" / "file", settings.data_dir / "waits-of-others.log")
    make_wide(settings.data_dir)
    access = narrow_access(settings.data_dir)
    assert any("archive is a link" in one for one in access.remarks)
    assert any("has another name somewhere" in one for one in access.faults)
    assert stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "elsewhere" / "file").stat().st_mode) == 0o644


@needs_root
def test_what_belongs_to_another_user_is_a_fault_and_stays_as_it_is(settings: Settings) -> None:
    with Stores.open(settings) as stores:
        write_to_all(stores)
        waits = settings.data_dir / "waits"
        os.chown(waits, 65534, 65534)
        waits.chmod(0o644)
        assert "belongs to user nobody" in check(stores, NOW)[0].faults[0]
        assert stat.S_IMODE(waits.stat().st_mode) == 0o644
        os.chown(waits, 0, 0)
        os.chown(settings.data_dir, 65534, 65534)
        assert f"{settings.data_dir} belongs to user nobody" in check(stores, NOW)[0].faults[0]
        os.chown(settings.data_dir, 0, 0)


def test_a_folder_shared_with_others_keeps_its_mode_and_their_files_theirs(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    Stores.open(Settings(data_dir=folder)).close()
    (folder / "photo.jpg").touch(0o644)
    make_wide(folder)
    folder.chmod(0o1777)
    access = narrow_access(folder)
    assert "also holds photo.jpg" in access.faults[0]
    assert open_to_others(folder) == [str(folder), str(folder / "photo.jpg")]


def test_a_data_folder_that_is_a_link_is_reported_and_left_alone(tmp_path: Path) -> None:
    real = tmp_path / "real"
    Stores.open(Settings(data_dir=real)).close()
    (tmp_path / "data").symlink_to(real)
    assert narrow_access(tmp_path / "data").faults == []
    real.chmod(0o755)
    [fault] = narrow_access(tmp_path / "data").faults
    assert "chmod 700" in fault
    assert stat.S_IMODE(real.stat().st_mode) == 0o755


@pytest.mark.files
def test_narrowing_leaves_the_locks_that_sqlite_holds_in_this_process(settings: Settings) -> None:
    Stores.open(settings).close()
    store = settings.data_dir / "errors.db"
    with sqlite3.connect(store, isolation_level=None) as held:
        held.execute("BEGIN IMMEDIATE")
        make_wide(settings.data_dir)
        assert store in narrow_access(settings.data_dir).narrowed
        script = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        done = subprocess.run(
            [sys.executable, "-c", script, str(store)], capture_output=True, text=True, check=False, timeout=60
        )
    assert "database is locked" in done.stderr
    held.close()


def roas(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command as a user types it, in a shell with umask 000."""
    return subprocess.run(
        ["sh", "-c", 'umask 000; exec "$@"', "sh", str(ROAS), *arguments],
        env={**os.environ, "ROAS_DATA_DIR": str(place / "data"), "ROAS_ENVIRONMENTS_DIR": str(place / "environments")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.files
def test_commands_started_with_umask_000_write_nothing_that_others_can_open(place: Path) -> None:
    with Stores.open(Settings(data_dir=place / "data")) as stores:
        write_to_all(stores)
    make_wide(place / "data")
    checked = roas(place, "stores", "check", "--json")
    assert checked.returncode == 0, checked.stderr
    assert "other users could open" in checked.stderr
    assert "other users could open" in json.loads(checked.stdout)[0]["remarks"][0]
    assert roas(place, "backup", str(place / "backups" / "b")).returncode == 0
    assert open_to_others(place / "data") == open_to_others(place / "backups") == []


@pytest.mark.flow
def test_the_runs_and_the_log_of_a_temporary_server_are_their_owners_alone(place: Path) -> None:
    done = roas(place, "lifecycle")
    assert done.returncode == 0, done.stderr
    assert (place / "data" / "prefect" / "server.log").exists()
    assert open_to_others(place / "data") == []


def test_a_run_that_a_worker_starts_keeps_others_out_whatever_the_workers_umask(place: Path) -> None:
    script = "import os, flows; print(oct(os.umask(0)))"
    done = subprocess.run(
        ["sh", "-c", 'umask 000; exec "$@"', "sh", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "0o77"
