"""A host with stores of its own ships to a real control plane, also through its death and one answer that was lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from adapters.server import membership
from adapters.server.journal import Journal, NotTakenError
from adapters.stores import Stores
from adapters.stores.outbox import Outbox
from flows.agent.shipping import Shipper
from models.operations import OperationStatus
from models.settings import Settings
from tests.e2e.fleet.control_plane import OwnControlPlane, own_control_plane
from tests.integration.stores.values import NOON, operation
from tests.support.postgresql_server import postgresql

pytestmark = [pytest.mark.flow, pytest.mark.campaign(seconds=15)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    server: OwnControlPlane
    stores_url: str
    folder: Path

    def statuses(self) -> dict[str, str]:
        with Stores.open(Settings(data_dir=self.folder / "reading", stores_url=self.stores_url)) as stores:
            return {one.deployment_id: str(one.status) for one in stores.operations.latest_recorded("prod", 100)}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with (
        postgresql() as database,
        database.database() as url,
        own_control_plane(tmp_path / "plane", ROAS_STORES_URL=url) as server,
    ):
        yield Fleet(server=server, stores_url=url, folder=tmp_path)


@pytest.fixture
def host(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Stores, Shipper]]:
    settings = Settings(data_dir=tmp_path / "host")
    monkeypatch.setenv("ROAS_DATA_DIR", str(settings.data_dir))
    membership.enrol(fleet.server.plane.address, fleet.server.plane.invite("alpha"), "host-1", "1", settings)
    member = membership.member_with_own_stores(settings)
    assert member is not None
    with Stores.open(settings) as stores:
        outbox = Outbox(stores)
        journal = Journal(member)
        yield stores, Shipper(outbox, journal)
        journal.close()


def test_what_a_host_records_reaches_its_control_plane_once_whatever_dies(
    fleet: Fleet, host: tuple[Stores, Shipper]
) -> None:
    stores, shipper = host
    stores.operations.begin(operation("prod-1"))
    assert shipper.ship_once() is False
    assert fleet.statuses() == {"prod-1": "running"}
    fleet.server.kill()
    stores.operations.finish("prod-1", OperationStatus.SUCCESS, NOON)
    stores.operations.begin(operation("prod-2"))
    with pytest.raises(NotTakenError, match="does not answer"):
        shipper.ship_once()
    fleet.server.start()
    # An agent that begins anew does not know which batch was the last.
    again = replace(shipper, number=0)
    again.ship_once()
    assert fleet.statuses() == {"prod-1": "success", "prod-2": "running"}
    assert again.outbox.take(1) is None
    # The answer was lost, or a late copy arrives: nothing goes back.
    stores.operations.finish("prod-2", OperationStatus.SUCCESS, NOON)
    replace(again, number=again.number - 1, sent_at=0.0).ship_once()
    assert fleet.statuses() == {"prod-1": "success", "prod-2": "success"}
