"""A release and its data come back together, after an update that changed both."""

from __future__ import annotations

import pytest

from flows.deployment.rollback import rollback
from flows.deployment.update import update
from flows.storage.snapshot import snapshot
from models.failures import BadInputError, NotFoundError
from models.snapshots import SnapshotReason, SnapshotState
from tests.e2e.deployments.test_snapshots import (  # noqa: F401 - fixtures
    containers,
    declare,
    image,
    last,
    shop,
    shop_with,
)
from tests.e2e.flows.conftest import Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = [pytest.mark.engine, pytest.mark.flow]

USED = ("db", "app")


@pytest.mark.campaign(seconds=30)
async def test_a_release_comes_back_with_the_data_of_before_its_update(shop: Place) -> None:  # noqa: F811
    data = await shop_with(shop, *USED)
    data.fill("before", USED)
    was = data.held(USED)
    with pytest.raises(BadInputError, match="No earlier proven release"):
        await rollback("test", with_data=True)
    declare(shop, *USED, change="2")

    await update("test")
    taken = last(shop).details["snapshots"]
    data.fill("after", USED)
    await rollback("test", with_data=True)

    assert data.held(USED) == was
    assert [one["parts"] for one in taken] == [["db/shop", "app/srv/state/app.db", "files"]]
    assert [one["proof"] for one in taken] == ["not rehearsed"]
    assert last(shop).details["data_of"] == taken[0]["id"]
    with shop.stores() as stores:
        by_reason = {one.reason: one for one in stores.snapshots.list_for("test")}
        assert by_reason[SnapshotReason.UPDATE].snapshot_id == taken[0]["id"]
        assert by_reason[SnapshotReason.SAFETY].snapshot_id == last(shop).details["safety_snapshot"]
        assert stores.snapshots.find_restoring("test") is None


async def test_an_update_whose_data_cannot_be_saved_touches_no_container(shop: Place) -> None:  # noqa: F811
    await shop_with(shop, "app", more=f", repository: {shop.folder}/file/in/the/way")
    (shop.folder / "file").write_text("")
    declare(shop, "app", change="2", more=f", repository: {shop.folder}/file/in/the/way")
    before = containers(shop)

    with pytest.raises(Exception, match="for snapshots cannot be made"):
        await update("test")

    assert containers(shop) == before
    assert last(shop).details["rolled_back_to"]


@pytest.mark.campaign
async def test_a_release_without_a_snapshot_changes_nothing(shop: Place) -> None:  # noqa: F811
    data = await shop_with(shop, "app", more=", before_updates: never")
    data.fill("before", ("app",))
    declare(shop, "app", change="2", more=", before_updates: never")
    await update("test")
    before = containers(shop)
    await snapshot("test")

    with pytest.raises(NotFoundError, match="No snapshot was taken when release"):
        await rollback("test", with_data=True)

    assert containers(shop) == before
    with shop.stores() as stores:
        assert [one.state for one in stores.snapshots.list_for("test")] == [SnapshotState.WHOLE]
