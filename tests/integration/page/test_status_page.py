"""The public status page: without a sign-in, it tells what the file names and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.page.rendering import BASE
from models.health import Health, HealthReport, ServiceHealth, ServiceVerdict
from models.metrics import HOST, Metric
from models.operations import Operation, OperationStatus, OperationType
from tasks.reporting import status_page
from tasks.runtime.stores import open_stores
from tests.integration.page.page_clients import client
from tests.support.page import page_client

NOW = datetime.now(UTC)
PAGE = f"{BASE}/status/shop"
FILE = """\
name: shop
compose_files: [compose.yaml]
project: shop
"""


@pytest.fixture(autouse=True)
def _nothing_read_before() -> Iterator[None]:
    status_page._views.clear()
    yield
    status_page._views.clear()


@pytest.fixture
def shop(own_stores: Path) -> Path:
    """An environment with a status page, whose service web failed an hour ago."""
    file = own_stores / "shop.yaml"
    file.write_text(f"{FILE}status_page: {{title: Our shop, services: {{web: '<b>Website</b>'}}}}\n")
    stores = open_stores()
    for at, health in ((NOW - timedelta(days=3), ServiceHealth.HEALTHY), (NOW - timedelta(hours=1), "stopped")):
        verdicts = (
            ServiceVerdict(service="web", health=ServiceHealth(health), reason="wrong password"),
            ServiceVerdict(service="internal", health=ServiceHealth.HEALTHY, reason=""),
        )
        report = HealthReport(environment="shop", overall=Health.UNHEALTHY, checked_at=at, services=verdicts)
        stores.health.record(report)
    stores.heartbeats.beat("collection/shop", NOW)
    sample = {"environment": "shop", "service": HOST, "name": "load_1m", "value": 1.0}
    stores.metrics.add([Metric(**sample, sampled_at=NOW - timedelta(hours=hours)) for hours in range(48)])  # type: ignore[arg-type]
    return file


def test_it_shows_what_the_file_names_and_nothing_else(shop: Path) -> None:
    page = page_client().get(PAGE)

    assert page.status_code == 200
    assert "Our shop" in page.text
    assert "&lt;b&gt;Website&lt;/b&gt;" in page.text
    assert "does not work" in page.text
    assert 'class="bad"' in page.text
    for hidden in ("internal", "wrong password", "compose.yaml", f"{BASE}/environments", f"{BASE}/do/", ">web<"):
        assert hidden not in page.text


@pytest.mark.usefixtures("shop")
async def test_it_alone_is_shown_without_a_sign_in(tmp_path: Path) -> None:
    async with client(tmp_path) as visitor:
        page, overview = await visitor.get(PAGE), await visitor.get(f"{BASE}/environments/shop")

    assert (page.status_code, "Our shop" in page.text) == (200, True)
    assert overview.status_code != 200
    assert "Our shop" not in overview.text


@pytest.mark.parametrize("text", [FILE, f"{FILE}status_page: {{title: x}}\n", "{{{"])
def test_without_a_usable_page_in_its_file_nothing_is_shown(own_stores: Path, text: str) -> None:
    (own_stores / "shop.yaml").write_text(text)
    client = page_client()

    pages = [client.get(PAGE), client.get(f"{BASE}/status/none")]

    assert [page.status_code for page in pages] == [404, 404]
    assert len({page.text.partition("<footer")[0] for page in pages}) == 1
    assert client.get(f"{BASE}/status/%2e%2e%2fshop").status_code == 404


def test_it_is_read_anew_only_now_and_then(shop: Path) -> None:
    status_page.read_status_view("shop", NOW)
    shop.write_text(FILE)

    assert status_page.read_status_view("shop", NOW + timedelta(seconds=30)).title == "Our shop"
    with pytest.raises(status_page.NotFoundError):
        status_page.read_status_view("shop", NOW + timedelta(seconds=90))


def test_names_that_are_asked_for_take_no_memory(shop: Path) -> None:
    client = page_client()

    for number in range(20):
        assert client.get(f"{BASE}/status/name-{number}").status_code == 404

    assert status_page._views == {}


def test_stores_that_are_away_are_no_details_for_visitors(shop: Path, own_stores: Path) -> None:
    open_stores().close()
    for file in (own_stores / "data").glob("*.db"):
        file.write_bytes(b"no database at all" * 1000)

    page = page_client().get(PAGE)

    assert page.status_code == 503
    assert str(own_stores) not in page.text
    assert "not known at the moment" in page.text


def test_a_time_in_which_it_was_stopped_on_request_is_no_outage(shop: Path) -> None:
    stores = open_stores()
    for number, kind in enumerate((OperationType.START, OperationType.STOP)):
        began = NOW - timedelta(hours=3 - number)
        operation = Operation(
            deployment_id=f"shop-{number}",
            operation_type=kind,
            environment="shop",
            status=OperationStatus.RUNNING,
            started_at=began,
        )
        stores.operations.begin(operation)
        stores.operations.finish(operation.deployment_id, OperationStatus.SUCCESS, began + timedelta(seconds=9))

    view = status_page.read_status_view("shop", NOW)

    assert view.verdict.words == "switched off on purpose"
    assert view.incidents == ()


def test_measured_hours_come_from_summaries_and_samples(shop: Path) -> None:
    hours = open_stores().metrics.measured_hours("shop", "load_1m", NOW - timedelta(days=1), NOW)

    assert 24 <= len(hours) <= 25
    assert all(hour.minute == hour.second == hour.microsecond == 0 for hour in hours)
    assert open_stores().metrics.measured_hours("other", "load_1m", NOW - timedelta(days=1), NOW) == set()
