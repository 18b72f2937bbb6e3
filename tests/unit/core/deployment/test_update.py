"""Which services an update changes, and which images it does not take."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from core.deployment.plan import plan
from core.deployment.update import (
    last_failure_with,
    last_refusal,
    narrow_plan,
    not_tried_again,
    part_of,
    partial_template,
    refused_images,
    to_blame,
    update_scope,
)
from models.compose import Application, DependsOn, PlannedAction, ReleaseNote
from models.failures import BadInputError
from models.operations import Operation, OperationStatus, OperationType
from models.records import Release
from tests.unit.core.deployment.test_plan import ALL_RUN, BOT, IMAGES, application, container, seen_instead, service

FAILED = Release(
    release_id="r-2",
    environment="prod",
    deployment_id="prod-2",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    digests={"web": "shop/web@sha256:" + "a" * 64, "own": "sha256:" + "b" * 64},
)
AS_IT_IS = plan(BOT, ALL_RUN, IMAGES)


def test_an_update_of_a_service_changes_that_service() -> None:
    assert update_scope(BOT, AS_IT_IS, ["web"]) == {"web"}
    assert update_scope(BOT, AS_IT_IS, ["bot"]) == {"bot"}


def test_what_follows_a_service_is_updated_with_it() -> None:
    app = application(
        service("db"),
        service("web", depends_on={"db": DependsOn(restart=True)}),
        service("proxy", inside_of=("web",)),
        service("other", "db"),
    )
    planned = plan(app, [container(name) for name in app.services], IMAGES)
    assert update_scope(app, planned, ["db"]) == {"db", "web", "proxy"}


def test_a_service_that_needs_a_changed_one_is_not_updated_without_it() -> None:
    planned = plan(BOT, seen_instead(container("redis", config_hash="b" * 64)), IMAGES)
    with pytest.raises(BadInputError, match="bot depends on redis, which would have to be replaced first"):
        update_scope(BOT, planned, ["bot"])
    assert update_scope(BOT, planned, ["bot", "redis"]) == {"bot", "redis"}


def test_a_service_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BadInputError, match="nothing is not a service of app"):
        update_scope(BOT, AS_IT_IS, ["nothing"])


def test_services_outside_of_the_scope_are_kept() -> None:
    planned = plan(BOT, seen_instead(container("redis", config_hash="b" * 64)), IMAGES)
    assert planned.service("redis").action is PlannedAction.RECREATE
    assert narrow_plan(planned, {"web"}).changes == ()


def test_a_partial_update_tells_what_is_new_in_its_own_services_only() -> None:
    notes = tuple(ReleaseNote(service=name, text=f"{name}: 1 to 2") for name in ("web", "redis", "bot"))
    planned = replace(AS_IT_IS, release_notes=notes)
    assert [note.service for note in narrow_plan(planned, {"web", "bot"}).release_notes] == ["web", "bot"]
    assert narrow_plan(planned, {"migrate"}).release_notes == ()


def test_a_part_depends_on_nothing_outside() -> None:
    part = part_of(BOT, {"bot", "migrate"})
    assert set(part.services) == {"bot", "migrate"}
    assert set(part.services["bot"].depends_on) == {"migrate"}


def test_a_release_of_a_partial_update_has_the_others_as_they_run() -> None:
    last = replace(FAILED, compose={"services": {"db": {"image": "db:1"}, "web": {"image": "web:1"}}}, proven=True)
    now = {"services": {"db": {"image": "db:2"}, "web": {"image": "web:2"}, "new": {}}}
    kept = partial_template(now, last, ["db", "new"])
    assert kept == {"services": {"db": {"image": "db:1"}, "web": {"image": "web:2"}, "new": {}}}
    assert now["services"]["db"] == {"image": "db:2"}


def test_images_that_failed_are_refused_by_digest_and_by_id() -> None:
    refused = refused_images([FAILED], "prod")
    assert set(refused) == {"sha256:" + "a" * 64, "sha256:" + "b" * 64}
    assert "`roas update --lift aaaaaaaaaaaa prod`" in refused["sha256:" + "a" * 64]
    assert refused_images([replace(FAILED, digests={})], "prod") == {}


def test_a_build_that_failed_is_refused_by_how_it_was_built() -> None:
    files = {"build context of own": "fingerprint", "build context of web": "another", "/etc/web.yml": "content"}
    refused = refused_images([replace(FAILED, files=files)], "prod")
    assert refused["fingerprint"] == refused["sha256:" + "b" * 64]
    assert not {"another", "content"} & set(refused)


def test_the_failed_service_is_blamed_where_its_image_is_new() -> None:
    before = {"db": "1", "web": "1"}
    assert to_blame({"db": "2", "web": "2"}, before, "web") == ("web",)
    assert to_blame({"db": "2", "web": "1"}, before, "web") == ("db",)
    assert to_blame(before, before, "web") == ()
    assert to_blame({"web": "1"}, None, None) == ("web",)


def test_an_application_of_one_service_is_a_whole() -> None:
    alone = Application(project="app", services={"web": service("web")})
    assert part_of(alone, {"web"}) == alone


def ended(name: str, error: str | None = None, **details: str) -> Operation:
    facts = {"update": "all", "inputs": "a" * 16} | details | ({"error": error} if error else {})
    return Operation(
        deployment_id=name,
        operation_type=OperationType.START,
        environment="prod",
        status=OperationStatus.FAILED if error else OperationStatus.SUCCESS,
        started_at=datetime(2026, 1, 1, 2, tzinfo=UTC),
        ended_at=datetime(2026, 1, 1, 2, 1, tzinfo=UTC),
        details=facts,
    )


BROKEN = ended("prod-3", "StartFailedError", reason="web exited with code 3")


@pytest.mark.parametrize(
    ("operations", "failed"),
    [
        ([BROKEN], BROKEN),
        ([ended("prod-4", inputs="b" * 16), BROKEN], BROKEN),
        ([ended("prod-4"), BROKEN], None),
        ([ended("prod-3", "StartFailedError", inputs="b" * 16)], None),
        ([ended("prod-3", "ImageFetchError")], None),
        ([ended("prod-3", "GateRefusedError")], None),
        ([ended("prod-3", "OperationCancelledError"), BROKEN], None),
        ([], None),
    ],
    ids=["failed", "others since", "proven since", "changed", "registry", "gate", "cancelled since", "none"],
)
def test_an_update_with_the_inputs_that_failed_last_is_known(operations, failed) -> None:
    assert last_failure_with(operations, "a" * 16) is failed


def test_why_an_update_is_not_tried_again_names_the_failure_and_the_command() -> None:
    assert not_tried_again(BROKEN) == (
        "Nothing was updated: prod is unchanged since prod-3 failed on 2026-01-01 02:00 UTC (web exited with code 3). "
        "Correct it, or try it again: roas update prod"
    )


def test_a_refusal_for_the_same_reason_is_known_until_another_operation() -> None:
    refused = ended("prod-3", "ValidationFailedError", reason="TOKEN is not set", inputs="")
    assert last_refusal([refused], "TOKEN is not set") is refused
    assert last_refusal([refused], "PASSWORD is not set") is None
    assert last_refusal([ended("prod-4"), refused], "TOKEN is not set") is None
    assert last_refusal([], "TOKEN is not set") is None
