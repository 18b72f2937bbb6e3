"""Backups, archives and checks: what was kept can be had again."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.stores import Stores
from adapters.stores.archives import archived_rows, archives, owners_first, restore_archive
from adapters.stores.backup import backup, restore
from adapters.stores.check import check
from adapters.stores.lifecycle.steps import archive_deployments, compress_monitoring
from models.failures import BadInputError, StoreBusyError, StoreCorruptError, StoreFullError, StoreTooNewError
from models.metrics import Metric
from models.operations import OperationStatus
from models.settings import Settings
from models.storage import RetentionPolicy
from tests.integration.stores.test_lifecycle import NOW, operation, samples
from tests.integration.stores.values import ERROR
from tests.support.store_rows import all_or_none, series

HOUR = timedelta(hours=1)


def fill(stores: Stores) -> None:
    stores.operations.begin(operation("d1", 1, OperationStatus.SUCCESS))
    stores.errors.record(ERROR)
    stores.metrics.add(samples("bot", NOW - HOUR, 1))


@pytest.mark.files
@pytest.mark.usefixtures("made")
def test_a_backup_brings_back_what_was_there(settings: Settings, tmp_path: Path) -> None:
    with Stores.open(settings) as stores:
        fill(stores)
        made = backup(stores, tmp_path / "b", NOW)
        stores.operations.begin(operation("later", 0, OperationStatus.SUCCESS))
    assert restore(settings, tmp_path / "b").files == made.files
    with Stores.open(settings) as stores:
        assert [one.deployment_id for one in stores.operations.history()] == ["d1"]
        assert stores.errors.get("e1") == ERROR
        assert len(series(stores, "prod", "bot", "cpu_percent", NOW - HOUR)) == 60
    kept = list(settings.data_dir.glob("deployment_logs.db.before-restore-*"))
    assert kept


@pytest.mark.files
def test_a_backup_is_of_one_moment_while_others_write(stores: Stores, tmp_path: Path) -> None:
    with stores.read_one_moment():
        all_or_none(
            stores,
            [
                lambda inside: inside.operations.begin(operation("d1", 1, OperationStatus.SUCCESS)),
                lambda inside: inside.errors.record(ERROR),
            ],
        )
    backup(stores, tmp_path / "b", NOW)
    for name in ("deployment_logs", "errors", "monitoring"):
        with sqlite3.connect(tmp_path / "b" / f"{name}.db") as copy:
            assert copy.execute("SELECT seq FROM cross_store_version").fetchone() == (1,)


@pytest.mark.files
def test_a_running_system_is_not_overwritten(stores: Stores, settings: Settings, tmp_path: Path) -> None:
    backup(stores, tmp_path / "b", NOW)
    with pytest.raises(StoreBusyError, match="in use"):
        restore(settings, tmp_path / "b")


@pytest.mark.files
@pytest.mark.usefixtures("made")
def test_a_backup_that_was_changed_or_not_finished_is_refused(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    with Stores.open(settings) as stores:
        backup(stores, folder, NOW)
        with pytest.raises(BadInputError, match="not empty"):
            backup(stores, folder, NOW)
    with (folder / "errors.db").open("r+b") as file:
        file.seek(5000)
        file.write(b"x")
    with pytest.raises(StoreCorruptError, match=r"errors\.db is not the file"):
        restore(settings, folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(BadInputError, match="no finished backup"):
        restore(settings, folder)


@pytest.mark.files
@pytest.mark.usefixtures("made")
def test_a_backup_of_a_later_version_is_refused(settings: Settings, tmp_path: Path) -> None:
    with Stores.open(settings) as stores:
        backup(stores, tmp_path / "b", NOW)
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    manifest["stores"]["errors"]["revision"] = "9999"
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreTooNewError, match="9999"):
        restore(settings, tmp_path / "b")


def test_archived_samples_are_listed_read_and_put_back(stores: Stores) -> None:
    old = samples("bot", NOW - timedelta(days=92), 2)
    stores.metrics.add(old)
    compress_monitoring(stores, NOW)
    [archive] = archives(stores)
    assert (archive.store, archive.table, archive.rows) == ("monitoring", "metric_samples", 120)
    assert next(archived_rows(stores, archive))["service"] == "bot"
    assert restore_archive(stores, archive) == 120
    found = series(stores, "prod", "bot", "cpu_percent", NOW - timedelta(days=93))
    assert found == [(one.sampled_at, one.value) for one in old]


def test_an_archived_deployment_is_put_back_as_it_was(stores: Stores) -> None:
    for days in (300, 200):
        stores.operations.begin(operation(f"d{days}", days, OperationStatus.SUCCESS))
    before = stores.operations.get("d300")
    archive_deployments(stores, NOW)
    [archive] = archives(stores, "deployment_logs")
    assert restore_archive(stores, archive) == 1
    assert restore_archive(stores, archive) == 0
    assert stores.operations.get("d300") == before
    # The days remembered it all the time, and do not count it again.
    archive_deployments(stores, NOW)


def test_only_the_rows_that_meet_every_condition_are_read_from_an_archive(stores: Stores) -> None:
    stores.metrics.add(samples("bot", NOW - timedelta(days=93), 2))
    compress_monitoring(stores, NOW)
    [archive] = archives(stores)
    begin = NOW - timedelta(days=93)

    def values(*conditions: str) -> list[float]:
        return [row["value"] for row in archived_rows(stores, archive, conditions=conditions, columns=["value"])]

    assert sorted(values("value>=58", "service=bot")) == [58, 58, 59, 59]
    assert values("value > 58", f"ts>={(begin + HOUR).isoformat()}") == [59]
    assert values(f"ts<{begin:%Y-%m-%dT%H:%M}") == []
    assert values("service~o", "metric!=cpu_percent") == []


@pytest.mark.parametrize(
    ("condition", "said"),
    [("value", "cannot be read"), ("size=1", "has no column"), ("value=much", "no value for"), ("ts=x", "no value")],
)
def test_a_condition_that_cannot_be_kept_is_reported(stores: Stores, condition: str, said: str) -> None:
    stores.metrics.add(samples("bot", NOW - timedelta(days=93), 1))
    compress_monitoring(stores, NOW)
    [archive] = archives(stores)
    with pytest.raises(BadInputError, match=said):
        list(archived_rows(stores, archive, conditions=[condition]))


def test_archives_come_back_in_an_order_in_which_each_finds_its_owner(stores: Stores) -> None:
    for days in (300, 200):
        stores.operations.begin(operation(f"d{days}", days, OperationStatus.SUCCESS))
        stores.progress.finish_step(f"d{days}", "proven", "bot", NOW)
    archive_deployments(stores, NOW)
    found = owners_first(archives(stores))
    assert [one.table for one in found] == ["deployment_operations", "operation_steps"]
    assert [restore_archive(stores, one) for one in found] == [1, 1]


def spoil(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x40
    file.write_bytes(content)


@pytest.mark.files
@pytest.mark.parametrize("broken", ["errors.db", "archive"])
@pytest.mark.parametrize("how", [spoil, Path.unlink])
@pytest.mark.usefixtures("made")
def test_a_backup_with_a_changed_bit_or_a_missing_file_is_refused_and_touches_nothing(
    settings: Settings, tmp_path: Path, broken: str, how: Callable[[Path], None]
) -> None:
    with Stores.open(settings) as stores:
        fill(stores)
        stores.metrics.add(samples("bot", NOW - timedelta(days=92), 1))
        compress_monitoring(stores, NOW)
        backup(stores, tmp_path / "b", NOW)
    [file] = list((tmp_path / "b" / broken).glob("**/*.parquet")) or [tmp_path / "b" / broken]
    how(file)
    before = {one: one.stat().st_mtime_ns for one in settings.data_dir.iterdir()}
    with pytest.raises(StoreCorruptError, match=file.name):
        restore(settings, tmp_path / "b")
    assert {one: one.stat().st_mtime_ns for one in settings.data_dir.iterdir()} == before


@pytest.mark.files
@pytest.mark.usefixtures("made")
def test_a_backup_holds_what_was_accepted_and_tells_of_archives_that_are_gone(
    settings: Settings, tmp_path: Path
) -> None:
    said: list[str] = []
    with Stores.open(settings) as stores:
        stores.metrics.add(samples("bot", NOW - timedelta(days=92), 1))
        compress_monitoring(stores, NOW)
        [archive] = archives(stores)
        (settings.data_dir / archive.path).unlink()
        stores.writer.put_metrics(samples("bot", NOW - HOUR, 1)[:5])
        backup(stores, tmp_path / "b", NOW, said.append)
    assert any("is gone" in one for one in said)
    restore(settings, tmp_path / "b")
    with Stores.open(settings) as stores:
        assert len(series(stores, "prod", "bot", "cpu_percent", NOW - HOUR)) == 5


def test_a_check_tells_what_another_store_should_know_and_does_not(stores: Stores, settings: Settings) -> None:
    stores.operations.begin(operation("known", 1, OperationStatus.FAILED))
    for name in ("known", "lost"):
        error = replace(ERROR, error_id=name, service=name, deployment_id=name, last_seen=NOW - HOUR)
        stores.errors.record(error)
    (settings.data_dir / "monitoring.db.before-restore-1").touch(0o600)
    remarks = {report.store: report.remarks for report in check(stores, NOW)}
    assert remarks["errors"] == ("deployment_errors names 1 operations that deployment_logs does not know: lost",)
    assert "since a backup was restored" in remarks["monitoring"][0]
    assert remarks["deployment_logs"] == ()


def test_an_archive_that_was_changed_is_refused(stores: Stores, settings: Settings) -> None:
    stores.metrics.add(samples("bot", NOW - timedelta(days=92), 1))
    compress_monitoring(stores, NOW)
    [archive] = archives(stores)
    (settings.data_dir / archive.path).write_bytes(b"something else")
    with pytest.raises(StoreCorruptError, match="not what was written"):
        restore_archive(stores, archive)


def test_a_check_tells_sizes_ages_and_when_a_store_is_full(stores: Stores) -> None:
    fill(stores)
    reports = {report.store: report for report in check(stores, NOW, RetentionPolicy(store_bytes=10**9))}
    assert not any(report.faults for report in reports.values())
    monitoring = reports["monitoring"]
    assert monitoring.rows["metric_samples"] == 60
    assert monitoring.oldest["metric_samples"] == NOW - HOUR
    assert monitoring.growth_bytes_per_day > 0
    assert monitoring.full_in is not None
    assert reports["deployment_logs"].oldest["deployment_operations"] == NOW - timedelta(days=1)


def test_a_check_finds_a_schema_that_was_changed_by_hand(stores: Stores) -> None:
    with stores.databases["errors"].write() as connection:
        connection.exec_driver_sql("DROP INDEX idx_deployment_errors_last_seen")
    faults = {report.store: report.faults for report in check(stores, NOW)}
    assert any("idx_deployment_errors_last_seen" in fault for fault in faults["errors"])
    assert faults["monitoring"] == ()


def test_a_metric_named_with_unusual_words_survives_its_archive(stores: Stores) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    odd = Metric(environment="prod", service="bot", name="a'b\"c/ä", value=1.0, sampled_at=at)
    stores.metrics.add([odd])
    compress_monitoring(stores, NOW)
    [archive] = archives(stores)
    assert [row["metric"] for row in archived_rows(stores, archive)] == ["a'b\"c/ä"]


def backed_up(settings: Settings, folder: Path) -> Path:
    """A backup with an archive; the folder of the archive's file."""
    with Stores.open(settings) as stores:
        fill(stores)
        stores.metrics.add(samples("bot", NOW - timedelta(days=92), 1))
        compress_monitoring(stores, NOW)
        backup(stores, folder, NOW)
    [archive] = (folder / "archive").rglob("*.parquet")
    return archive.parent


