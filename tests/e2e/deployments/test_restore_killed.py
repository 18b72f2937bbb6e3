"""The process of a restore is killed, in both directions: its data ends whole, all old or all new.

The simulation kills it between any two statements; here real programs put real data back, and a server keeps the runs.
"""

from __future__ import annotations

import subprocess
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from prefect import Flow

from flows.deployment.rollback import rollback
from flows.deployment.startup import startup
from flows.deployment.update import update
from flows.storage.restore import restore
from flows.storage.snapshot import snapshot
from models.failures import NotFoundError, PausedError, RoasError, SnapshotError
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
from tests.support.docker_command import docker_command
from tests.support.killed_flow import killed_flow
from tests.support.person_between import CLOSED_WINDOW, PAUSED, PAUSED_CONTAINER, STOPPED, between
from tests.support.taken_up import BY_AGENT, BY_HAND, BY_RETRY, is_left_by_the_agent, take_up

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=40)]

USED = ("db", "app")
WITH_CACHE = (*USED, "cache")
STATE = "app/srv/state/app.db"
IN_THE_DATABASE: tuple[str, ...] = ()
"""While the program of the database's server loads its part."""
FORWARD = (("before", "safety snapshot"), IN_THE_DATABASE, ("after", "restored", "files"), ("after", "data settled"))
BACK = (("after", "restored", STATE), ("after", "returned", "db/shop"), ("before", "data settled"))


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


def loads(place: Place) -> bool:  # noqa: F811
    """Whether the program that loads a dump runs in the database's container; another one reads what is there."""
    command = ["docker", "top", place.container("db"), "-eo", "pid,args"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return any("psql " in line and "--quiet" in line for line in listed.splitlines())


@pytest.mark.campaign(seconds=60)
async def test_a_killed_restore_that_is_resumed_ends_with_the_data_of_the_snapshot(shop: Place) -> None:  # noqa: F811
    data = await shop_with(shop, *USED, more=", keep: {last: 99}")
    data.fill("before", USED)
    # To load it takes long enough to be seen.
    data.postgresql("create table many as select n, md5(n::text) from generate_series(1, 400000) n")
    was, taken = data.held(USED), await snapshot("test")
    asked = {"environment": "test", "snapshot": taken.snapshot_id, "confirmed": True}

    for moment in FORWARD:
        data.fill("after", USED)
        killed_flow("restore", asked, *moment, when=partial(loads, shop) if moment is IN_THE_DATABASE else None)
        await resume(shop, taken)
        assert data.postgresql("select count(*), max(n) from many") == "400000|400000", moment

        assert data.held(USED) == was, moment
        assert last(shop).status is OperationStatus.SUCCESS, moment
        assert serves(shop), moment


@pytest.mark.campaign(seconds=80)
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


async def test_a_killed_restore_that_cannot_go_on_starts_what_it_had_stopped(shop: Place) -> None:  # noqa: F811
    data, taken, _ = await ready(shop)
    data.fill("after", USED)
    now = data.held(USED)
    asked = {"environment": "test", "snapshot": taken.snapshot_id, "confirmed": True}
    killed_flow("restore", asked, "before", "safety snapshot")
    assert shop.containers(running=True) == ["db"]
    with shop.stores() as stores:
        stores.snapshots.forget(taken.snapshot_id)

    with pytest.raises(NotFoundError):
        await resume(shop, taken)

    assert last(shop).details["undone"] == "no data was touched: 2 services proven"
    assert data.held(USED) == now
    assert serves(shop)


async def test_a_killed_restore_that_was_being_undone_is_undone_by_itself(shop: Place) -> None:  # noqa: F811
    data, taken = await ready_to_fail(shop)
    data.fill("after", WITH_CACHE)
    now = data.held(WITH_CACHE)
    asked = {"environment": "test", "snapshot": taken.snapshot_id, "confirmed": True}
    killed_flow("restore", asked, "after", "undoing", pool=shop.project)

    with pytest.raises(RoasError):
        await take_up(BY_RETRY, restore, last(shop), shop.project)

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
        docker_command("unpause", place.container(runs))
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


@pytest.mark.parametrize(
    ("moment", "person"),
    [(("after", "safety snapshot"), STOPPED), (("after", "restored", "db/shop"), CLOSED_WINDOW)],
)
async def test_what_a_person_does_after_a_restore_was_killed_counts(
    shop: Place,  # noqa: F811
    moment: tuple[str, ...],
    person: str,
) -> None:
    data, taken, was = await ready(shop)
    asked: dict[str, object] = {"snapshot": taken.snapshot_id, "confirmed": True}
    data.fill("after", USED)
    killed_flow("restore", {"environment": "test"} | asked, *moment, pool=shop.project)

    if person == STOPPED:
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


@pytest.mark.parametrize("person", [PAUSED_CONTAINER, PAUSED])
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


@pytest.mark.parametrize(
    ("undoing", "person"),
    [(False, PAUSED), (False, PAUSED_CONTAINER), (True, STOPPED), (True, CLOSED_WINDOW)],
    ids=lambda one: one if isinstance(one, str) else ("undoing" if one else "forward"),
)
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


async def test_a_killed_rollback_with_data_goes_on_by_itself(shop: Place) -> None:  # noqa: F811
    data = await shop_with(shop, *USED)
    data.fill("before", USED)
    was = data.held(USED)
    declare(shop, *USED, change="2")
    await update("test")
    data.fill("after", USED)
    asked = {"environment": "test", "with_data": True}
    killed_flow("rollback", asked, "after", "restored", "db/shop", pool=shop.project)

    await take_up(BY_RETRY, rollback, last(shop), shop.project)

    assert last(shop).status is OperationStatus.SUCCESS
    assert data.held(USED) == was
    assert serves(shop)
