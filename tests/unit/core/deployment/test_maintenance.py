"""Decisions of a host's maintenance: the order of the stop, the direction after a kill, and what a person did since."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from core.deployment.maintenance import goes_up, stop_order, why_left
from models.maintenance import MaintainedEnvironment, Maintenance, Stage
from models.operations import Operation, OperationStatus, OperationType
from models.recovery import Pause

NOON = datetime(2026, 12, 3, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=10)
SHOP = MaintainedEnvironment(name="shop", services=("web",), after="shop-stop", start_id="shop-start")
PLAN = Maintenance(
    maintenance_id="maintenance-1", host_id="h-1", host="box", boot="b1", by="root", reason="kernel", begun_at=NOON,
    until=NOON + timedelta(hours=1), stage=Stage.STOPPING, environments=(SHOP,),
)  # fmt: skip


def at(stage: Stage, **values: Any) -> Maintenance:
    return PLAN.model_copy(update={"stage": stage, **values})


@pytest.mark.parametrize("names", permutations(("base", "data", "front", "shop", "wiki")))
def test_what_needs_another_stops_first_whatever_the_order_of_the_files(names: tuple[str, ...]) -> None:
    needs = {"shop": ["data/db"], "front": ["shop/web"], "data": ["base"], "other": ["base"]}
    order = stop_order(names, needs)
    assert sorted(order) == sorted(names)
    chain = [name for name in order if name != "wiki"]
    assert chain == ["front", "shop", "data", "base"]


def test_a_circle_has_an_order_too() -> None:
    assert stop_order(["b", "a"], {"a": ["b"], "b": ["a"]}) == ["a", "b"]


@pytest.mark.parametrize(
    ("left", "boot", "now", "up"),
    [
        (at(Stage.STOPPING), "b1", LATER, False),
        (at(Stage.STOPPING), "b2", LATER, True),
        (at(Stage.STOPPED, command="upgrade"), "b1", LATER, False),
        (at(Stage.STOPPED, command="upgrade"), "b2", LATER, True),
        (at(Stage.WORKING, command="upgrade"), "b1", LATER, False),
        (at(Stage.WORKING, reboot=True), "b1", LATER, False),
        (at(Stage.WORKING, reboot=True), "b2", LATER, True),
        # It waits for a person, who may start the machine several times.
        (at(Stage.STOPPED), "b1", LATER, False),
        (at(Stage.STOPPED), "b2", LATER, False),
        (at(Stage.STARTING), "b1", LATER, True),
        *((at(stage), "b1", PLAN.until, True) for stage in Stage),
    ],
)
def test_the_agent_brings_up_after_the_work_a_boot_or_the_end(
    left: Maintenance, boot: str, now: datetime, up: bool
) -> None:
    assert goes_up(left, boot=boot, now=now) is up


def operation(deployment_id: str, kind: OperationType, started_at: datetime = LATER) -> Operation:
    return Operation(
        deployment_id=deployment_id,
        operation_type=kind,
        environment="shop",
        status=OperationStatus.SUCCESS,
        started_at=started_at,
        user_agent="person: root",
    )


def pause(environment: str | None = "shop", *, reason: str = "mine", at: datetime = LATER, **values: Any) -> Pause:
    return Pause(environment=environment, service=None, until=None, reason=reason, by="ann", paused_at=at, **values)


STOPPED = operation("shop-stop", OperationType.STOP)


@pytest.mark.parametrize(
    ("last", "pauses", "why"),
    [
        (STOPPED, (), ""),
        (operation("shop-start", OperationType.RESTART), (), ""),
        (operation("shop-9", OperationType.STOP), (), "stop shop-9 came since"),
        (operation("shop-9", OperationType.START), (), "start shop-9 came since"),
        (operation("shop-0", OperationType.START, NOON - timedelta(days=1)), (), "it was not stopped"),
        (None, (), "it was not stopped"),
        (STOPPED, (pause(),), "ann paused its recovery since"),
        (STOPPED, (pause(None),), "ann paused its recovery since"),
        (STOPPED, (pause("blog"), pause(reason=PLAN.title), pause(at=NOON - timedelta(days=1))), ""),
    ],
)
def test_a_person_who_came_in_between_wins(last: Operation | None, pauses: tuple[Pause, ...], why: str) -> None:
    assert why_left(SHOP, PLAN, last, pauses) == why


def test_the_report_says_how_each_is_and_fails_where_the_work_or_one_of_them_failed() -> None:
    left = SHOP.model_copy(update={"name": "blog", "outcome": "left: stop blog-9 came since"})
    ended = PLAN.model_copy(update={"worked": "the machine rebooted", "environments": (SHOP, left)})
    assert ended.success
    assert ended.lines == ("the machine rebooted", "shop: stopping", "blog: left: stop blog-9 came since")
    down = SHOP.model_copy(update={"outcome": "not up: web exited", "failed": True})
    assert not ended.model_copy(update={"environments": (left, down)}).success
    assert not ended.model_copy(update={"failed": True}).success
