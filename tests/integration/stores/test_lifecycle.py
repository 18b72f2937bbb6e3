"""Old records leave: summed up, archived, then deleted; nothing else does."""

import hashlib
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from adapters.stores import Stores
from adapters.stores.archiver import Archiver
from adapters.stores.gate import Gate
from adapters.stores.lifecycle import run as lifecycle_rows
from adapters.stores.lifecycle import samples as lifecycle_samples
from adapters.stores.lifecycle.steps import (
    RetentionPolicy,
    archive_deployments,
    clean_errors,
    compress_monitoring,
    optimise,
    vacuum,
)
from core.storage.retention import FileUse, full_in, pages_to_give_back
from models.failures import StoreBusyError, StoreCorruptError, StoreError, StoreFullError
from models.health import Health, HealthReport
from models.metrics import Metric
from models.operations import Operation, OperationStatus, OperationType, StateChange
from models.records import Release
from models.recovery import RecoveryExecution
from models.settings import Settings
from tests.integration.stores.values import BUNDLE, ERROR, TICKET
from tests.support.store_rows import sums

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TINY = RetentionPolicy(store_bytes=1)


def samples(service: str, begin: datetime, hours: int) -> list[Metric]:
    return [
        Metric(
            environment="prod",
            service=service,
            name="cpu_percent",
            value=float(minute % 60),
            sampled_at=begin + timedelta(minutes=minute),
        )
        for minute in range(hours * 60)
    ]


def operation(name: str, days_ago: float, status: OperationStatus) -> Operation:
    began = NOW - days_ago * DAY
    return Operation(
        deployment_id=name,
        operation_type=OperationType.START,
        environment="prod",
        status=status,
        started_at=began,
        ended_at=None if status is OperationStatus.RUNNING else began + timedelta(minutes=1),
    )


def count(stores: Stores, store: str, table: str) -> int:
    with stores.databases[store].read() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


