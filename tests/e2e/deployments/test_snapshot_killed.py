"""The process of a snapshot is killed: what it paused goes on, half of it never counts, and it is taken anew."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from prefect import Flow

from adapters.snapshots.own_pauses import OwnPauses
from flows.deployment.rollback import rollback
from flows.deployment.startup import startup
from flows.storage.rehearse import rehearse
from flows.storage.snapshot import snapshot
from models.failures import SnapshotError
from models.operations import OperationStatus
from models.snapshots import DataSnapshot, SnapshotState
from tests.e2e.deployments.test_snapshots import (  # noqa: F401 - fixtures
    declare,
    image,
    last,
    restic,
    shop,
    shop_with,
)
from tests.e2e.flows.conftest import Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.e2e.flows.test_watch import until, watching
from tests.support.data_application import Data
from tests.support.docker_command import docker_command
from tests.support.killed_flow import killed_flow
from tests.support.person_between import CLOSED_WINDOW, PAUSED, between
from tests.support.taken_up import BY_AGENT, BY_HAND, BY_RETRY, is_left_by_the_agent, run_in, take_up

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=20)]

USED = ("cache", "app")
STOPPED_SERVICE, PAUSED_SERVICE = "stopped a service", "paused another service"


def state_of(place: Place, service: str) -> str:  # noqa: F811
    command = ["docker", "inspect", "-f", "{{.State.Status}}", place.container(service)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def is_paused(place: Place) -> bool:  # noqa: F811
    return state_of(place, "app") == "paused"


MOMENTS: dict[str, tuple[tuple[str, ...], Callable[[Place], bool] | None, SnapshotState]] = {
    "before it saves": (("after", "begun"), None, SnapshotState.FAILED),
    "while a service is paused": ((), is_paused, SnapshotState.FAILED),
    # All of it is saved by then, and its manifest says so.
    "before it counts": (("before", "whole"), None, SnapshotState.WHOLE),
}


async def killed_snapshot(place: Place, moment: str) -> tuple[Data, UUID, DataSnapshot]:  # noqa: F811
    """The application, the run of its killed snapshot, and what is on record of that."""
    data = await shop_with(place, *USED)
    declare(place, *USED, change="2")
    await startup("test")
    file = place.folder / "test.yaml"
    file.write_text(file.read_text().replace("volume: files}", "volume: files, pause: true}"))
    data.fill("before", USED)
    # Reading it takes a while, in which the service is paused.
    data.shell("head -c 60000000 /dev/urandom > /srv/files/large")
    how, when, _ = MOMENTS[moment]
    asked = {"environment": "test"}
    killed_flow("snapshot", asked, *how, when=partial(when, place) if when else None, pool=place.project)
    (begun,) = snapshots(place)
    assert begun.state is SnapshotState.BEGUN
    return data, await run_in(place.project), begun


def snapshots(place: Place) -> list[DataSnapshot]:  # noqa: F811
    with place.stores() as stores:
        return stores.snapshots.list_for("test")


def nothing_is_left_paused(place: Place) -> bool:  # noqa: F811
    return (
        state_of(place, "app") == "running"
        and not OwnPauses(place.settings.data_dir / "snapshots", "test").left_pauses()
    )


@pytest.mark.parametrize(("moment", "way"), zip(MOMENTS, (BY_RETRY, BY_AGENT, BY_HAND), strict=True))
async def test_a_killed_snapshot_is_taken_anew(shop: Place, moment: str, way: str) -> None:  # noqa: F811
    data, run, killed = await killed_snapshot(shop, moment)
    was = data.held(("cache",))

    taken: Any = await take_up(way, snapshot, run, shop.project)

    assert nothing_is_left_paused(shop)
    states = {one.snapshot_id: one.state for one in snapshots(shop)}
    assert states == {killed.snapshot_id: MOMENTS[moment][2], taken.snapshot_id: SnapshotState.WHOLE}
    tags = {tag for one in restic(shop, "snapshots") for tag in one["tags"]}
    whole = {name for name, state in states.items() if state is SnapshotState.WHOLE}
    assert tags == {"roas", "manifest", *whole}
    for name in whole:
        rehearsed = await rehearse("test", snapshot=name)
        assert rehearsed.rehearsal is not None
        assert rehearsed.rehearsal.problem == ""
    assert data.held(("cache",)) == was


@pytest.mark.parametrize(
    ("person", "way"),
    [
        (STOPPED_SERVICE, BY_RETRY),
        (PAUSED_SERVICE, BY_AGENT),
        (PAUSED, BY_AGENT),
        (PAUSED, BY_RETRY),
        (CLOSED_WINDOW, BY_AGENT),
    ],
)
async def test_what_a_person_does_after_a_snapshot_was_killed_counts(
    shop: Place,  # noqa: F811
    person: str,
    way: str,
) -> None:
    _, run, killed = await killed_snapshot(shop, "while a service is paused")

    if person in (STOPPED_SERVICE, PAUSED_SERVICE):
        word = "stop" if person == STOPPED_SERVICE else "pause"
        docker_command(word, shop.container("cache"))
    else:
        await between(shop, person, "cache")

    if person in (STOPPED_SERVICE, PAUSED_SERVICE):
        with pytest.raises(SnapshotError, match="cache"):
            await take_up(way, snapshot, run, shop.project)
        assert state_of(shop, "cache") == ("exited" if person == STOPPED_SERVICE else "paused")
        assert [one.state for one in snapshots(shop)] == [SnapshotState.FAILED] * 2
    elif (person, way) == (PAUSED, BY_AGENT):
        assert await is_left_by_the_agent(run, shop.project)
        async with watching(shop):
            await until(lambda: not is_paused(shop))
        # What it saved was not inspected.
        assert [one.state for one in snapshots(shop)] == [SnapshotState.BEGUN]
    else:
        await take_up(way, snapshot, run, shop.project)
        states = {one.snapshot_id: one.state for one in snapshots(shop)}
        assert states.pop(killed.snapshot_id) is SnapshotState.FAILED
        assert list(states.values()) == [SnapshotState.WHOLE]
    assert nothing_is_left_paused(shop)


async def test_a_killed_snapshot_over_which_a_person_has_taken_another_is_left(shop: Place) -> None:  # noqa: F811
    _, run, killed = await killed_snapshot(shop, "while a service is paused")
    await snapshot("test")

    assert await is_left_by_the_agent(run, shop.project)

    states = {one.snapshot_id: one.state for one in snapshots(shop)}
    assert states.pop(killed.snapshot_id) is SnapshotState.FAILED
    assert list(states.values()) == [SnapshotState.WHOLE]
    assert nothing_is_left_paused(shop)


@pytest.mark.parametrize("flow", [startup, rollback], ids=["start", "rollback"])
async def test_the_next_operation_lets_go_on_what_a_killed_snapshot_paused(
    shop: Place,  # noqa: F811
    flow: Flow[..., Any],
) -> None:
    await killed_snapshot(shop, "while a service is paused")

    await flow("test")

    assert nothing_is_left_paused(shop)
    assert last(shop).status is OperationStatus.SUCCESS
