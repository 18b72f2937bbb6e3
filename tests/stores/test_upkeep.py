"""Backups, archives and checks: what was kept can be had again."""

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.stores import Stores
from adapters.stores.archives import archived_rows, archives, restore_archive
from adapters.stores.backup import backup, restore
from adapters.stores.check import check
from adapters.stores.lifecycle import archive_deployments, compress_monitoring
from models.failures import BadInputError, StoreBusyError, StoreCorruptError, StoreTooNewError
from models.metrics import Metric
from models.operations import OperationStatus
from models.retention import RetentionPolicy
from models.settings import Settings
from tests.stores.test_lifecycle import NOW, operation, samples
from tests.stores.values import ERROR

HOUR = timedelta(hours=1)


def fill(stores: Stores) -> None:
    stores.deployments.begin(operation("d1", 1, OperationStatus.SUCCESS))
    stores.errors.record(ERROR)
    stores.monitoring.add_metrics(samples("bot", NOW - HOUR, 1))


@pytest.mark.files
def test_a_backup_brings_back_what_was_there(settings: Settings, tmp_path: Path) -> None:
    with Stores.open(settings) as stores:
        fill(stores)
        made = backup(stores, tmp_path / "b", NOW)
        stores.deployments.begin(operation("later", 0, OperationStatus.SUCCESS))
    assert restore(settings, tmp_path / "b").files == made.files
    with Stores.open(settings) as stores:
        assert [one.deployment_id for one in stores.deployments.history()] == ["d1"]
        assert stores.errors.get("e1") == ERROR
        assert len(stores.monitoring.series("prod", "bot", "cpu_percent", NOW - HOUR)) == 60
    kept = list(settings.data_dir.glob("deployment_logs.db.before-restore-*"))
    assert kept


@pytest.mark.files
def test_a_backup_is_of_one_moment_while_others_write(stores: Stores, tmp_path: Path) -> None:
    with stores.at_one_moment():
        stores.execute_cross_db_transaction(
            [
                lambda inside: inside.deployments.begin(operation("d1", 1, OperationStatus.SUCCESS)),
                lambda inside: inside.errors.record(ERROR),
            ]
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
    stores.monitoring.add_metrics(old)
    compress_monitoring(stores, NOW)
    [archive] = archives(stores)
    assert (archive.store, archive.table, archive.rows) == ("monitoring", "metric_samples", 120)
    assert next(archived_rows(stores, archive))["service"] == "bot"
    assert restore_archive(stores, archive) == 120
    found = stores.monitoring.series("prod", "bot", "cpu_percent", NOW - timedelta(days=93))
    assert found == [(one.sampled_at, one.value) for one in old]


def test_an_archived_deployment_is_put_back_as_it_was(stores: Stores) -> None:
    for days in (300, 200):
        stores.deployments.begin(operation(f"d{days}", days, OperationStatus.SUCCESS))
    before = stores.deployments.get("d300")
    archive_deployments(stores, NOW)
    [archive] = archives(stores, "deployment_logs")
    assert restore_archive(stores, archive) == 1
    assert restore_archive(stores, archive) == 0
    assert stores.deployments.get("d300") == before


def test_an_archive_that_was_changed_is_refused(stores: Stores, settings: Settings) -> None:
    stores.monitoring.add_metrics(samples("bot", NOW - timedelta(days=92), 1))
    compress_monitoring(stores, NOW)
    [archive] = archives(stores)
    (settings.data_dir / archive.path).write_bytes(b"something else")
    with pytest.raises(StoreCorruptError, match="not what was written"):
        restore_archive(stores, archive)


def test_a_check_tells_sizes_ages_and_when_a_store_is_full(stores: Stores) -> None:
    fill(stores)
    reports = {report.store: report for report in check(stores, NOW, RetentionPolicy(store_bytes=10**9))}
    assert all(report.whole for report in reports.values())
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
    stores.monitoring.add_metrics([odd])
    compress_monitoring(stores, NOW)
    [archive] = archives(stores)
    assert [row["metric"] for row in archived_rows(stores, archive)] == ["a'b\"c/ä"]
