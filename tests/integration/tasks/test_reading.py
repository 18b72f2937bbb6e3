from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.evidence import EvidenceBundle, EvidenceOccasion
from models.operations import Operation, OperationStatus, OperationType
from tasks.reporting.read import read_analysis
from tasks.reporting.reports import days_of
from tasks.runtime.stores import open_stores

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
VERDICT = Verdict(
    category=Category.PORT_CONFLICT,
    severity=Severity.HIGH,
    strategy=Strategy.FREE_PORT,
    confidence=0.9,
    reason="a port is taken",
    template="bind",
)


@pytest.fixture(autouse=True)
def _own_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path))


def _fails(name: str, at: datetime) -> None:
    """A start fails, leaves evidence, and is recorded as the same error as the one before while that is open."""
    stores = open_stores()
    start = Operation(
        deployment_id=name,
        operation_type=OperationType.START,
        environment="prod",
        status=OperationStatus.RUNNING,
        started_at=at,
    )
    stores.operations.begin(start)
    stores.operations.finish(name, OperationStatus.FAILED, at + timedelta(seconds=5))
    error = RecordedError(
        error_id=f"err-{name}",
        environment="prod",
        text="bind: address already in use",
        source="startup",
        verdict=VERDICT,
        first_seen=at,
        last_seen=at,
        service="bot",
        deployment_id=name,
    )
    recorded = stores.errors.record(error)
    bundle = EvidenceBundle(
        bundle_id=f"bundle-{name}",
        environment="prod",
        service="bot",
        taken_at=at,
        occasion=EvidenceOccasion.FAILURE,
        reason="ended",
        first_cause="a port is taken",
        cause_service="bot",
        deployment_id=name,
    )
    stores.evidence.keep(bundle)
    stores.evidence.link([bundle.bundle_id], recorded.error_id)


def test_a_cause_that_came_again_while_its_error_was_open_is_no_unknown_one() -> None:
    for number in range(3):
        _fails(f"prod-{number}", NOW - (3 - number) * DAY)
    analysis = read_analysis("prod", 2, NOW)
    assert analysis.total == 2
    assert [day.failures_by_cause for day in analysis.days if day.total] == [{"port_conflict": 1}] * 2


def test_the_days_of_a_report_are_those_of_one_environment() -> None:
    _fails("prod-1", NOW - DAY)
    seen = days_of("dev", 7, NOW)
    assert (seen.analysis.total, seen.scores, seen.alerts, seen.predictions) == (0, (), (), ())
