"""Pages of releases, snapshots, logs, hosts, report and post-mortem have what the commands print."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from core.deployment.release import differences
from core.runtime.page_actions import ACTIONS, read_fields
from flows.page.logs import LINES
from flows.page.rendering import BASE
from models.evidence import EvidenceBundle, EvidenceOccasion, LogExcerpt
from models.hosts import HostIdentity
from models.pages import Items, Table, Text
from models.records import Release
from models.snapshots import DataSnapshot, Rehearsal, SnapshotPart, SnapshotState
from tasks.reporting.fleet import read_fleet
from tasks.reporting.read import read_releases
from tasks.runtime.stores import open_stores
from tests.integration.page.conftest import HOSTILE, ReadPage
from tests.support.page import Viewer, page_client

NOW = datetime.now(UTC)
SHOP = "/environments/shop"


def test_releases_have_their_changes_and_a_way_back(text: ReadPage) -> None:
    page, listed = text(f"{SHOP}/releases"), read_releases("shop")

    assert listed
    for details in listed:
        assert details.release.release_id in page
        assert all(change in page for change in details.changes)
        back = f"{BASE}/do/rollback/shop?release={details.release.release_id}"
        assert (back in page) == details.release.proven


def test_two_releases_are_compared_the_older_first(text: ReadPage) -> None:
    stores = open_stores()
    old, new = (
        Release(
            release_id=f"r-{number}",
            environment="shop",
            deployment_id="shop-1",
            created_at=NOW.replace(year=2020 + number),
            compose={"services": {"web": {"image": f"web:{number}", "label": HOSTILE}}},
            hashes={"web": str(number)},
            images={"web": f"sha256:{number:064}"},
            proven=True,
        )
        for number in (1, 2)
    )
    stores.releases.keep(old)
    stores.releases.keep(new)

    page = text(f"{SHOP}/releases?from=r-2&to=r-1")

    assert "From r-1 to r-2" in page
    assert all(sentence in page for sentence in differences(old, new))
    assert "+    image: web:2" in page


def test_a_release_of_another_environment_is_not_compared(recorded: Path) -> None:
    release = open_stores().releases.latest("shop")[0]
    open_stores().releases.keep(replace(release, release_id="r-other", environment="other"))

    page = page_client().get(f"{BASE}{SHOP}/releases?from=r-other&to={release.release_id}")

    assert page.status_code == 404


def snapshot(name: str, state: SnapshotState) -> DataSnapshot:
    part = SnapshotPart(name="db/app", kind="postgresql", restic_id="x", bytes=2048, added_bytes=10, seconds=1)
    return DataSnapshot(
        snapshot_id=name,
        environment="shop",
        begun_at=NOW,
        state=state,
        parts=(part,),
        problem="" if state is SnapshotState.WHOLE else HOSTILE,
    )


def test_only_whole_snapshots_are_offered(text: ReadPage) -> None:
    assert "There is no snapshot yet" in text(f"{SHOP}/snapshots")
    stores = open_stores()
    whole = snapshot("d-whole", SnapshotState.WHOLE)
    stores.snapshots.begin(whole)
    stores.snapshots.begin(snapshot("d-failed", SnapshotState.FAILED))
    stores.snapshots.record_rehearsal(whole, NOW, Rehearsal(ok=True, seconds=2, found={"db/app": "3 tables"}))

    page = text(f"{SHOP}/snapshots")

    assert "2 KiB" in page
    assert f"{BASE}/do/restore/shop?snapshot=d-whole" in page
    assert "snapshot=d-failed" not in page


def test_logs_of_containers_that_cannot_be_read_come_from_evidence(recorded: Path) -> None:
    bundle = EvidenceBundle(
        bundle_id="b-1",
        environment="shop",
        service="gone",
        taken_at=NOW,
        occasion=EvidenceOccasion.FAILURE,
        reason="ended",
        first_cause="it ended",
        cause_service="gone",
        logs=(LogExcerpt(service="gone", container="shop-gone-1", lines=("out of memory", HOSTILE, "x" * 5000)),),
    )
    open_stores().evidence.keep(bundle)
    (recorded / "shop.yaml").unlink()

    client = page_client()
    page = client.get(f"{BASE}{SHOP}/logs").text

    assert "cannot be read here" in page
    assert "out of memory" in page
    assert "x" * 2001 not in page
    assert page.count("<script") == 1
    assert "\x1b" not in page
    assert "out of memory" in client.get(f"{BASE}{SHOP}/logs?q=MEMORY&service=gone&lines={LINES[-1]}").text
    assert "No line has these words" in client.get(f"{BASE}{SHOP}/logs?q=zebra").text


def test_hosts_are_those_of_the_fleet(recorded: Path) -> None:
    client = page_client()
    assert "No host is known yet" in client.get(f"{BASE}/fleet").text
    open_stores().hosts.report(HostIdentity(host_id="h-a", name=HOSTILE), version="1", engine="unix:///x", backlog=7)

    page = client.get(f"{BASE}/fleet").text

    fleet = read_fleet()
    assert page.count('rowheader"') == len(fleet.hosts) == 1
    assert "in contact" in page
    assert page.count("<script") == 1


def texts_of(document: object) -> list[str]:
    texts = []
    for section in document.sections:  # type: ignore[attr-defined]
        for block in section.blocks:
            if isinstance(block, Text):
                texts.append(block.text)
            elif isinstance(block, Items):
                texts += block.items
            elif isinstance(block, Table):
                texts += [cell for row in block.rows for cell in row]
    return texts


def test_the_report_is_the_commands(text: ReadPage) -> None:
    from tasks.reporting.days import page_of_days

    page = text(f"{SHOP}/report?days=365")

    expected = texts_of(page_of_days("shop", 365, datetime.now(UTC)))
    assert expected
    assert [words for words in expected if words not in page] == []


def test_a_post_mortem_is_the_commands(text: ReadPage) -> None:
    from core.reporting.postmortem import postmortem_page, write_postmortem
    from tasks.reporting.postmortem import read_failure

    error = open_stores().errors.latest()[0].error_id

    page = text(f"/postmortems/{error}")

    expected = texts_of(postmortem_page(write_postmortem(read_failure(error))))
    assert [words for words in expected if words not in page] == []


@pytest.mark.parametrize("part", ["", "/operations", "/releases", "/snapshots", "/logs", "/sizes", "/report"])
@pytest.mark.parametrize("name", ["other", "%2e%2e%2fshop", "<script>"])
def test_an_environment_that_was_never_operated_has_no_page(recorded: Path, part: str, name: str) -> None:
    page = page_client().get(f"{BASE}/environments/{name}{part}")

    assert page.status_code == 404


def test_sizes_of_files_that_another_host_has_are_asked_for_there(recorded: Path) -> None:
    (recorded / "shop.yaml").unlink()

    page = page_client().get(f"{BASE}{SHOP}/sizes")

    assert page.status_code == 404
    assert "on its host: <code>roas size shop</code>" in page.text


def test_nothing_acts_for_who_may_only_read(recorded: Path) -> None:
    client = page_client(Viewer(may_write=False))
    open_stores().snapshots.begin(snapshot("d-whole", SnapshotState.WHOLE))

    for part in ("", "/operations", "/releases", "/snapshots", "/report"):
        assert f"{BASE}/do/" not in client.get(f"{BASE}{SHOP}{part}").text, part


def test_links_that_act_name_actions_and_fields_that_there_are(text: ReadPage) -> None:
    stores = open_stores()
    stores.snapshots.begin(snapshot("d-whole", SnapshotState.WHOLE))
    stores.pauses.pause("shop", "web", None, "new disk", "ada", NOW)
    paths = [SHOP, f"{SHOP}/releases", f"{SHOP}/snapshots"]
    paths += [f"/tickets/{ticket.ticket_id}" for ticket in stores.tickets.find()]
    paths += [f"/operations/{operation.deployment_id}" for operation in stores.operations.history()]

    links = {link for path in paths for link in re.findall(rf'href="{BASE}/do/([^"]+)"', text(path))}

    actions = {}
    for link in links:
        address = urlsplit(link)
        name, _, environment = address.path.partition("/")
        assert environment == "shop"
        fields = {key: values[0] for key, values in parse_qs(address.query, strict_parsing=bool(address.query)).items()}
        assert read_fields(ACTIONS[name], fields) == fields, link
        actions[name] = fields
    # All that can be asked for.
    assert actions.keys() == ACTIONS.keys()


def test_headings_are_in_order_and_tables_have_captions(text: ReadPage) -> None:
    error = open_stores().errors.latest()[0].error_id
    operation = open_stores().operations.history()[0].deployment_id
    ticket = open_stores().tickets.find()[0].ticket_id
    paths = [
        "/",
        "/operations",
        "/tickets?all",
        "/fleet",
        SHOP,
        *(f"{SHOP}/{part}" for part in ("releases", "sizes", "report")),
    ]
    paths += [f"/operations/{operation}", f"/failures/{error}", f"/tickets/{ticket}", f"/postmortems/{error}"]

    for path in paths:
        page = text(path)
        levels = [int(level) for level in re.findall(r"<h([1-6])[ >]", page)]
        assert levels[0] == 1, path
        assert levels.count(1) == 1, path
        assert all(after - before <= 1 for before, after in pairwise(levels)), path
        assert page.count("<table") == page.count("<caption"), path
        assert page.count("<main") == 1, path
        assert len(re.findall(r"\bid=\"([^\"]+)\"", page)) == len(set(re.findall(r"\bid=\"([^\"]+)\"", page))), path
        assert " style=" not in page, path
        assert " onclick=" not in page, path
