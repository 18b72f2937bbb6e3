"""What people are shown of records of operations that earlier versions, or a later one, wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from adapters.pattern_files import shipped_set
from cli.rendering.results import print_json, show_deployment, show_history
from core.errors.explain import explain
from core.notifications.message import compose
from core.notifications.pacing import Batch
from core.notifications.services import render
from core.reporting.postmortem import write_postmortem
from models.notifications import Addresses, News, NotificationReason
from models.operations import Operation, OperationStatus, OperationType
from models.postmortem import FailureRecords
from models.records import DeploymentDetails
from tests.golden.conftest import STORES, golden

NINE = datetime(2026, 11, 26, 9, tzinfo=UTC)
RECORDS = json.loads((STORES / "records.json").read_text())


def read(name: str) -> Operation:
    stored = RECORDS[name]
    status = OperationStatus(stored["status"])
    return Operation(
        deployment_id="shop-1",
        operation_type=OperationType(stored["operation_type"]),
        environment="shop",
        status=status,
        started_at=NINE,
        ended_at=None if status is OperationStatus.RUNNING else NINE + timedelta(seconds=90),
        user_agent="person: root (roas start)",
        details=stored["details"],
    )


def message(operation: Operation) -> str:
    failed = operation.status is OperationStatus.FAILED
    reason = NotificationReason.DEPLOYMENT_FAILED if failed else NotificationReason.DEPLOYED
    news = News(occasion=reason, environment="shop", operation=operation)
    addresses = Addresses(prefect="https://ops.example", grafana="")
    parts = render("text", compose(Batch(news=(news,)), {}, addresses, NINE).message)
    return f"{parts['subject']}\n\n{parts['body']}"


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_shown_explained_and_reported_as_before(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    operation = read(name)
    details = DeploymentDetails(
        operation=operation, validations=(), changes=(), health=None, errors=(), data_dir="/data"
    )
    explanation = explain(operation, shipped_set())
    records = FailureRecords(subject="shop-1", environment="shop", operation=operation, explanation=explanation)
    shows: dict[str, Callable[[], None]] = {
        "show": lambda: show_deployment(details),
        "history": lambda: show_history([operation]),
        "why": lambda: print_json(explanation),
        "postmortem": lambda: print_json(write_postmortem(records)),
        "notification": lambda: print(message(operation)),
    }
    parts = []
    for part, show in shows.items():
        show()
        parts.append(f"== {part} ==\n{capsys.readouterr().out.strip()}")
    golden(f"records/{name}.txt", "\n\n".join(parts))

    print_json(operation)
    assert json.loads(capsys.readouterr().out)["details"] == RECORDS[name]["details"]
