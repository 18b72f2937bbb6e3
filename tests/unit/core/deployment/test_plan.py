"""Order, deadlines and plans of applications."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.deployment.plan import (
    critical_path,
    cycle,
    dangling_dependencies,
    paused_containers,
    paused_services,
    plan,
    plan_id,
    refuse_paused,
    start_deadline,
    start_waves,
    stop_waves,
)
from models.compose import (
    Application,
    DependsOn,
    HealthcheckDeclaration,
    Mount,
    MountKind,
    PlannedAction,
    ServiceDeclaration,
    VolumeDeclaration,
)
from models.containers import ContainerState
from models.environments import Environment
from models.failures import ComposeError, PausedError
from models.metrics import Dependency, DependencyType, HealthImpact

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HASH, IMAGE_ID = "a" * 64, "sha256:" + "1" * 64


def service(name: str, *needs: str, **other: object) -> ServiceDeclaration:
    declared = ServiceDeclaration(
        name=name,
        image="thing:1",
        depends_on={need: DependsOn() for need in needs},
        config_hash=HASH,
        restart="always",
    )
    return replace(declared, **other)  # type: ignore[arg-type]


def application(*services: ServiceDeclaration) -> Application:
    return Application(project="app", services={one.name: one for one in services})


def container(name: str, **other: object) -> ContainerState:
    running = ContainerState(
        container_id=f"id-{name}",
        name=f"app-{name}-1",
        service=name,
        project="app",
        number=1,
        image="thing:1",
        image_id=IMAGE_ID,
        state="running",
        seen_at=NOON,
        config_hash=HASH,
        started_at=NOON,
    )
    return replace(running, **other)  # type: ignore[arg-type]


BOT = application(service("bot", "redis", "migrate"), service("redis"), service("migrate", "redis"), service("web"))
ALL_RUN = [container(name) for name in BOT.services]
IMAGES: Mapping[str, str] = {"thing:1": IMAGE_ID}


def test_services_start_after_all_they_depend_on() -> None:
    assert start_waves(BOT) == (("redis", "web"), ("migrate",), ("bot",))


def test_services_stop_before_all_they_depend_on() -> None:
    assert stop_waves(BOT, ()) == (("bot",), ("migrate",), ("redis", "web"))


def test_services_stop_before_what_only_the_environment_says_they_need() -> None:
    def need(name: str, other: str) -> Dependency:
        required, critical = DependencyType.REQUIRED, HealthImpact.CRITICAL
        return Dependency(service=name, depends_on=other, dependency_type=required, health_impact=critical)

    assert stop_waves(BOT, [need("redis", "web"), need("web", "gone")]) == (
        ("bot",),
        ("migrate",),
        ("redis",),
        ("web",),
    )
    # One that would make a circle with the Compose files, or with another one, is left out.
    assert stop_waves(BOT, [need("redis", "bot")]) == stop_waves(BOT, ())
    assert stop_waves(BOT, [need("web", "redis"), need("redis", "web")]) == stop_waves(BOT, [need("redis", "web")])


def test_a_service_inside_another_starts_after_it() -> None:
    assert start_waves(application(service("a", inside_of=("b",)), service("b"))) == (("b",), ("a",))


def test_a_disabled_optional_dependency_delays_no_service() -> None:
    off = service("bot", depends_on={"debugger": DependsOn(required=False)})
    assert start_waves(application(off)) == (("bot",),)
    assert dangling_dependencies(application(off)) == ()


def test_a_required_dependency_that_is_off_is_dangling() -> None:
    assert dangling_dependencies(application(service("bot", "redis"))) == (("bot", "redis"),)


def test_a_circle_is_named_and_refused() -> None:
    circle = application(service("a", "b"), service("b", "c"), service("c", "a"), service("d", "a"))
    assert cycle(circle) == ("a", "b", "c", "a")
    with pytest.raises(ComposeError, match="a -> b -> c -> a"):
        start_waves(circle)


def test_no_circle_is_seen_where_two_ways_lead_to_one_service() -> None:
    assert cycle(BOT) == ()


def test_the_deadline_of_a_checked_service_outlasts_its_health_check() -> None:
    check = HealthcheckDeclaration(
        test=("CMD", "true"),
        interval=timedelta(seconds=2),
        timeout=timedelta(seconds=1),
        retries=4,
        start_period=timedelta(seconds=20),
    )
    assert start_deadline(service("a", healthcheck=check), limits()) == timedelta(seconds=20 + 4 * 3 + 10)


def test_what_a_health_check_leaves_out_counts_as_the_engine_counts_it() -> None:
    check = HealthcheckDeclaration(test=("CMD", "true"))
    assert start_deadline(service("a", healthcheck=check), limits()) == timedelta(seconds=3 * 60 + 10)


def test_an_awaited_job_has_more_time_than_a_service_without_a_check() -> None:
    assert start_deadline(service("a", awaited=True), limits()) > start_deadline(service("a"), limits())


def test_the_environment_limits_each_service_that_has_no_limit_of_its_own() -> None:
    declared = limits(start_timeout_seconds=20, services={"a": {"start_timeout_seconds": 90}})
    assert start_deadline(service("a"), declared) == timedelta(seconds=90)
    assert start_deadline(service("b"), declared) == timedelta(seconds=20)
    assert start_deadline(service("b"), limits(start_timeout_seconds=600)) == timedelta(seconds=60)


def limits(**fields: object) -> Environment:
    return Environment.model_validate({"name": "app", "project": "app", "compose_files": ["compose.yaml"]} | fields)


def seconds(**numbers: float) -> dict[str, timedelta]:
    return {name: timedelta(seconds=number) for name, number in numbers.items()}


def test_the_critical_path_goes_through_what_held_up_the_longest() -> None:
    held_up_by = {"migrate": seconds(redis=2.0), "bot": seconds(redis=2.5, migrate=5.0)}
    path = critical_path(seconds(redis=9.0, migrate=5.0, bot=9.5, web=1.0), held_up_by)
    assert [(link.service, link.took.total_seconds()) for link in path] == [
        ("redis", 2.0),
        ("migrate", 3.0),
        ("bot", 4.5),
    ]


def test_what_waited_for_nothing_is_a_critical_path_of_its_own() -> None:
    path = critical_path(seconds(redis=1.0, bot=3.0), {"bot": seconds(redis=0.0)})
    assert [(link.service, link.took.total_seconds()) for link in path] == [("bot", 3.0)]


def test_nothing_started_has_no_critical_path() -> None:
    assert critical_path({}, {}) == ()


def test_what_runs_as_declared_is_kept() -> None:
    assert plan(BOT, ALL_RUN, IMAGES).changes == ()


def test_a_service_of_which_no_replica_is_declared_is_kept_as_nothing() -> None:
    assert plan(Application(project="app", services={"a": service("a", replicas=0)}), []).changes == ()


def seen_instead(changed: ContainerState) -> list[ContainerState]:
    return [changed if one.service == changed.service else one for one in ALL_RUN]


@pytest.mark.parametrize(
    ("changed", "action", "because"),
    [
        (container("bot", config_hash="b" * 64), PlannedAction.RECREATE, "configuration changed"),
        (container("bot", image_id="sha256:2"), PlannedAction.RECREATE, "image thing:1 changed"),
        (container("bot", state="created"), PlannedAction.START, "never started"),
        (container("bot", state="exited", exit_code=3), PlannedAction.START, "exit code 3"),
        (container("bot", state="restarting", restart_count=9), PlannedAction.RESTART, "keeps crashing"),
        (container("bot", health="unhealthy"), PlannedAction.RESTART, "unhealthy"),
    ],
)
def test_each_difference_has_its_action_and_reason(
    changed: ContainerState, action: PlannedAction, because: str
) -> None:
    planned = plan(BOT, seen_instead(changed), IMAGES)
    assert [line.service for line in planned.changes] == ["bot"]
    assert planned.service("bot").action is action
    assert because in planned.service("bot").because


def test_what_a_person_paused_is_left_so() -> None:
    planned = plan(BOT, seen_instead(container("bot", state="paused")), IMAGES, {"bot": ["/etc/bot.yml"]})
    assert not planned.changes
    assert "is paused, and left so (docker unpause" in planned.service("bot").because


def test_only_paused_containers_of_services_count_as_paused() -> None:
    states = [
        *(container(state, state=state) for state in ("created", "running", "restarting", "exited", "dead", "paused")),
        container("job", state="paused", one_off=True),
    ]
    services = [one.service for one in states]
    assert paused_services(states) == {"paused"}
    assert paused_containers(states, services) == ["app-paused-1"]
    assert paused_containers(states, ["running"]) == []


def test_an_operation_on_what_a_person_paused_is_refused_with_the_command_that_resumes_it() -> None:
    both = [container("web", state="paused"), container("bot", state="paused"), container("redis")]
    refuse_paused(both, ["redis"], "a start")
    with pytest.raises(PausedError) as one:
        refuse_paused(both, ["bot", "redis"], "a start")
    assert str(one.value).startswith("app-bot-1 is paused, so a start touches nothing;")
    with pytest.raises(PausedError) as two:
        refuse_paused(both, BOT.services, "a restore")
    assert str(two.value).startswith("app-web-1, app-bot-1 are paused, so a restore touches nothing;")
    assert two.value.advice.startswith("`docker unpause app-web-1 app-bot-1` resumes")


def test_a_renamed_volume_is_said_and_part_of_the_plan_s_id() -> None:
    mount = Mount(kind=MountKind.VOLUME, target="/data/", source="new")
    bot = replace(BOT.services["bot"], mounts=(mount,))
    volumes = (VolumeDeclaration(key="new", name="app_new"), VolumeDeclaration(key="old", name="app_old"))
    application = replace(BOT, services={**BOT.services, "bot": bot}, volumes=volumes)
    before = container("bot", config_hash="b" * 64, named_volumes={"/data": "app_old"})
    kept = replace(bot, mounts=(replace(mount, source="old"),))
    renamed = plan(application, seen_instead(before), IMAGES)
    same = plan(replace(application, services={**BOT.services, "bot": kept}), seen_instead(before), IMAGES)
    assert renamed.service("bot").other_volumes == (
        "its data at /data stay in volume app_old, and it gets app_new there",
    )
    assert not same.service("bot").other_volumes
    assert plan_id(renamed) != plan_id(same)


def test_a_service_without_container_is_created() -> None:
    planned = plan(BOT, [one for one in ALL_RUN if one.service != "web"], IMAGES)
    assert planned.service("web").action is PlannedAction.CREATE


def test_a_mounted_file_that_changed_restarts_its_service_only() -> None:
    planned = plan(BOT, ALL_RUN, IMAGES, {"web": ["/etc/web.yml"]})
    assert [(line.service, line.action) for line in planned.changes] == [("web", PlannedAction.RESTART)]
    assert "/etc/web.yml" in planned.service("web").because


def test_a_service_follows_a_dependency_only_where_the_file_says_so() -> None:
    following = replace(BOT.services["bot"], depends_on={"redis": DependsOn(restart=True), "migrate": DependsOn()})
    asked = replace(BOT, services={**BOT.services, "bot": following})
    planned = plan(asked, seen_instead(container("redis", config_hash="b" * 64)), IMAGES)
    assert {line.service: line.action for line in planned.changes} == {
        "redis": PlannedAction.RECREATE,
        "bot": PlannedAction.RESTART,
    }


def test_what_lives_inside_a_replaced_service_is_replaced_with_it() -> None:
    inside = application(service("a", inside_of=("b",), config_hash=""), service("b"))
    planned = plan(inside, [container("a", config_hash="x"), container("b", config_hash="old")], IMAGES)
    assert planned.service("a").action is PlannedAction.RECREATE


def test_replicas_that_are_missing_are_created() -> None:
    planned = plan(application(service("web", replicas=3)), [container("web")], IMAGES)
    assert planned.service("web").action is PlannedAction.CREATE
    assert "1 of 3" in planned.service("web").because


def test_an_image_the_engine_does_not_hold_changes_nothing() -> None:
    assert plan(BOT, ALL_RUN, {}).changes == ()


def test_containers_of_services_no_longer_declared_are_named_and_left_alone() -> None:
    planned = plan(BOT, [*ALL_RUN, container("old")], IMAGES)
    assert planned.orphans == ("app-old-1",)
    assert planned.changes == ()


def test_containers_of_single_commands_are_no_part_of_a_plan() -> None:
    assert plan(BOT, [*ALL_RUN, container("bot", one_off=True, config_hash="z")], IMAGES).changes == ()


def test_an_older_compose_replaces_what_depends_on_what_it_replaces() -> None:
    app = application(service("db"), service("web", "db"))
    there = [container("db", config_hash="b" * 64), container("web")]

    assert plan(app, there, compose_version="2.26.1-4").service("web").action is PlannedAction.RECREATE
    assert plan(app, there, compose_version="2.29.7").service("web").action is PlannedAction.KEEP
    assert plan(app, there, compose_version="5.1.0").service("web").action is PlannedAction.KEEP


def test_what_only_compose_does_is_noted_and_no_part_of_the_id() -> None:
    plain = plan(application(service("web")), [])
    noted = plan(application(service("web", left_aside=("post_start is left aside", "provider is left aside"))), [])
    assert noted.service("web").note == "post_start is left aside; provider is left aside"
    assert plan_id(noted) == plan_id(plain)