def content_below(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.files
@pytest.mark.parametrize("place", ["archive", "archive/own", "errors.db"])
@pytest.mark.parametrize("leads_to", ["file", "folder", "/dev/zero", "FIFO"])
def test_a_restore_follows_no_link_out_of_the_backup_and_waits_for_no_fifo(
    settings: Settings, tmp_path: Path, place: str, leads_to: str
) -> None:
    folder = tmp_path / "b"
    backed_up(settings, folder)
    (tmp_path / "folder").mkdir()
    for secret in (tmp_path / "folder" / "key", tmp_path / "file"):
        secret.write_text("a secret of this machine")
    path = folder / place
    if path.exists():
        path.rename(tmp_path / "moved")
    if leads_to == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / leads_to)
    before = content_below(settings.data_dir)
    with pytest.raises(BadInputError, match="link or a special file"):
        restore(settings, folder)
    assert content_below(settings.data_dir) == before


@pytest.mark.files
def test_a_backup_follows_no_link_among_the_archives(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret of this machine")
    with Stores.open(settings) as stores:
        fill(stores)
        (settings.data_dir / "archive").mkdir()
        (settings.data_dir / "archive" / "link.parquet").symlink_to(tmp_path / "secret")
        with pytest.raises(BadInputError, match="link or a special file"):
            backup(stores, tmp_path / "b", NOW)
    assert not (tmp_path / "b" / "manifest.json").exists()


@pytest.mark.files
@pytest.mark.usefixtures("made")
def test_a_restore_needs_room_for_all_that_the_backup_holds(settings: Settings, tmp_path: Path) -> None:
    place = backed_up(settings, tmp_path / "b")
    with (place / "vast.parquet").open("wb") as sparse:
        sparse.truncate(1 << 42)
    with pytest.raises(StoreFullError, match="takes 4,398"):
        restore(settings, tmp_path / "b")


@pytest.mark.files
@pytest.mark.usefixtures("made")
def test_a_store_of_a_backup_that_names_an_archive_outside_is_refused(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    backed_up(settings, folder)
    with sqlite3.connect(folder / "monitoring.db") as copy:
        copy.execute("UPDATE archives SET file = '../../fifo'")
    copy.close()
    os.mkfifo(tmp_path / "fifo")
    manifest = json.loads((folder / "manifest.json").read_text())
    content = (folder / "monitoring.db").read_bytes()
    manifest["stores"]["monitoring"] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreCorruptError, match="as an archive"):
        restore(settings, folder)


@pytest.mark.files
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda whole: [whole], id="a list"),
        pytest.param(lambda whole: {**whole, "made_at": None}, id="no moment"),
        pytest.param(lambda whole: {name: whole[name] for name in whole if name != "made_at"}, id="without made_at"),
        pytest.param(lambda whole: {**whole, "stores": []}, id="stores as a list"),
        pytest.param(lambda whole: {**whole, "stores": {"errors": whole["stores"]["errors"]}}, id="one store"),
        pytest.param(lambda whole: {**whole, "stores": {"../../x": whole["stores"]["errors"]}}, id="a path"),
        pytest.param(lambda whole: {**whole, "gone": 1}, id="gone as a number"),
        pytest.param(lambda _: "[" * 5000, id="deep"),
        pytest.param(lambda _: "x" * 2_000_000, id="large"),
    ],
)
@pytest.mark.usefixtures("made")
def test_a_manifest_that_is_none_is_refused_in_one_line(
    settings: Settings, tmp_path: Path, change: Callable[[Any], Any]
) -> None:
    backed_up(settings, tmp_path / "b")
    manifest = tmp_path / "b" / "manifest.json"
    made = change(json.loads(manifest.read_text()))
    manifest.write_text(made if isinstance(made, str) else json.dumps(made))
    with pytest.raises(BadInputError, match="no finished backup") as caught:
        restore(settings, tmp_path / "b")
    assert "\n" not in str(caught.value)
