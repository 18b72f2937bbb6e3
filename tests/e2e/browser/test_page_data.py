"""Data and alerts on the page in a real browser: what was saved is rehearsed and restored, an alert acknowledged."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import expect

from adapters.stores import Stores
from models.health import Health, HealthReport
from models.metrics import Alert, AlertSeverity, AlertState
from models.records import EvaluationRecord
from models.settings import Settings
from models.snapshots import DataSnapshot, SnapshotState
from tests.e2e.browser.serving import browser, eventually, served
from tests.e2e.browser.test_the_page import PageShop, Person, address

pytestmark = [pytest.mark.engine, pytest.mark.flow]


@dataclass(frozen=True, kw_only=True)
class DataShop(PageShop):
    """An application of one service with files in a volume, which snapshots have."""

    def put(self, words: str) -> None:
        """Write the file."""
        self.docker("exec", self.container("web"), "sh", "-c", f"echo {words} > /things/file")

    def held(self) -> str:
        """What the file has."""
        return self.docker("exec", self.container("web"), "cat", "/things/file")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataShop]:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    made = DataShop(environments=tmp_path, name="shop")
    made.set_up()
    try:
        made.write("1", volume="things")
        yield made
    finally:
        made.clean()
        made.docker("volume", "rm", f"{made.project}_things", check=False)


def snapshots() -> list[DataSnapshot]:
    with Stores.open(Settings()) as stores:
        return [snapshot for snapshot in stores.snapshots.list_for("shop") if snapshot.state is SnapshotState.WHOLE]


def rehearsed() -> list[DataSnapshot]:
    return [snapshot for snapshot in snapshots() if snapshot.rehearsal is not None]


def acknowledged() -> list[Alert]:
    with Stores.open(Settings()) as stores:
        return stores.alerts.latest(environment="shop", state=AlertState.ACKNOWLEDGED)


def open_alert(alert_id: str) -> None:
    now = datetime.now(UTC)
    alert = Alert(
        alert_id=alert_id,
        environment="shop",
        service="web",
        metric="memory",
        severity=AlertSeverity.WARNING,
        reason="web uses much memory",
        opened_at=now,
    )
    health = HealthReport(environment="shop", overall=Health.HEALTHY, checked_at=now, services=())
    with Stores.open(Settings()) as stores:
        stores.evaluations.record(
            EvaluationRecord(environment="shop", evaluated_at=now, health=health, alerts=(alert,))
        )


@pytest.mark.campaign(seconds=120)
def test_data_is_saved_rehearsed_and_restored_and_an_alert_acknowledged(
    shop: DataShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(shop.environments) as server, browser() as page:
        person = Person(page)
        page.goto(address(server, monkeypatch, "shop"))
        person.act("shop", "Start", "Start shop")
        person.press(person.button("Start"))
        person.see_end("succeeded")
        shop.put("before")

        person.act("shop", "Snapshot", "Save the data of shop")
        person.press(person.button("Save"))
        saved = eventually(snapshots, "the snapshot")[0].snapshot_id
        shop.put("after")

        page.goto(f"{server.url}/roas/environments/shop/snapshots")
        person.press(person.link(f"Rehearse {saved}"))
        person.press(person.button("Rehearse"))
        eventually(rehearsed, "the rehearsal")
        assert shop.held() == "after"

        page.goto(f"{server.url}/roas/environments/shop/snapshots")
        person.press(person.link(f"Restore {saved}"))
        expect(page.get_by_role("heading", name="What would be lost")).to_be_visible()
        person.write(page.get_by_label("Type shop to confirm it"), "shop")
        person.press(person.button("Restore"))
        person.see_end("succeeded")
        assert shop.held() == "before"

        open_alert(f"a-{secrets.token_hex(4)}")
        page.goto(f"{server.url}/roas/environments/shop")
        person.press(person.link("acknowledge"))
        person.write(page.get_by_label("What you do about it"), "it is looked at")
        person.press(person.button("Acknowledge"))
        (alert,) = eventually(acknowledged, "the acknowledgement")

    assert rehearsed()[-1].rehearsal.ok  # type: ignore[union-attr]
    assert alert.note == "it is looked at"
