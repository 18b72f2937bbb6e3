"""Which images an operation fetches, and what that is predicted to change."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.deployment.images import (
    fetch_kinds,
    predict_build,
    predict_pull,
    shared_fetches,
    similar_name,
    unplanned_services,
)
from core.deployment.plan import plan, plan_id
from models.compose import (
    Application,
    FetchKind,
    FetchOptions,
    ImageFact,
    ImageFetch,
    Interruption,
    PlannedAction,
    RegistryAnswer,
    ServiceDeclaration,
)
from tests.unit.core.deployment.test_plan import ALL_RUN, BOT, IMAGES, container, seen_instead

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
OLD, NEW = "sha256:" + "1" * 64, "sha256:" + "2" * 64
HELD = ImageFact(reference="thing:1", image_id="sha256:9", digests=(f"thing@{OLD}",), tagged_at=NOON)
WEB = ServiceDeclaration(name="web", image="thing:1")
START, UPDATE = FetchOptions(), FetchOptions(pull=True, build=True)


def kind(
    options: FetchOptions = START, *, held: ImageFact | None = HELD, at: datetime = NOON, **fields: object
) -> FetchKind | None:
    web = replace(WEB, **fields)  # type: ignore[arg-type]
    application = Application(project="app", services={"web": web})
    return fetch_kinds(application, {web.image: held}, options, at).get("web")


@pytest.mark.parametrize(
    ("policy", "later", "fetched"),
    [
        ("", timedelta(), None),
        ("missing", timedelta(days=400), None),
        ("if_not_present", timedelta(), None),
        ("never", timedelta(), None),
        ("always", timedelta(), FetchKind.PULL),
        ("daily", timedelta(hours=23), None),
        ("daily", timedelta(hours=24), FetchKind.PULL),
        ("weekly", timedelta(days=6), None),
        ("weekly", timedelta(days=7), FetchKind.PULL),
        ("every_1h30m", timedelta(minutes=89), None),
        ("every_1h30m", timedelta(minutes=90), FetchKind.PULL),
    ],
)
def test_a_start_fetches_what_the_pull_policy_asks_for(
    policy: str, later: timedelta, fetched: FetchKind | None
) -> None:
    assert kind(pull_policy=policy, at=NOON + later) is fetched


def test_a_start_builds_only_under_the_policy_build() -> None:
    assert kind(build=True) is None
    assert kind(build=True, pull_policy="build") is FetchKind.BUILD


def test_an_update_pulls_or_builds_all_but_what_may_never_be_pulled() -> None:
    assert kind(UPDATE) is FetchKind.PULL
    assert kind(UPDATE, pull_policy="missing") is FetchKind.PULL
    assert kind(UPDATE, build=True) is FetchKind.BUILD
    assert kind(UPDATE, pull_policy="never") is None
    assert kind(UPDATE, image=f"thing@{OLD}") is None


def test_an_image_that_only_a_build_can_give_is_not_pulled() -> None:
    assert kind(build=True, image="app-web", pull_policy="always") is None


def test_an_update_of_some_services_fetches_no_others() -> None:
    assert kind(replace(UPDATE, services=frozenset({"other"})), pull_policy="always") is None


def test_an_absent_image_of_a_container_is_fetched_first() -> None:
    application = Application(project="app", services={"web": WEB})
    assert fetch_kinds(application, {"thing:1": None}, FetchOptions(), NOON) == {}
    assert fetch_kinds(application, {"thing:1": None}, FetchOptions(), NOON, {"web"}) == {"web": FetchKind.PULL}


@pytest.mark.parametrize("policy", ["", "missing", "if_not_present", "build"])
@pytest.mark.parametrize("options", [UPDATE, START])
def test_an_absent_image_with_a_build_section_is_built_and_not_pulled(policy: str, options: FetchOptions) -> None:
    web = replace(WEB, build=True, pull_policy=policy)
    application = Application(project="app", services={"web": web})
    assert fetch_kinds(application, {"thing:1": None}, options, NOON, {"web"}) == {"web": FetchKind.BUILD}
    always = Application(project="app", services={"web": replace(web, pull_policy="always")})
    assert fetch_kinds(always, {"thing:1": None}, options, NOON, {"web"}) == {"web": FetchKind.PULL}


def test_a_service_that_uses_the_name_of_a_pulled_image_follows_it() -> None:
    services = {"web": replace(WEB, pull_policy="always"), "worker": replace(WEB, name="worker")}
    found = shared_fetches(Application(project="app", services=services), {"web": FetchKind.PULL})
    assert found == {"web": (FetchKind.PULL, ""), "worker": (FetchKind.PULL, "web")}


def test_a_tag_that_moved_changes_the_image() -> None:
    found = predict_pull(WEB, [HELD], HELD, RegistryAnswer(digest=NEW))
    assert found.changes == "image thing:1 moved in its registry (111111111111 to 222222222222)"
    assert predict_pull(WEB, [HELD], HELD, RegistryAnswer(digest=OLD)).changes == ""
    elsewhere = replace(HELD, digests=("gone.test/thing@sha256:" + "0" * 64, *HELD.digests))
    assert predict_pull(WEB, [elsewhere], elsewhere, RegistryAnswer(digest=NEW)).changes == found.changes


def test_a_container_of_an_older_image_changes_although_the_engine_holds_the_registrys() -> None:
    older = replace(HELD, digests=("thing@sha256:" + "0" * 64,))
    assert "000000000000" in predict_pull(WEB, [older], HELD, RegistryAnswer(digest=OLD)).changes


@pytest.mark.parametrize(
    ("held", "current"), [(HELD, True), (None, False), (replace(HELD, digests=(f"thing@{NEW}",)), False)]
)
def test_only_a_name_that_means_the_registrys_image_needs_no_pull(held: ImageFact | None, current: bool) -> None:
    assert predict_pull(WEB, [HELD], held, RegistryAnswer(digest=OLD)).current is current
    silent = predict_pull(WEB, [HELD], held, RegistryAnswer(problem="connection refused"))
    assert (silent.current, silent.here) == (False, held is not None)


def test_a_registry_that_cannot_be_asked_is_said_so_and_fails_no_plan() -> None:
    silent = predict_pull(WEB, [HELD], HELD, RegistryAnswer(problem="connection refused"))
    planned = plan(BOT, ALL_RUN, IMAGES, fetches={"web": silent})
    assert planned.changes == ()
    assert planned.service("web").note.endswith("because its registry could not be asked: connection refused")
    assert plan_id(planned) == plan_id(plan(BOT, ALL_RUN, IMAGES))


def test_a_changed_build_context_changes_the_image() -> None:
    assert predict_build("web", "b", "a").changes == "its build context changed"
    assert predict_build("web", "a", "a") == ImageFetch(service="web", kind=FetchKind.BUILD, settled=False)
    assert "no earlier build is on record" in predict_build("web", "a", None).note
    assert "is too large" in predict_build("web", None, "a", "is too large").note


def test_a_plan_replaces_a_service_whose_image_a_fetch_changes() -> None:
    moved = ImageFetch(service="web", kind=FetchKind.PULL, changes="image thing:1 moved", digest=NEW)
    planned = plan(BOT, ALL_RUN, IMAGES, fetches={"web": moved})
    assert [(line.service, line.action) for line in planned.changes] == [("web", PlannedAction.RECREATE)]
    assert planned.service("web").because == "image thing:1 moved"
    assert plan_id(planned) != plan_id(plan(BOT, ALL_RUN, IMAGES))


def test_a_plan_says_how_a_service_that_runs_is_interrupted() -> None:
    changed = seen_instead(container("bot", config_hash="b" * 64))
    planned = plan(BOT, changed, IMAGES, {"web": ["/etc/web.yml"]}, measured={"bot": [1.0, 9.0, 2.0]})
    assert planned.service("bot").interruption is Interruption.REPLACED
    assert (planned.service("bot").interruption_seconds, planned.service("bot").interruptions_measured) == (2.0, 3)
    assert planned.service("web").interruption is Interruption.RESTARTED
    assert planned.service("web").interruption_seconds is None
    assert planned.service("redis").interruption is Interruption.NONE


def test_a_service_that_does_not_run_is_not_interrupted() -> None:
    stopped = container("bot", config_hash="b" * 64, state="exited")
    assert plan(BOT, seen_instead(stopped), IMAGES).service("bot").interruption is Interruption.NONE


def test_a_replacement_that_only_the_fetched_image_shows_is_unplanned() -> None:
    planned, fetched = plan(BOT, ALL_RUN, IMAGES), plan(BOT, ALL_RUN, {"thing:1": NEW})
    assert unplanned_services(planned, fetched) == ("redis", "web", "migrate", "bot")
    assert unplanned_services(fetched, planned) == ()


def test_a_name_that_is_nearly_the_same_is_of_the_same_registry() -> None:
    names = ["roas/gallery:local", "localhost:5000/nginx:1", "localhost:5000/shop:1.0", "python:3.13"]
    assert similar_name("localhost:5000/ngnix:1", names) == "localhost:5000/nginx:1"
    assert similar_name("localhost:5000/shop:l.0", names) == "localhost:5000/shop:1.0"
    assert similar_name("roas/galery:local", names) == "roas/gallery:local"
    assert similar_name("example.org/nginx:1", names) == ""
    assert similar_name("postgres:17", names) == ""


@pytest.mark.parametrize(
    ("reference", "held", "similar"),
    [
        ("localhost/ngnix:1", "localhost/nginx:1", True),
        ("registry.test/ngnix:1", "registry.test/nginx:1", True),
        ("registry:5000/ngnix:1", "registry:5000/nginx:1", True),
        ("localhost/nginx:1", "localhosts/nginx:1", False),
        ("registry.test/nginx:1", "registry.testing/nginx:1", False),
        ("registry:5000/nginx:1", "registry:5001/nginx:1", False),
        ("postgres:17", "team/postgres:17", True),
        ("team/nginx:1", "teams/nginx:1", True),
    ],
)
def test_a_registry_is_localhost_or_a_name_with_a_dot_or_a_port_and_anything_else_part_of_the_path(
    reference: str, held: str, similar: bool
) -> None:
    assert similar_name(reference, [held]) == (held if similar else "")
