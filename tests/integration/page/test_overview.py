from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.page.rendering import BASE
from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.operations import Operation, OperationStatus, OperationType
from models.recovery import Ticket
from tasks.reporting.read import read_status
from tasks.runtime.stores import open_stores
from tests.integration.page.conftest import HOSTILE
from tests.support.page import Viewer, page_client

NOW = datetime.now(UTC)


def operate(environment: str) -> None:
    operation = Operation(
        deployment_id=f"{environment}-1",
        operation_type=OperationType.START,
        environment=environment,
        status=OperationStatus.RUNNING,
        started_at=NOW,
    )
    open_stores().operations.begin(operation)


def open_ticket(environment: str) -> None:
    verdict = Verdict(
        category=Category.UNKNOWN,
        severity=Severity.HIGH,
        strategy=Strategy.INVESTIGATE,
        confidence=0.2,
        reason="",
        template="",
    )
    error = RecordedError(
        error_id="err-1",
        environment=environment,
        text="failed",
        source="collection",
        verdict=verdict,
        first_seen=NOW,
        last_seen=NOW,
    )
    open_stores().errors.record(error)
    open_stores().tickets.open(
        Ticket(ticket_id="T-1", error_id="err-1", environment=environment, title="failed", opened_at=NOW)
    )


def test_without_any_operation_it_says_how_to_begin() -> None:
    page = page_client().get(f"{BASE}/")

    assert page.status_code == 200
    assert "roas start" in page.text
    assert "<table" not in page.text


def test_the_figures_are_those_of_status(recorded: Path) -> None:
    page = page_client().get(f"{BASE}/").text
    status = read_status("shop")[0]

    row = re.search(r'<tr role="row"[^>]*>\s*<th scope="row".*?</tr>', page, re.DOTALL)
    assert row is not None
    assert f"{len(status.open_tickets)} open" in row[0]
    assert status.health is not None
    assert status.health.summary in row[0]
    assert f"{BASE}/operations/{status.last_operation.deployment_id}" in row[0]
    assert f"of {len(status.health.services)}" in row[0]


def test_a_filter_keeps_what_matches_and_counts_it() -> None:
    for name in ("shop-eu", "shop-us", "blog"):
        operate(name)
    open_ticket("shop-us")
    client = page_client()

    assert "blog" not in client.get(f"{BASE}/?q=SHOP").text
    attention = client.get(f"{BASE}/?q=shop&show=attention").text
    assert "/environments/shop-us" in attention
    assert "/environments/shop-eu" not in attention
    assert "No environment matches" in client.get(f"{BASE}/?q=nothing").text
    page = client.get(f"{BASE}/").text
    assert page.index("/environments/shop-us") < page.index("/environments/blog") < page.index("/environments/shop-eu")
    counts = {show: client.get(f"{BASE}/?show={show}").text.count('rowheader"') for show in ("warning", "unknown")}
    assert counts == {"warning": 3, "unknown": 0}


def test_hostile_words_are_text() -> None:
    operate(HOSTILE)
    client = page_client(Viewer(name=HOSTILE))

    for page in (client.get(f"{BASE}/"), client.get(f"{BASE}/", params={"q": HOSTILE, "show": HOSTILE})):
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "<img" not in page.text
        assert not {"\u202e", "\x1b", "\x07"} & set(page.text)


def test_stores_that_are_away_are_said_in_words(tmp_path: Path) -> None:
    operate("shop")
    open_stores().close()
    for file in (tmp_path / "data").glob("*.db"):
        file.write_bytes(b"no database at all" * 1000)

    page = page_client().get(f"{BASE}/")

    assert page.status_code == 503
    assert "The stores do not answer" in page.text
    assert "Traceback" not in page.text


@pytest.mark.parametrize("name", ["page.css", "page.js", "icon.svg"])
def test_static_files_are_served_and_name_no_other_origin(name: str) -> None:
    file = page_client().get(f"{BASE}/static/{name}")

    assert file.status_code == 200
    addresses = set(re.findall(r"https?://[^\s\"')]+", file.text))
    assert addresses <= {"http://www.w3.org/2000/svg"}


def test_the_script_is_short() -> None:
    assert len(page_client().get(f"{BASE}/static/page.js").text.splitlines()) <= 300


def test_nothing_but_reading_is_answered() -> None:
    client = page_client()

    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert client.request(method, f"{BASE}/").status_code == 405
