"""The process of a restore is killed at every step, in both directions: its data ends whole, all old or all new."""

from __future__ import annotations

import subprocess
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from prefect import Flow

from flows.deployment.rollback import rollback
from flows.deployment.startup import startup
from flows.deployment.update import update
from flows.storage.restore import restore
from flows.storage.snapshot import snapshot
from models.failures import HalfRestoredError, PausedError, RoasError, SnapshotError, StartFailedError
from models.operations import Operation, OperationStatus
from models.snapshots import DataSnapshot
from tests.e2e.deployments.test_snapshots import (  # noqa: F401 - fixtures
    declare,
    image,
    last,
    restic,
    shop,
    shop_with,
)
from tests.e2e.flows.conftest import Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.support.data_application import Data
from tests.support.killed_flow import killed_flow
from tests.support.person_between import BETWEEN, CLOSED_WINDOW, PAUSED_CONTAINER, STOPPED, between
from tests.support.taken_up import BY_AGENT, BY_HAND, BY_ITSELF, is_left_by_the_agent, take_up

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=60)]

USED = ("db", "app")
WITH_CACHE = (*USED, "cache")
STATE = "app/srv/state/app.db"
FORWARD = (
    ("before", "safety snapshot"),
    ("after", "safety snapshot"),
    ("before", "restored", "db/shop"),
    ("after", "restored", "files"),
    ("after", "data settled"),
)
BACK = (
    ("after", "restored", STATE),
    ("after", "undoing"),
    ("after", "returned", "db/shop"),
    ("before", "data settled"),
    ("after", "data settled"),
)


def serves(place: Place, used: tuple[str, ...] = USED) -> bool:  # noqa: F811
    return place.containers(running=True) == sorted(used)


async def ready(place: Place, used: tuple[str, ...] = USED) -> tuple[Data, DataSnapshot, dict[str, str]]:  # noqa: F811
    """The application with a snapshot, and what that holds."""
    data = await shop_with(place, *used, more=", keep: {last: 99}")
    data.fill("before", used)
    was = data.held(used)
    return data, await snapshot("test"), was


def with_unusable_cache(place: Place, taken: DataSnapshot) -> DataSnapshot:  # noqa: F811
    """The same snapshot with a part that can be read, and that no server can load."""
    saved = restic(place, "backup", "--quiet", "--stdin", "--stdin-filename", "cache", given=b"no dump of Redis")
    (cache,) = (one for one in taken.parts if one.name == "cache")
    broken = replace(cache, restic_id=str(saved["snapshot_id"]), bytes=16)
    return replace(taken, parts=tuple(broken if one is cache else one for one in taken.parts))


async def ready_to_fail(place: Place) -> tuple[Data, DataSnapshot]:  # noqa: F811
    """The application with a snapshot whose restore fails at its last part, so that it is undone."""
    data, taken, _ = await ready(place, WITH_CACHE)
    with place.stores() as stores:
        stores.snapshots.forget(taken.snapshot_id)
        stores.snapshots.begin(with_unusable_cache(place, taken))
    return data, taken


async def resume(place: Place, taken: DataSnapshot) -> None:  # noqa: F811
    """Continue the operation that was killed, as `roas resume` does."""
    await restore("test", snapshot=taken.snapshot_id, confirmed=True, deployment_id=last(place).deployment_id)


async def test_a_killed_restore_that_is_resumed_ends_with_the_data_of_the_snapshot(shop: Place) -> None:  # noqa: F811
    data, taken, was = await ready(shop)

    for moment in FORWARD:
        data.fill("after", USED)
        killed_flow("restore", {"environment": "test", "snapshot": taken.snapshot_id, "confirmed": True}, *moment)
        await resume(shop, taken)

        assert data.held(USED) == was, moment
        assert last(shop).status is OperationStatus.SUCCESS, moment
        assert serves(shop), moment


async def test_a_killed_restore_that_fails_ends_with_the_data_of_before_it(shop: Place) -> None:  # noqa: F811
    data, taken = await ready_to_fail(shop)

    for moment in BACK:
        data.fill("after", WITH_CACHE)
        now = data.held(WITH_CACHE)
        killed_flow("restore", {"environment": "test", "snapshot": taken.snapshot_id, "confirmed": True}, *moment)
        with pytest.raises(RoasError):
            await resume(shop, taken)

        assert data.held(WITH_CACHE) == now, moment
        assert last(shop).status is OperationStatus.FAILED, moment
        assert "undo_failed" not in last(shop).details, moment
        assert serves(shop, WITH_CACHE), moment
        await startup("test")


