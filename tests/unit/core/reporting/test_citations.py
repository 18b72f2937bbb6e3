"""Rows that a value was read from, and shortening for a reader with limited room."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from core.reporting.citations import cited_rows, shorten_document
from models.agents import RowReference
from models.operations import Operation, OperationStatus, OperationType
from models.postmortem import TimelineEntry
from models.records import Explanation, Release, ReleaseDetails

AT = datetime(2026, 11, 26, 9, tzinfo=UTC)


def operation(deployment_id: str) -> Operation:
    return Operation(
        deployment_id=deployment_id,
        operation_type=OperationType.START,
        environment="shop",
        status=OperationStatus.SUCCESS,
        started_at=AT,
    )


def size(document: object) -> int:
    return len(json.dumps(document))


def test_a_row_is_cited_once_in_the_order_of_its_mention() -> None:
    cited = cited_rows([operation("b"), operation("a"), operation("b")])

    assert [row.id for row in cited] == ["b", "a"]
    assert cited[0] == RowReference(store="deployment_logs", table="deployment_operations", id="b")


def test_rows_within_other_values_are_cited() -> None:
    release = Release(release_id="r-1", environment="shop", deployment_id="d-1", created_at=AT)

    assert cited_rows({"page": (ReleaseDetails(release=release, changes=()),)}) == (
        RowReference(store="deployment_logs", table="releases", id="r-1"),
    )


def test_an_explanation_cites_its_operation_and_its_evidence() -> None:
    explanation = Explanation(
        deployment_id="d-1", environment="shop", operation="start", status=OperationStatus.FAILED, headline="db ended",
        started_at=AT, evidence=("ev-1",),
    )  # fmt: skip

    assert [(row.store, row.table, row.id) for row in cited_rows(explanation)] == [
        ("deployment_logs", "deployment_operations", "d-1"),
        ("errors", "evidence_bundles", "ev-1"),
    ]


@pytest.mark.parametrize(
    ("table", "store"),
    [
        ("deployment_operations", "deployment_logs"),
        ("service_state_changes", "deployment_logs"),
        ("releases", "deployment_logs"),
        ("deployment_errors", "errors"),
        ("auto_recovery_executions", "errors"),
        ("manual_intervention_tickets", "errors"),
        ("ticket_history", "errors"),
        ("evidence_bundles", "errors"),
        ("alerts", "monitoring"),
    ],
)
def test_an_event_of_a_timeline_cites_its_own_row(table: str, store: str) -> None:
    event = TimelineEntry(at=AT, source=table, row="row-1", event="db: it happened")

    assert cited_rows(event) == (RowReference(store=store, table=table, id="row-1"),)


def test_an_event_that_no_row_of_a_store_tells_of_cites_none() -> None:
    assert cited_rows(TimelineEntry(at=AT, source="engine", row="row-1", event="db: it happened")) == ()


def test_what_fits_is_not_shortened() -> None:
    document = {"text": "x" * 100}

    assert shorten_document(document, 1000, size) == (document, False)


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    shortened, is_shortened = shorten_document({"text": "begin" + "x" * 9000 + "end"}, 5000, size)

    assert is_shortened
    assert size(shortened) <= 5000
    assert shortened["text"].startswith("begin")
    assert "9,008 characters, shortened" in shortened["text"]
    assert shortened["text"].endswith("end")


def test_a_long_list_keeps_its_first_items_and_figures_stay() -> None:
    shortened, is_shortened = shorten_document({"rows": [{"n": n} for n in range(5000)], "total": 5000}, 2000, size)

    assert is_shortened
    assert shortened["rows"][0] == {"n": 0}
    assert shortened["total"] == 5000
    assert size(shortened) <= 2000
