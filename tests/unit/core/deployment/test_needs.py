from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.deployment.needs import (
    circle_of,
    dependants_of_environment,
    down_words,
    judge_need,
    was_down_when_it_failed,
)
from models.containers import ContainerState
from models.health import Health, HealthReport, ServiceHealth, ServiceVerdict
from models.needs import NeedState

NOON = datetime(2026, 12, 2, 12, tzinfo=UTC)
UP = ContainerState(
    container_id="a" * 64, name="data-db-1", service="db", project="data", number=1, image="i", image_id="1",
    state="running", seen_at=NOON, started_at=NOON,
)  # fmt: skip
DB, CACHE = (ServiceVerdict(service=name, health=ServiceHealth.HEALTHY, reason="") for name in ("db", "cache"))
OPTIONAL = replace(CACHE, required=False)


def report(*services: ServiceVerdict, overall: Health = Health.HEALTHY) -> HealthReport:
    return HealthReport(environment="data", overall=overall, checked_at=NOON, services=services)


@pytest.mark.parametrize(
    ("needs", "circle"),
    [
        ({}, ()),
        ({"shop": ["data/db"], "data": ["base"]}, ()),
        ({"shop": ["data/db", "data"], "data": ["base", "shop/web"]}, ("shop", "data", "shop")),
        ({"shop": ["a", "b"], "a": ["c"], "b": ["c"], "c": ["shop"]}, ("shop", "a", "c", "shop")),
        # A circle of others is none of this one.
        ({"shop": ["a"], "a": ["b"], "b": ["a"]}, ()),
    ],
)
def test_a_circle_is_the_shortest_way_back(needs: dict[str, list[str]], circle: tuple[str, ...]) -> None:
    assert circle_of("shop", needs) == circle


def test_dependants_are_those_that_need_it_directly_or_through_others_the_nearest_first() -> None:
    needs = {"shop": ["data/db"], "wiki": ["data"], "front": ["shop"], "other": ["base"], "cached": ["data/cache"]}
    assert dependants_of_environment("data", needs) == ["cached", "shop", "wiki", "front"]
    assert dependants_of_environment("data", needs, ["db"]) == ["shop", "wiki", "front"]
    assert dependants_of_environment("front", needs) == []
    assert dependants_of_environment("a", {"a": ["b"], "b": ["a"]}) == ["b"]


@pytest.mark.parametrize("health", ServiceHealth)
def test_a_need_of_a_service_is_up_where_that_serves_whatever_the_others_do(health: ServiceHealth) -> None:
    services = report(replace(DB, health=health), replace(CACHE, health=ServiceHealth.STOPPED))
    state = judge_need("data/db", services, [UP], stopped=False, held=False)
    assert state.up is (health in {"healthy", "degraded", "completed", "unproven"})
    assert state.since == NOON


def test_a_need_of_an_environment_is_up_where_all_that_is_required_serves() -> None:
    stopped = replace(OPTIONAL, health=ServiceHealth.STOPPED)
    assert judge_need("data", report(DB, stopped), [UP], stopped=False, held=False).up
    down = judge_need("data", report(DB, replace(stopped, required=True)), [UP], stopped=False, held=False)
    assert (down.up, down.reason) == (False, "cache is stopped: ")


def test_a_start_waits_only_for_what_may_come_up() -> None:
    down = report(replace(DB, health=ServiceHealth.STOPPED))
    coming = {
        (bool(containers), stopped, held): judge_need("data/db", down, containers, stopped=stopped, held=held).coming
        for containers in ([], [UP])
        for stopped in (False, True)
        for held in (False, True)
    }
    # Without a container it was never started, and one that a person stopped stays so, unless somebody is at it.
    assert [key for key, comes in coming.items() if not comes] == [
        (False, False, False),
        (False, True, False),
        (True, True, False),
    ]


def test_a_service_that_does_not_exist_is_named_and_neither_up_nor_down() -> None:
    state = judge_need("data/sql", report(DB), [], stopped=False, held=False)
    assert (state.up, state.reason) == (None, "data has no such service: it has db")
    assert not state.coming


@pytest.mark.parametrize(
    ("up", "since", "behind"),
    [
        (False, None, True),
        (True, None, False),
        (None, None, False),
        (True, timedelta(minutes=5), True),
        (True, timedelta(seconds=-30), True),
        (True, timedelta(minutes=-5), False),
    ],
)
def test_what_failed_while_its_need_was_down_failed_for_that(
    up: bool | None, since: timedelta | None, behind: bool
) -> None:
    state = NeedState(need="data/db", up=up, reason="", since=since and NOON + since)
    assert was_down_when_it_failed(state, NOON) is behind


def test_only_what_is_known_to_be_down_is_said_to_be() -> None:
    states = [NeedState(need=f"data/{up}", up=up, reason="why") for up in (True, False, None)]
    assert down_words(states) == "it needs data/False, which is down (why)"
    assert down_words(states[::2]) == ""
