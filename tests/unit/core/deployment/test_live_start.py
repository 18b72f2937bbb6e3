"""What a live display shows of a start while it runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from core.deployment.hold import NeededHold
from core.deployment.live_start import LiveRow, LiveStart, headline, live_rows, path_so_far, rows_that_fit
from models.compose import DependencyCondition, DependsOn, HealthcheckDeclaration, ServiceDeclaration
from models.results import ServiceStart

STARTED, HEALTHY, COMPLETED = DependencyCondition
DB = ServiceDeclaration(name="db", image="db", healthcheck=HealthcheckDeclaration())
MIGRATE = ServiceDeclaration(
    name="migrate", image="db", awaited=True, one_shot=True, depends_on={"db": DependsOn(condition=HEALTHY)}
)
WEB = ServiceDeclaration(
    name="web", image="web", depends_on={"migrate": DependsOn(condition=COMPLETED), "db": DependsOn(condition=HEALTHY)}
)
START = LiveStart(environment="shop", services={one.name: one for one in (DB, MIGRATE, WEB)}, began=100.0)


def proven(service: str, took: float, state: str = "healthy") -> ServiceStart:
    return ServiceStart(
        service=service, previous_state="created", state=state, reason="it runs", kept=False, took_seconds=took
    )


def shown(start: LiveStart, now: float = 5.0) -> dict[str, tuple[str, float, str]]:
    return {row.service: (row.state, row.seconds, row.detail) for row in live_rows(start, now)}


def test_service_waits_for_what_its_dependencies_have_not_reached() -> None:
    assert shown(START)["web"] == ("waiting", 5.0, "for migrate (completed), db (healthy)")
    healthy = START.begin("db", 0.0, {}).reach("db", STARTED).reach("db", HEALTHY)
    assert shown(healthy)["web"] == ("waiting", 5.0, "for migrate (completed)")
    assert shown(healthy)["migrate"] == ("waiting", 5.0, "")


def test_service_does_not_wait_for_a_dependency_that_is_not_part_of_the_start() -> None:
    alone = replace(START, services={"web": WEB})
    assert shown(alone)["web"] == ("waiting", 5.0, "")


def test_state_follows_the_milestones() -> None:
    begun = START.begin("db", 1.0, {})
    assert shown(begun)["db"] == ("starting", 4.0, "")
    assert shown(begun.reach("db", STARTED))["db"] == ("started", 4.0, "its health check has not passed yet")
    hold = NeededHold(needed=timedelta(seconds=10), why="it is new")
    serving = begun.reach("db", STARTED).reach("db", HEALTHY).hold("db", 2.0, hold)
    assert shown(serving)["db"] == ("serves", 4.0, "7 s more: it is new")
    assert headline(serving, 5.0) == "shop: 0 of 3 services proven, 1 more serving, 5.0 s"
    assert shown(serving, 12.4)["db"][2] == "0 s more: it is new"
    assert headline(serving.end(proven("db", 11.0)), 12.0) == "shop: 1 of 3 services proven, 12.0 s"
    assert shown(serving.hold("db", 4.0, None))["db"] == ("started", 4.0, "its health check has not passed yet")
    assert shown(begun.end(proven("db", 2.5)))["db"] == ("healthy", 2.5, "it runs")
    job = START.begin("migrate", 3.0, {"db": 3.0}).reach("migrate", STARTED)
    assert shown(job)["migrate"] == ("started", 2.0, "it has not finished yet")


def test_kept_and_failed_services_say_so() -> None:
    kept = START.begin("db", 0.0, {}).end(replace(proven("db", 0.1), kept=True))
    assert shown(kept)["db"][0] == "kept"
    why = "it needs db, which did not become healthy"
    lacking = replace(proven("web", 0.0, "not started"), ok=False, waited_seconds=3.0, reason=why)
    assert shown(START.end(lacking))["web"] == ("not started", 3.0, why)
    assert headline(START.end(lacking), 5.0) == "shop: 0 of 3 services proven, 1 failed, 5.0 s"


def test_critical_path_grows_with_the_start() -> None:
    assert path_so_far(START, 0.5) == ""
    first = START.begin("db", 0.0, {})
    assert path_so_far(first, 2.0) == "db 2.0 s"
    second = first.reach("db", HEALTHY).end(proven("db", 2.5)).begin("migrate", 2.5, {"db": 2.5})
    assert path_so_far(second, 4.0) == "db 2.5 s > migrate 1.5 s"
    third = second.end(proven("migrate", 2.0, "completed")).begin("web", 4.5, {"db": 2.5, "migrate": 4.5})
    assert path_so_far(third, 5.0) == "db 2.5 s > migrate 2.0 s > web 0.5 s"


def test_clock_stands_still_once_the_start_is_over() -> None:
    assert START.seconds_at(103.0) == 3.0
    assert replace(START, over_at=4.0).seconds_at(200.0) == 4.0


def test_rows_that_go_on_are_shown_first_where_not_all_fit() -> None:
    rows = [LiveRow(service=f"s{number}", state="x", seconds=0.0, ended=number < 3) for number in range(5)]
    assert rows_that_fit(rows, 5) == (tuple(rows), 0)
    assert rows_that_fit(rows, 3) == ((rows[0], rows[3], rows[4]), 2)
    assert rows_that_fit(rows, 0) == ((), 5)