async def test_a_restore_that_another_one_overtook_is_not_resumed_into_its_data(shop: Place) -> None:  # noqa: F811
    data, taken, was = await ready(shop)
    data.fill("other", USED)
    other = await snapshot("test")
    held = data.held(USED)
    asked = {"environment": "test", "snapshot": taken.snapshot_id, "confirmed": True}
    killed_flow("restore", asked, "after", "restored", "db/shop")
    killed = last(shop).deployment_id
    with pytest.raises(HalfRestoredError, match=f"roas resume {killed}"):
        await startup("test")

    await restore("test", snapshot=other.snapshot_id, confirmed=True)
    with pytest.raises(SnapshotError, match="another operation has changed the data since"):
        await restore("test", snapshot=taken.snapshot_id, confirmed=True, deployment_id=killed)

    assert data.held(USED) == held != was
    assert serves(shop)


async def test_a_restore_over_half_restored_data_that_fails_brings_back_the_data_of_before_both(
    shop: Place,  # noqa: F811
) -> None:
    data, taken, _ = await ready(shop, WITH_CACHE)
    data.fill("after", WITH_CACHE)
    now = data.held(WITH_CACHE)
    asked = {"environment": "test", "snapshot": taken.snapshot_id, "confirmed": True}
    killed_flow("restore", asked, "after", "restored", "db/shop")
    broken = replace(with_unusable_cache(shop, taken), snapshot_id=f"{taken.snapshot_id}-b")
    with shop.stores() as stores:
        stores.snapshots.begin(broken)

    with pytest.raises(StartFailedError, match="cache"):
        await restore("test", snapshot=broken.snapshot_id, confirmed=True)

    assert data.held(WITH_CACHE) == now
    assert serves(shop, WITH_CACHE)
    await startup("test")


@pytest.mark.parametrize(
    "moment",
    [
        ("after", "found"),
        ("after", "restored", "db/shop"),
        ("before", "data settled"),
    ],
)
async def test_a_killed_rollback_with_data_that_is_resumed_brings_back_one_release_and_its_data(
    shop: Place,  # noqa: F811
    moment: tuple[str, ...],
) -> None:
    data = await shop_with(shop, *USED)
    data.fill("before", USED)
    was = data.held(USED)
    declare(shop, *USED, change="2")
    await update("test")
    data.fill("after", USED)
    with shop.stores() as stores:
        first = stores.releases.latest("test")[1]
    killed_flow("rollback", {"environment": "test", "with_data": True}, *moment)

    await rollback("test", with_data=True, deployment_id=last(shop).deployment_id)

    assert last(shop).status is OperationStatus.SUCCESS
    assert last(shop).details["rollback_to"] == first.release_id
    assert data.held(USED) == was
    assert serves(shop)


@pytest.mark.parametrize("way", BY_ITSELF)
async def test_a_killed_restore_goes_on_by_itself(shop: Place, way: str) -> None:  # noqa: F811
    data, taken, was = await ready(shop)
    asked = {"environment": "test", "snapshot": taken.snapshot_id, "confirmed": True}
    data.fill("after", USED)
    killed_flow("restore", asked, "after", "restored", "db/shop", pool=shop.project)

    await take_up(way, restore, last(shop), shop.project)

    assert data.held(USED) == was
    assert last(shop).status is OperationStatus.SUCCESS
    assert serves(shop)


@pytest.mark.parametrize("way", BY_ITSELF)
async def test_a_killed_restore_that_was_being_undone_is_undone_by_itself(shop: Place, way: str) -> None:  # noqa: F811
    data, taken = await ready_to_fail(shop)
    data.fill("after", WITH_CACHE)
    now = data.held(WITH_CACHE)
    asked = {"environment": "test", "snapshot": taken.snapshot_id, "confirmed": True}
    killed_flow("restore", asked, "after", "undoing", pool=shop.project)

    with pytest.raises(RoasError):
        await take_up(way, restore, last(shop), shop.project)

    assert data.held(WITH_CACHE) == now
    assert last(shop).status is OperationStatus.FAILED
    assert serves(shop, WITH_CACHE)


async def person_between(place: Place, person: str, flow: Flow[..., Any], **asked: object) -> Operation:  # noqa: F811
    """What a person does holds; then what was killed ends, by hand or by the agent. Raises what that ends with."""
    killed, running = last(place), place.containers(running=True)
    # One whose data is put back is down meanwhile.
    runs = next(iter(running), "none")
    await between(place, person, runs)
    if person == PAUSED_CONTAINER:
        with pytest.raises(PausedError, match=f"{place.container(runs)} is paused"):
            await take_up(BY_HAND, flow, killed, place.project, **asked)
        assert place.containers(running=True) == running
        assert last(place).record.interrupted
        subprocess.run(["docker", "unpause", place.container(runs)], capture_output=True, check=True)
    elif person != CLOSED_WINDOW:
        assert await is_left_by_the_agent(killed, place.project)
        assert place.containers(running=True) == ([] if person == STOPPED else running)
    try:
        way = BY_AGENT if person == CLOSED_WINDOW else BY_HAND
        await take_up(way, flow, killed, place.project, **(asked if way == BY_HAND else {}))
    finally:
        with place.stores() as stores:
            recorded = stores.operations.get(killed.deployment_id)
        assert not recorded.record.interrupted
        assert "undo_failed" not in recorded.details
    return recorded