def archived(settings: Settings, store: str, table: str) -> list[dict]:
    files = sorted((settings.data_dir / "archive" / store / table).glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_closed_hours_and_days_are_summed_up(stores: Stores) -> None:
    begin = datetime(2026, 6, 29, tzinfo=UTC)
    stores.metrics.add(samples("bot", begin, 30))
    compress_monitoring(stores, NOW)
    hours = sums(stores, "metrics_by_hour", "bot", begin)
    assert len(hours) == 30
    assert (hours[0].samples, hours[0].minimum, hours[0].maximum) == (60, 0, 59)
    assert str(hours[0].timestamp).startswith(f"{begin:%Y-%m-%d %H:%M:%S}")
    assert hours[0].mean == pytest.approx(29.5)
    assert hours[0].p95 == pytest.approx(56, rel=0.03)
    assert [day.samples for day in sums(stores, "metrics_by_day", "bot", begin)] == [24 * 60, 6 * 60]


def test_an_hour_that_is_not_over_is_left_for_later(stores: Stores) -> None:
    stores.metrics.add(samples("bot", NOW - timedelta(hours=1), 1))
    compress_monitoring(stores, NOW)
    assert sums(stores, "metrics_by_hour", "bot", NOW - DAY) == []


def test_old_samples_move_into_an_archive_with_their_names(stores: Stores, settings: Settings) -> None:
    old = samples("bot", NOW - 92 * DAY, 30)
    young = samples("bot", NOW - 2 * DAY, 1)
    stores.metrics.add(old + young)
    step = compress_monitoring(stores, NOW)
    assert step.rows["metric_samples"] == len(old)
    assert count(stores, "monitoring", "metric_samples") == len(young)
    found = archived(settings, "monitoring", "metric_samples")
    assert [(row["service"], row["ts"], row["value"]) for row in found] == [
        (one.service, one.sampled_at, one.value) for one in old
    ]
    assert step.complete


def test_the_manifest_tells_the_checksum_of_every_archive(stores: Stores, settings: Settings) -> None:
    stores.metrics.add(samples("bot", NOW - 92 * DAY, 30))
    compress_monitoring(stores, NOW)
    with stores.databases["monitoring"].read() as connection:
        notes = connection.exec_driver_sql("SELECT file, rows, bytes, sha256 FROM archives").all()
    assert sum(note.rows for note in notes) == 30 * 60
    for note in notes:
        content = (settings.data_dir / "archive" / note.file).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (note.bytes, note.sha256)


def test_samples_leave_in_chunks_and_none_is_lost(stores: Stores, settings: Settings) -> None:
    old = samples("bot", NOW - 92 * DAY, 5)
    stores.metrics.add(old)
    compress_monitoring(stores, NOW, RetentionPolicy(chunk_rows=7))
    assert len(archived(settings, "monitoring", "metric_samples")) == len(old)
    assert count(stores, "monitoring", "metric_samples") == 0


def test_late_samples_are_in_the_sums_before_they_go(stores: Stores) -> None:
    begin = NOW - 92 * DAY
    first = samples("bot", begin, 2)
    stores.metrics.add(first)
    compress_monitoring(stores, begin + DAY)
    stores.metrics.add([replace(one, service="web") for one in first])
    compress_monitoring(stores, NOW)
    assert [hour.samples for hour in sums(stores, "metrics_by_hour", "web", begin - DAY)] == [60, 60]
    assert [hour.samples for hour in sums(stores, "metrics_by_hour", "bot", begin - DAY)] == [60, 60]


def test_over_the_budget_the_oldest_samples_leave_early_but_never_the_last_days(stores: Stores) -> None:
    stores.metrics.add(samples("bot", NOW - 20 * DAY, 24))
    stores.metrics.add(samples("bot", NOW - 3 * DAY, 24))
    compress_monitoring(stores, NOW, TINY)
    assert count(stores, "monitoring", "metric_samples") == 24 * 60


def test_over_the_budget_operations_that_went_well_leave_before_those_that_failed(
    stores: Stores, settings: Settings
) -> None:
    for name, days, status in (
        ("well", 20, OperationStatus.SUCCESS),
        ("failed", 30, OperationStatus.FAILED),
        ("last-well", 15, OperationStatus.SUCCESS),
        ("failed-just-now", 3, OperationStatus.FAILED),
        ("running", 40, OperationStatus.RUNNING),
    ):
        stores.operations.begin(operation(name, days, status))
    archive_deployments(stores, NOW, TINY)
    assert {one.deployment_id for one in stores.operations.history()} == {"last-well", "failed-just-now", "running"}
    gone = {row["deployment_id"] for row in archived(settings, "deployment_logs", "deployment_operations")}
    assert gone == {"well", "failed"}


def test_over_the_budget_evidence_of_no_error_leaves_and_then_what_was_resolved(stores: Stores) -> None:
    for name, resolved in (("old", 20), ("worked-on", 20), ("young", 3), ("open", None)):
        stores.errors.record(replace(ERROR, error_id=name, service=name))
        if resolved:
            stores.errors.resolve(name, NOW - resolved * DAY, "done")
    stores.tickets.open(replace(TICKET, error_id="worked-on"))
    for name, days in (("ev-old", 20), ("ev-young", 3)):
        stores.evidence.keep(replace(BUNDLE, bundle_id=name, error_id=None, taken_at=NOW - days * DAY))
    assert clean_errors(stores, NOW).rows == {}
    step = clean_errors(stores, NOW, TINY)
    assert step.rows == {"evidence_bundles": 1, "deployment_errors": 1}
    assert {one.error_id for one in stores.errors.latest()} == {"worked-on", "young", "open"}
    assert {one.bundle_id for one in stores.evidence.find()} == {"ev-young"}
    assert any("more than its budget" in note for note in step.notes)


def test_a_dry_run_tells_and_changes_nothing(stores: Stores, settings: Settings) -> None:
    stores.metrics.add(samples("bot", NOW - 92 * DAY, 1))
    stores.operations.begin(operation("old", 200, OperationStatus.SUCCESS))
    stores.operations.begin(operation("new", 1, OperationStatus.SUCCESS))
    assert compress_monitoring(stores, NOW, dry_run=True).rows["metric_samples"] == 60
    step = archive_deployments(stores, NOW, dry_run=True)
    assert step.rows["deployment_operations"] == 1
    assert str(step) == "archive deployments: would take 1 deployment_operations, about 0.0 MiB, into 1 archive"
    assert count(stores, "monitoring", "metric_samples") == 60
    assert not (settings.data_dir / "archive").exists()


def test_old_health_leaves_with_its_report(stores: Stores, settings: Settings) -> None:
    for days in (91, 1):
        stores.health.record(
            HealthReport(environment="prod", overall=Health.HEALTHY, checked_at=NOW - days * DAY, services=())
        )
    compress_monitoring(stores, NOW)
    assert len(stores.health.history()) == 1
    assert len(archived(settings, "monitoring", "deployment_health_history")) == 1


def test_failed_operations_outlive_successful_ones_and_the_last_success_stays(
    stores: Stores, settings: Settings
) -> None:
    for name, days, status in (
        ("last-success", 200, OperationStatus.SUCCESS),
        ("success", 201, OperationStatus.SUCCESS),
        ("failed", 300, OperationStatus.FAILED),
        ("failed-long-ago", 400, OperationStatus.FAILED),
        ("running", 500, OperationStatus.RUNNING),
    ):
        stores.operations.begin(operation(name, days, status))
        change = StateChange(
            deployment_id=name,
            service="bot",
            previous_state=None,
            new_state="up",
            changed_at=NOW - days * DAY,
            reason="start",
        )
        stores.progress.record_changes([change])
        stores.progress.finish_step(name, "proven", "bot", NOW - days * DAY)
    archive_deployments(stores, NOW)
    left = {one.deployment_id for one in stores.operations.history()}
    assert left == {"last-success", "failed", "running"}
    assert {row["deployment_id"] for row in archived(settings, "deployment_logs", "service_state_changes")} == {
        "success",
        "failed-long-ago",
    }
    assert {row["deployment_id"] for row in archived(settings, "deployment_logs", "operation_steps")} == {
        "success",
        "failed-long-ago",
    }


def test_only_errors_resolved_long_ago_leave_with_all_that_belongs_to_them(stores: Stores, settings: Settings) -> None:
    for name, resolved in (("old", 31), ("young", 29), ("open", None), ("worked-on", 50)):
        stores.errors.record(replace(ERROR, error_id=name, service=name))
        stores.recoveries.record(RecoveryExecution(error_id=name, strategy=ERROR.verdict.strategy, started_at=NOW))
        if name in ("old", "worked-on"):
            stores.tickets.open(replace(TICKET, ticket_id=f"t-{name}", error_id=name))
        stores.evidence.keep(replace(BUNDLE, bundle_id=f"ev-{name}", error_id=name))
        if resolved:
            stores.errors.resolve(name, NOW - resolved * DAY, "done")
    stores.evidence.keep(replace(BUNDLE, bundle_id="ev-of-none", taken_at=NOW - 31 * DAY))
    with stores.databases["errors"].write() as connection:
        connection.exec_driver_sql(
            "UPDATE manual_intervention_tickets SET state = 'resolved' WHERE ticket_id = 't-old'"
        )
    step = clean_errors(stores, NOW)
    assert step.rows == {
        "auto_recovery_executions": 1,
        "ticket_history": 1,
        "manual_intervention_tickets": 1,
        "evidence_bundles": 2,
        "deployment_errors": 1,
    }
    assert {one.bundle_id for one in stores.evidence.find()} == {"ev-young", "ev-open", "ev-worked-on"}
    assert {one.error_id for one in stores.errors.latest()} == {"young", "open", "worked-on"}
    [row] = archived(settings, "errors", "deployment_errors")
    assert (row["error_id"], row["resolved_at"]) == ("old", NOW - 31 * DAY)


def test_a_step_that_has_no_time_left_goes_on_at_the_next_run(stores: Stores) -> None:
    stores.metrics.add(samples("bot", NOW - 92 * DAY, 1))
    step = compress_monitoring(stores, NOW, RetentionPolicy(step_time=timedelta(0)))
    assert not step.complete
    assert compress_monitoring(stores, NOW).complete
    assert count(stores, "monitoring", "metric_samples") == 0


def test_nothing_leaves_while_the_disk_has_no_room_for_archives(stores: Stores) -> None:
    with pytest.raises(StoreFullError, match="compress monitoring"):
        compress_monitoring(stores, NOW, RetentionPolicy(free_bytes=1 << 60))


def test_an_archive_that_cannot_be_written_deletes_nothing(stores: Stores, settings: Settings) -> None:
    stores.metrics.add(samples("bot", NOW - 92 * DAY, 1))
    (settings.data_dir / "archive").write_text("in the way")
    with pytest.raises(StoreError, match="nothing was deleted"):
        compress_monitoring(stores, NOW)
    assert count(stores, "monitoring", "metric_samples") == 60


@pytest.mark.new_archiver
def test_a_killed_archiver_deletes_nothing_and_another_takes_over(
    stores: Stores, settings: Settings, tmp_path: Path
) -> None:
    with Archiver() as archiver:
        path = stores.databases["monitoring"].archive_source
        query = "SELECT ts FROM metric_samples"
        archiver.write(path, query, tmp_path / "a.parquet", kinds={"ts": "whole"})
        assert archiver._process is not None
        archiver._process.kill()
        archiver._process.wait()
        with pytest.raises(StoreError, match="nothing was deleted"):
            archiver.write(path, query, tmp_path / "b.parquet", kinds={"ts": "whole"})
        assert archiver.write(path, query, tmp_path / "b.parquet", kinds={"ts": "whole"}).rows == 0


@pytest.mark.files
def test_freed_space_goes_back_to_the_disk(stores: Stores, settings: Settings) -> None:
    stores.metrics.add(samples("bot", NOW - 95 * DAY, 24 * 4))
    stores.metrics.add(samples("web", NOW - 96 * DAY, 24 * 4))
    compress_monitoring(stores, NOW)
    optimise(stores, NOW)
    before = settings.store_path("monitoring").stat().st_size
    step = vacuum(stores, NOW)
    assert step.bytes_after < step.bytes_before
    assert settings.store_path("monitoring").stat().st_size < before
    assert vacuum(stores, NOW).bytes_before == step.bytes_after


@pytest.mark.files
def test_a_file_of_another_program_is_rewritten_once(settings: Settings) -> None:
    settings.data_dir.mkdir()
    with sqlite3.connect(settings.store_path("monitoring")) as file:
        file.execute("CREATE TABLE filler (x)")
        file.execute("INSERT INTO filler SELECT randomblob(400000)")
        file.commit()
        file.execute("DELETE FROM filler")
    with Stores.open(settings) as stores:
        step = vacuum(stores, NOW)
        assert "rewritten once" in step.notes[0]
        assert stores.databases["monitoring"].gives_back_in_steps()


def test_optimise_says_that_the_stores_are_whole(stores: Stores) -> None:
    assert optimise(stores, NOW).notes == ("deployment_logs is intact", "monitoring is intact", "errors is intact")


@pytest.mark.files
def test_optimise_finds_a_row_whose_owner_is_missing(stores: Stores, settings: Settings) -> None:
    with sqlite3.connect(settings.store_path("errors")) as file:
        file.execute("INSERT INTO error_impact_analysis (error_id, impact_type) VALUES ('gone', 'data_loss')")
    with pytest.raises(StoreCorruptError, match="refers to a missing deployment_errors"):
        optimise(stores, NOW)


def test_few_free_pages_are_kept_for_new_rows() -> None:
    policy = RetentionPolicy()
    assert pages_to_give_back(FileUse(pages=100, free=25, page_bytes=4096), policy) == 0
    assert pages_to_give_back(FileUse(pages=100, free=60, page_bytes=4096), policy) == 58
    assert pages_to_give_back(FileUse(pages=0, free=0, page_bytes=4096), policy) == 0


def test_days_until_the_budget_is_reached_follow_from_growth() -> None:
    policy = RetentionPolicy(store_bytes=4096 * 100)
    use = FileUse(pages=60, free=10, page_bytes=4096)
    assert full_in(use, policy, 4096 * 5) == timedelta(days=10)
    assert full_in(use, policy, 0) is None
    assert full_in(FileUse(pages=200, free=0, page_bytes=4096), policy, 1) == timedelta(0)


def test_a_deletion_that_a_crash_ended_goes_on_and_archives_nothing_twice(
    stores: Stores, settings: Settings, monkeypatch
) -> None:
    old = samples("bot", NOW - 92 * DAY, 2)
    stores.metrics.add(old)
    kept = lifecycle_samples._delete_chunks

    def crash_after_two(run, file, chunks, names) -> None:
        kept(run, file, chunks[:2], names)
        with run.database.write() as connection:
            connection.exec_driver_sql(f"UPDATE archives SET deleted_to = {chunks[1][1]}")
        raise KeyboardInterrupt

    monkeypatch.setattr(lifecycle_samples, "_delete_chunks", crash_after_two)
    with pytest.raises(KeyboardInterrupt):
        compress_monitoring(stores, NOW, RetentionPolicy(chunk_rows=20))
    monkeypatch.undo()
    assert count(stores, "monitoring", "metric_samples") == 80
    late = replace(old[70], service="web")
    stores.metrics.add([late])
    compress_monitoring(stores, NOW, RetentionPolicy(chunk_rows=20))
    assert count(stores, "monitoring", "metric_samples") == 0
    found = archived(settings, "monitoring", "metric_samples")
    assert sorted((row["service"], row["ts"]) for row in found) == sorted(
        (one.service, one.sampled_at) for one in [*old, late]
    )


def test_samples_that_come_after_their_archive_get_one_of_their_own(stores: Stores, settings: Settings) -> None:
    old = samples("bot", NOW - 92 * DAY, 1)
    stores.metrics.add(old)
    compress_monitoring(stores, NOW)
    stores.metrics.add([replace(one, service="web") for one in old])
    compress_monitoring(stores, NOW)
    found = archived(settings, "monitoring", "metric_samples")
    assert sorted(row["service"] for row in found) == ["bot"] * 60 + ["web"] * 60


def test_an_archive_that_was_never_noted_is_replaced_by_the_next_try(
    stores: Stores, settings: Settings, monkeypatch
) -> None:
    for days in (300, 299, 1):
        stores.operations.begin(operation(f"d{days}", days, OperationStatus.SUCCESS))
    monkeypatch.setattr(lifecycle_rows, "_delete_parts", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        archive_deployments(stores, NOW - 119 * DAY)
    monkeypatch.undo()
    assert len(archived(settings, "deployment_logs", "deployment_operations")) == 1
    archive_deployments(stores, NOW)
    found = archived(settings, "deployment_logs", "deployment_operations")
    assert [row["deployment_id"] for row in found] == ["d300", "d299"]


def test_two_life_cycles_do_not_run_at_once(stores: Stores) -> None:
    with Gate(stores.folder / "lifecycle.lock").hold(1, "another"), pytest.raises(StoreBusyError):
        clean_errors(stores, NOW)


def release(place: int, **fields) -> Release:
    return Release(
        release_id=f"r{place:02d}",
        environment="prod",
        deployment_id=f"gone-{place}",
        created_at=NOW - (100 - place) * DAY,
        compose={"services": {}},
        digests={},
        hashes={},
        **fields,
    )


def test_old_releases_leave_but_for_the_latest_the_last_proven_and_those_an_operation_names(
    stores: Stores, settings: Settings
) -> None:
    for place in range(30):
        stores.releases.keep(release(place, proven=place in (3, 5)))
    stores.operations.begin(replace(operation("now", 1, OperationStatus.SUCCESS), details={"rolled_back_to": "r07"}))
    archive_deployments(stores, NOW)
    left = {one.release_id for one in stores.releases.latest("prod")}
    assert left == {f"r{place:02d}" for place in (5, 7, *range(10, 30))}
    gone = archived(settings, "deployment_logs", "releases")
    assert {row["release_id"] for row in gone} == {f"r{place:02d}" for place in range(10) if place not in (5, 7)}


def test_a_failed_release_stays_while_its_images_are_held_back(stores: Stores) -> None:
    held = replace(release(1, proven=False), digests={"web": f"shop@sha256:{'1' * 64}"})
    lifted = replace(release(2, proven=False), reason="failed; lifted by Ada")
    for one in (held, lifted, *(release(place, proven=True) for place in range(3, 40))):
        stores.releases.keep(one)
    archive_deployments(stores, NOW)
    assert [one.release_id for one in stores.releases.list_failed("prod")] == [held.release_id]
