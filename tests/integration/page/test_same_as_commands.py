"""A page and a command never differ: the values of a page are those of the document that the command prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.common.quantities import size_in_words
from core.reporting.overview import UP
from models.hosts import HostIdentity
from models.snapshots import DataSnapshot, Rehearsal, SnapshotPart, SnapshotState
from tasks.runtime.stores import open_stores
from tests.golden.conftest import RoasCommand
from tests.integration.page.conftest import ReadPage
from tests.support.commands import shared_roas
from tests.support.page_tables import PageParts, read_parts

NOW = datetime.now(UTC).replace(microsecond=0)
NONE = "\N{EN DASH}"
RESULTS = {"success": "succeeded", "failed": "failed", "running": "running", "pending": "waiting"}
Documents = Callable[..., Any]
Pages = Callable[[str], PageParts]


@pytest.fixture
def documents(recorded: Path) -> Documents:
    """What a command prints as JSON, of the stores that the page reads."""
    roas = RoasCommand(shared_roas(), recorded, now=None)

    def read(*words: str) -> Any:
        printed = roas(*words, "--json")
        assert printed.code == 0, printed.err
        return json.loads(printed.out)

    return read


@pytest.fixture
def pages(markup: ReadPage) -> Pages:
    return lambda path: read_parts(markup(path))


def test_the_overview_is_the_status(documents: Documents, pages: Pages) -> None:
    statuses = documents("status")
    rows = pages("/").tables["Environments, those that need attention first"]

    assert sorted(row["Environment"] for row in rows) == sorted(status["environment"] for status in statuses)
    assert statuses
    for status in statuses:
        (row,) = (row for row in rows if row["Environment"] == status["environment"])
        services = status["health"]["services"]
        up = [service for service in services if service["health"] in UP]
        assert row["Up"] == f"{len(up)} of {len(services)}"
        assert row["Verdict"].startswith(status["health"]["overall"])
        assert row["Tickets"] == (f"{len(status['open_tickets'])} open" if status["open_tickets"] else "0")
        operation = status["last_operation"]
        assert row["Last operation"].startswith(f"{operation['operation_type']} {RESULTS[operation['status']]}")


def test_an_environment_is_its_status(documents: Documents, pages: Pages) -> None:
    (status,), page = documents("status", "shop"), pages("/environments/shop")
    rows = {row["Service"]: row for row in page.tables["What proves each service, and what it needs"]}
    scores = {score["service"]: score for score in status["scores"]}

    services = status["health"]["services"]
    assert {service["service"] for service in services} <= rows.keys()
    for service in services:
        row = rows[service["service"]]
        assert (row["Verdict"], row["Proof"]) == (service["health"], service["reason"])
        score = scores.get(service["service"])
        is_uncertain = score and any("fewer than 30 checks" in sentence for sentence in score["suggestions"])
        grade = "few checks" if is_uncertain else score and score["grade"]
        assert row["Score"].startswith(f"{score['score']:.0f} {grade} " if score else NONE)
    assert page.facts["Verdict"].startswith(status["health"]["overall"])
    assert page.facts["Watched by"] == (status["watched_by"] or "no process of this host")
    assert page.facts["Last operation"].startswith(status["last_operation"]["operation_type"])


@pytest.mark.parametrize("path", ["/operations", "/environments/shop/operations"])
def test_operations_are_the_history(documents: Documents, pages: Pages, path: str) -> None:
    operations = documents("history", "shop", "--limit", "50")
    rows = pages(path).tables["Operations, newest first"]

    assert [row["Operation"].split()[-1] for row in rows] == [operation["deployment_id"] for operation in operations]
    for row, operation in zip(rows, operations, strict=True):
        assert row["Result"].startswith(RESULTS[operation["status"]])
        assert " ".join(operation["details"].get("reason", "").split())[:80] in row["Result"]
        assert row["Asked by"] == operation["user_agent"]
        began, ended = (datetime.fromisoformat(operation[name]) for name in ("started_at", "ended_at"))
        if (took := ended - began) < timedelta(seconds=10):
            assert row["Took"] == f"{took.total_seconds():.1f} s"


def test_tickets_are_the_tickets(documents: Documents, pages: Pages) -> None:
    waiting, every = documents("tickets"), documents("tickets", "shop", "--all")

    for path, tickets in (("/tickets", waiting), ("/tickets?all", every)):
        articles = pages(path).articles
        assert len(articles) == len(tickets) > 0
        for ticket in tickets:
            (article,) = (text for text in articles if ticket["ticket_id"] in text)
            assert " ".join(ticket["title"].split()) in article
            assert f" {ticket['state']} {ticket['environment']}" in article
            assert ", ".join(ticket["affected_services"]) in article


def test_sizes_are_the_sizes(documents: Documents, pages: Pages) -> None:
    proposals = documents("size", "shop")["proposals"]
    rows = pages("/environments/shop/sizes").tables["Memory and processors of services"]

    assert [row["Service"] for row in rows] == [proposal["service"] for proposal in proposals]
    for row, proposal in zip(rows, proposals, strict=True):
        assert row["Used"].startswith(f"measured in {proposal['hours']} hour")
        assert row["Proposed"].endswith(proposal["because"])


def test_releases_are_the_releases(documents: Documents, pages: Pages) -> None:
    documented = documents("releases", "shop")
    rows = pages("/environments/shop/releases").tables["Releases, newest first"]

    assert len(rows) == len(documented) > 0
    for row, details in zip(rows, documented, strict=True):
        release = details["release"]
        assert row["Release"].startswith(release["release_id"])
        assert row["State"].startswith("proven" if release["proven"] else "failed")
        assert "; ".join(details["changes"] or ["the first one"]) in row["What changed"]


def test_snapshots_are_the_snapshots(documents: Documents, pages: Pages) -> None:
    part = SnapshotPart(name="db/app", kind="postgresql", restic_id="x", bytes=2048, added_bytes=10, seconds=1)
    whole = DataSnapshot(snapshot_id="d-1", environment="shop", begun_at=NOW, state=SnapshotState.WHOLE, parts=(part,))
    failed = DataSnapshot(
        snapshot_id="d-2",
        environment="shop",
        begun_at=NOW + timedelta(seconds=1),
        state=SnapshotState.FAILED,
        problem="no room",
    )
    for snapshot in (whole, failed):
        open_stores().snapshots.begin(snapshot)
    open_stores().snapshots.record_rehearsal(whole, NOW, Rehearsal(ok=True, seconds=2, found={"db/app": "3 tables"}))

    documented = documents("snapshot", "list", "shop")
    rows = pages("/environments/shop/snapshots").tables["Snapshots, newest first"]

    assert {snapshot["snapshot_id"] for snapshot in documented} == {"d-1", "d-2"}
    for row, snapshot in zip(rows, documented, strict=True):
        assert row["Snapshot"].startswith(f"{snapshot['snapshot_id']} ")
        assert row["Snapshot"].endswith(snapshot["reason"])
        assert row["State"] == " ".join([snapshot["state"], snapshot["problem"]]).strip()
        parts = [f"{part['name']} ({part['kind']})" for part in snapshot["parts"]]
        assert row["What it has"] == (", ".join(parts) or NONE)
        assert row["Size"] == size_in_words(sum(part["bytes"] for part in snapshot["parts"]))


def test_hosts_are_the_fleet(documents: Documents, pages: Pages) -> None:
    for number, name in enumerate(("alpha", "beta")):
        identity = HostIdentity(host_id=f"h-{number}", name=name)
        open_stores().hosts.report(identity, version=f"1.{number}", engine="unix:///run/docker.sock", backlog=number)

    fleet = documents("fleet")
    rows = pages("/fleet").tables["Hosts that share these stores"]

    assert len(rows) == len(fleet["hosts"]) == 2
    for row, host in zip(rows, fleet["hosts"], strict=True):
        assert row["Host"] == f"{host['name']} {host['host_id']}".replace(
            " ", " (this host) " if host["host_id"] == fleet["this_host"] else " ", 1
        )
        assert (row["Version"], row["Engine"]) == (host["version"], host["engine"])
        assert row["Backlog"] == str(host["backlog"])
        assert row["Clock"].startswith(f"{host['clock_skew_seconds']:+.1f} s")
        owned = [environment for environment in fleet["environments"] if environment["host_id"] == host["host_id"]]
        assert row["Environments"] == str(len(owned))