@pytest.mark.parametrize("person", BETWEEN)
@pytest.mark.parametrize("moment", [("after", "safety snapshot"), ("after", "restored", "db/shop")])
async def test_what_a_person_does_after_a_restore_was_killed_counts(
    shop: Place,  # noqa: F811
    moment: tuple[str, ...],
    person: str,
) -> None:
    data, taken, was = await ready(shop)
    asked: dict[str, object] = {"snapshot": taken.snapshot_id, "confirmed": True}
    data.fill("after", USED)
    killed_flow("restore", {"environment": "test"} | asked, *moment, pool=shop.project)

    if (person, moment[1]) == (STOPPED, "safety snapshot"):
        # The data to save first has to run, and nothing was put back yet.
        with pytest.raises(SnapshotError, match="does not run"):
            await person_between(shop, person, restore, **asked)
        assert serves(shop, ())
        await startup("test")
        await restore("test", snapshot=taken.snapshot_id, confirmed=True)
    else:
        recorded = await person_between(shop, person, restore, **asked)
        assert recorded.status is OperationStatus.SUCCESS
    assert data.held(USED) == was
    assert serves(shop)


@pytest.mark.parametrize("person", BETWEEN)
async def test_what_a_person_does_while_a_killed_restore_is_half_undone_counts(shop: Place, person: str) -> None:  # noqa: F811
    data, taken = await ready_to_fail(shop)
    data.fill("after", WITH_CACHE)
    now = data.held(WITH_CACHE)
    asked: dict[str, object] = {"snapshot": taken.snapshot_id, "confirmed": True}
    killed_flow("restore", {"environment": "test"} | asked, "after", "returned", "db/shop", pool=shop.project)

    with pytest.raises(RoasError):
        await person_between(shop, person, restore, **asked)

    assert serves(shop, WITH_CACHE)
    assert data.held(WITH_CACHE) == now


@pytest.mark.parametrize("person", BETWEEN)
@pytest.mark.parametrize("undoing", [False, True], ids=["forward", "undoing"])
async def test_what_a_person_does_after_a_rollback_with_data_was_killed_counts(
    shop: Place,  # noqa: F811
    undoing: bool,
    person: str,
) -> None:
    used = WITH_CACHE if undoing else USED
    data = await shop_with(shop, *used)
    data.fill("before", used)
    was = data.held(used)
    declare(shop, *used, change="2")
    await update("test")
    if undoing:
        with shop.stores() as stores:
            taken = stores.snapshots.list_for("test")[0]
            stores.snapshots.forget(taken.snapshot_id)
            stores.snapshots.begin(with_unusable_cache(shop, taken))
    data.fill("after", used)
    now = data.held(used)
    moment = ("after", "undoing") if undoing else ("after", "restored", "db/shop")
    killed_flow("rollback", {"environment": "test", "with_data": True}, *moment, pool=shop.project)

    with pytest.raises(RoasError) if undoing else nullcontext():
        await person_between(shop, person, rollback, with_data=True)

    assert serves(shop, used)
    assert data.held(used) == (now if undoing else was)


@pytest.mark.parametrize("way", BY_ITSELF)
async def test_a_killed_rollback_with_data_goes_on_by_itself(shop: Place, way: str) -> None:  # noqa: F811
    data = await shop_with(shop, *USED)
    data.fill("before", USED)
    was = data.held(USED)
    declare(shop, *USED, change="2")
    await update("test")
    data.fill("after", USED)
    asked = {"environment": "test", "with_data": True}
    killed_flow("rollback", asked, "after", "restored", "db/shop", pool=shop.project)

    await take_up(way, rollback, last(shop), shop.project)

    assert last(shop).status is OperationStatus.SUCCESS
    assert data.held(USED) == was
    assert serves(shop)


@pytest.mark.parametrize("way", [BY_HAND, *BY_ITSELF])
async def test_a_killed_rollback_with_data_that_was_being_undone_is_undone(shop: Place, way: str) -> None:  # noqa: F811
    data = await shop_with(shop, *WITH_CACHE)
    data.fill("before", WITH_CACHE)
    declare(shop, *WITH_CACHE, change="2")
    await update("test")
    with shop.stores() as stores:
        taken = stores.snapshots.list_for("test")[0]
        stores.snapshots.forget(taken.snapshot_id)
        stores.snapshots.begin(with_unusable_cache(shop, taken))
    data.fill("after", WITH_CACHE)
    now = data.held(WITH_CACHE)
    killed_flow("rollback", {"environment": "test", "with_data": True}, "after", "undoing", pool=shop.project)

    with pytest.raises(RoasError):
        await take_up(way, rollback, last(shop), shop.project, **({"with_data": True} if way == BY_HAND else {}))

    assert data.held(WITH_CACHE) == now
    assert last(shop).status is OperationStatus.FAILED
    assert serves(shop, WITH_CACHE)
