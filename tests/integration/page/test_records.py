"""Pages of operations, failures and tickets: the figures of the commands, and hostile words as text."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.page.rendering import BASE
from models.operations import Operation, OperationStatus, OperationType
from models.rehearsals import UpdateRehearsal
from tasks.reporting.postmortem import read_failure
from tasks.reporting.read import read_deployment, read_explanation, read_ticket_details
from tasks.runtime.stores import open_stores
from tests.integration.page.conftest import HOSTILE, ReadPage
from tests.support.page import Viewer, page_client


def test_the_list_of_operations_is_the_history(text: ReadPage) -> None:
    listed = text("/operations")
    of_shop = text("/environments/shop/operations")

    for operation in open_stores().operations.history(limit=50):
        assert f"{BASE}/operations/{operation.deployment_id}" in listed
        assert f"{BASE}/operations/{operation.deployment_id}" in of_shop
    assert listed.count("<tr") == 1 + len(open_stores().operations.history(limit=50))
    assert text("/operations?limit=1").count('scope="row"') == 1


def test_every_operation_has_its_records(text: ReadPage) -> None:
    for operation in open_stores().operations.history(limit=50):
        page, details = text(f"/operations/{operation.deployment_id}"), read_deployment(operation.deployment_id)

        assert operation.user_agent is not None
        assert operation.user_agent in page
        assert all(change.reason in page for change in details.changes)
        for validation in details.validations[-1:]:
            passed = len(validation.checks) - len(validation.failed_checks)
            assert f"no findings in {passed} of {len(validation.checks)} checks" in page
        if operation.status is OperationStatus.FAILED:
            why = read_explanation(operation.deployment_id)
            assert all(words in page for words in (why.headline, *why.because, *why.commands, *why.tried))
            assert all(line.text in page for line in why.lines)


def _failed(kind: str, details: dict[str, object]) -> str:
    """The path of an operation that has failed as these details say."""
    failed = Operation(
        deployment_id=f"shop-{kind}",
        operation_type=OperationType.START,
        environment="shop",
        status=OperationStatus.FAILED,
        started_at=datetime.now(UTC),
        ended_at=datetime.now(UTC),
        details=details,
    )
    open_stores().operations.begin(failed)
    return f"/operations/{failed.deployment_id}"


def test_a_rehearsal_is_shown_with_its_verdict_times_and_sizes(text: ReadPage, markup: ReadPage) -> None:
    rehearsal = UpdateRehearsal(
        passed=False,
        verdict=f"it would fail. web fails alone: {HOSTILE}",
        changes=("db", "web"),
        took_seconds={"db": 1.25},
        snapshot="d-1, restored",
        notes=("web lacks port 80",),
        image_bytes=2048,
    )
    path = _failed("rehearsal", {"flow": "rehearse-update", "rehearsal": rehearsal.model_dump()})

    page = text(path)

    assert "Rehearsal: it would fail. web fails alone: " in page
    assert "db 1.2 s" in page
    assert "images 2 KiB, data 0 B of d-1, restored<" in page
    assert "web lacks port 80" in page
    assert HOSTILE not in markup(path)


@pytest.mark.parametrize(("kind", "more"), [("update", {"update": "all"}), ("start", {})])
def test_a_plan_that_changed_leads_to_what_would_be_done_now(
    text: ReadPage, kind: str, more: dict[str, object]
) -> None:
    path = _failed(kind, {"error": "PlanChangedError", "reason": "Plan 1 is not what it would do now"} | more)

    page = text(path)

    assert "Nothing that runs was touched: Plan 1 is not what it would do now" in page
    assert f'href="{BASE}/do/{kind}/shop">See what it would do now</a>' in page
    assert "What was planned and done" not in page
    read_only = page_client(Viewer(may_write=False)).get(f"{BASE}{path}").text
    assert f"{BASE}/do/" not in read_only


def test_a_restore_names_its_snapshot_and_what_to_know_of_its_data(text: ReadPage) -> None:
    data = "the data was saved while release r-1 ran"

    page = text(_failed("restore", {"restore": "s-1", "proof": "not rehearsed", "data": data}))

    assert "Snapshot to put back: s-1, not rehearsed" in page
    assert data in page
    assert "How it was rolled back" not in page


def test_every_error_has_its_post_mortem(text: ReadPage) -> None:
    from core.reporting.postmortem import write_postmortem

    errors = open_stores().errors.latest()
    assert errors
    for error in errors:
        page, written = text(f"/failures/{error.error_id}"), write_postmortem(read_failure(error.error_id))

        assert all(finding.text in page for finding in (*written.cause, *written.to_change, *written.still_open))
        assert all(entry.event in page for entry in written.timeline)
        assert all(attempt.result in page for attempt in written.attempts)


def test_an_operation_asked_for_as_a_failure_leads_to_its_page(recorded: Path) -> None:
    operation = open_stores().operations.history(limit=1)[0].deployment_id

    page = page_client().get(f"{BASE}/failures/{operation}", follow_redirects=False)

    assert (page.status_code, page.headers["location"]) == (303, f"{BASE}/operations/{operation}")


def test_tickets_that_wait_are_listed_and_others_on_request(text: ReadPage) -> None:
    tickets = open_stores().tickets.find()
    waiting = [ticket for ticket in tickets if ticket.state != "resolved"]

    assert 0 < len(waiting) < len(tickets)
    assert text("/tickets").count("<article") == len(waiting)
    assert text("/tickets?all").count("<article") == len(tickets)
    assert text("/tickets?environment=other").count("<article") == 0


def test_an_open_ticket_has_answers_and_a_resolved_one_none(text: ReadPage) -> None:
    for ticket in open_stores().tickets.find():
        page, details = text(f"/tickets/{ticket.ticket_id}"), read_ticket_details(ticket.ticket_id)

        assert all(words in page for words in (details.ticket.title, *details.ticket.steps, *details.ticket.tried))
        assert all(entry.what in page for entry in details.ticket.history)
        answer = f"{BASE}/do/answer/shop?ticket={ticket.ticket_id}&decision=retry"
        assert (answer in page) == (ticket.state != "resolved")


def test_who_may_only_read_gets_no_answers(recorded: Path) -> None:
    client = page_client(Viewer(may_write=False))
    ticket = next(ticket for ticket in open_stores().tickets.find() if ticket.state != "resolved")

    page = client.get(f"{BASE}/tickets/{ticket.ticket_id}").text

    assert f"{BASE}/do/" not in page
    assert "may read only" in page


@pytest.mark.parametrize("path", ["/operations/none", "/failures/none", "/tickets/none", "/operations/%2e%2e%2fx"])
def test_what_is_not_recorded_is_not_found(recorded: Path, path: str) -> None:
    page = page_client().get(f"{BASE}{path}")

    assert page.status_code == 404
    assert "Traceback" not in page.text


def test_hostile_records_are_text_on_every_page(recorded: Path) -> None:
    """Every text that others wrote is replaced in the stores, and no page has it as markup."""
    paths = ["/", "/operations", "/tickets?all", "/environments/shop", "/environments/shop/operations"]
    stores = open_stores()
    paths += [f"/operations/{operation.deployment_id}" for operation in stores.operations.history()]
    paths += [f"/failures/{error.error_id}" for error in stores.errors.latest()]
    paths += [f"/tickets/{ticket.ticket_id}" for ticket in stores.tickets.find()]
    stores.close()
    _poison(recorded / "data")

    client = page_client()
    for path in paths:
        page = client.get(f"{BASE}{path}")
        assert page.status_code == 200, path
        assert page.text.count("<script") == 1, path
        assert "<img" not in page.text, path
        assert not {"\u202e", "\x1b", "\x07"} & set(page.text), path


def _poison(data: Path) -> None:
    columns = {
        "errors": [
            ("deployment_errors", "text"),
            ("deployment_errors", "reason"),
            ("deployment_errors", "service_name"),
            ("manual_intervention_tickets", "title"),
            ("manual_intervention_tickets", "service_name"),
            ("ticket_history", "what"),
            ("auto_recovery_executions", "final_status"),
        ],
        "deployment_logs": [
            ("deployment_operations", "user_agent"),
            ("service_state_changes", "change_reason"),
            ("service_state_changes", "service_name"),
            ("operation_steps", "detail"),
            ("releases", "reason"),
        ],
        "monitoring": [("alerts", "reason"), ("alerts", "service")],
    }
    for store, poisoned in columns.items():
        with sqlite3.connect(data / f"{store}.db") as connection:
            for table, column in poisoned:
                connection.execute(f"UPDATE {table} SET {column} = ?", (HOSTILE,))
            if store == "errors":
                connection.execute("UPDATE evidence_bundles SET parts = replace(parts, 'listening', ?)", ("<script>",))
        connection.close()
