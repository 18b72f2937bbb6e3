"""What results print for a person: no line twice, no table that is too wide, no Python."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cli.rendering.console import console, show_table
from cli.rendering.results import show_collection, show_engine, show_history, show_outcome
from models.operations import Operation, OperationStatus, OperationType
from models.records import DeploymentDetails
from models.recovery import RecoveryMethod, RecoveryOutcome
from models.results import CollectionReport
from models.validation import ValidationResult

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_a_history_has_ids_on_one_line_and_reasons_below(capsys: pytest.CaptureFixture[str]) -> None:
    failed = Operation(
        deployment_id="shop-20261120-120000-ab12",
        operation_type=OperationType.START,
        environment="shop",
        status=OperationStatus.FAILED,
        started_at=NOON,
        ended_at=NOON + timedelta(seconds=12),
        user_agent="person: root (roas start)",
        details={"reason": f"web did not start: {'very ' * 40}late"},
    )

    show_history([failed])

    heading, row, reason = capsys.readouterr().out.splitlines()
    assert heading.split() == ["deployment", "what", "environment", "status", "took", "asked", "by"]
    assert row.split()[:4] == ["shop-20261120-120000-ab12", "start", "shop", "failed"]
    assert reason.startswith("  web did not start: very")
    assert max(map(len, (heading, row, reason))) <= 100


def test_a_failure_that_touched_data_says_so_before_its_rollback(capsys: pytest.CaptureFixture[str]) -> None:
    details = {
        "reason": "web did not start",
        "undone": "rolled back to release r-1: 2 services are healthy",
        "data": "data may have changed: hook migrate ended well; snapshot s-1 was taken before",
        "snapshots": [{"id": "s-1"}],
    }
    failed = Operation(
        deployment_id="shop-1",
        operation_type=OperationType.START,
        environment="shop",
        status=OperationStatus.FAILED,
        started_at=NOON,
        ended_at=NOON,
        details=details,
    )

    show_outcome(
        DeploymentDetails(operation=failed, validations=(), changes=(), health=None, errors=(), data_dir="/data")
    )

    printed = capsys.readouterr().out.splitlines()
    at = printed.index(f"data: {details['data']}")
    assert printed[at + 1] == "put it back: roas snapshot restore shop s-1 (what was written since is lost)"
    assert printed[at + 2].startswith("rollback: rolled back to release r-1")

    # Hooks have proven the version that is back on its data, so what was written meanwhile is worth more.
    proven = replace(failed, details=details | {"data_proven": True})
    show_outcome(
        DeploymentDetails(operation=proven, validations=(), changes=(), health=None, errors=(), data_dir="/data")
    )
    printed = capsys.readouterr().out.splitlines()
    assert printed[at + 1] == "only if it is wrong: roas snapshot restore shop s-1 (what was written since is lost)"


def test_a_collection_prints_the_steps_of_a_ticket_once(capsys: pytest.CaptureFixture[str]) -> None:
    steps = ("Read its log: roas logs shop web", "Start it again: roas start shop")
    asked = RecoveryOutcome(
        error_id="err-1", success=False, method=RecoveryMethod.MANUAL_REQUIRED, steps=steps, reason="web is broken"
    )
    report = CollectionReport(
        environment="shop",
        timestamp=NOON.isoformat(),
        overall_status="unhealthy",
        metrics={},
        alerts=(),
        recommendations=(*steps, "web: fewer than 30 checks"),
        recoveries=(asked,),
    )

    show_collection(report)

    printed = capsys.readouterr().out
    assert printed.count(steps[0]) == 1
    assert "- web: fewer than 30 checks" in printed


def test_an_id_in_a_table_stays_on_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console(), "width", 60)

    show_table(("snapshot", "what", "why"), [("s-20261128-075318-c8b4", "a" * 60, "long words " * 20)])

    printed = capsys.readouterr().out
    assert "s-20261128-075318-c8b4 " in printed
    assert max(map(len, printed.splitlines())) <= 60


def test_an_engine_is_printed_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    engine = {"engine": "unix:///run/docker.sock", "version": "26.1.5", "images": {"web:1": "sha256:12"}}

    show_engine(ValidationResult(environment="shop", validated_at=NOON, checks=(), docker_environment=engine))

    assert capsys.readouterr().out.splitlines()[-1] == "engine: unix:///run/docker.sock, version 26.1.5"
