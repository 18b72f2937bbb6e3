"""What hooks of an update mean: words, interruptions, and what a failed one says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from core.deployment.hooks import (
    AfterInterruption,
    container_name,
    data_warning,
    decide_after_interruption,
    describe,
    failure,
    last_lines,
    left_behind,
    not_running,
    planned_hooks,
    proof_of_rollback,
    proves_data,
    unknown_services,
)
from core.deployment.plan import plan, plan_id
from core.deployment.update import hook_images, narrow_plan
from models.hooks import Hook, Hooks
from models.operations.record import HookRun, SnapshotRecord
from tests.unit.core.deployment.test_plan import BOT, IMAGES, application, container, seen_instead, service


def hook(**fields: Any) -> Hook:
    return Hook.model_validate({"name": "migrate"} | (fields or {"service": "migrate"}))


RUN = HookRun(
    name="migrate",
    when="before",
    does="one-off container of migrate",
    service="migrate",
    began_at=datetime(2026, 1, 1, tzinfo=UTC),
    took_seconds=2,
    ok=False,
    exit_code=3,
)
HOOKS = Hooks.model_validate(
    {
        "before": [{"name": "migrate", "service": "migrate"}],
        "after": [
            {"name": "smoke", "exec": {"service": "web", "command": ["curl", "-f", "http://localhost/a b"]}},
            {"name": "canary", "canary": {"minutes": 10}},
        ],
    }
)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"service": "migrate"}, "one-off container of migrate"),
        ({"service": "web", "command": ["manage", "migrate"]}, "one-off container of web with `manage migrate`"),
        ({"exec": {"service": "web", "command": ["curl", "a b"]}}, "`curl 'a b'` in web"),
        ({"command": ["/bin/warm"]}, "`/bin/warm` on this machine"),
        ({"canary": {"minutes": 10}}, "canary of 10 min"),
        ({"canary": {"minutes": 0.5}}, "canary of 30 s"),
    ],
)
def test_what_a_hook_does_in_words(fields: dict[str, Any], said: str) -> None:
    assert describe(hook(**fields)) == said


@pytest.mark.parametrize(
    ("fields", "begun", "there", "decision"),
    [
        ({}, False, False, AfterInterruption.RUN),
        ({}, True, True, AfterInterruption.TAKE_UP),
        ({}, True, False, AfterInterruption.REFUSE),
        ({"service": "migrate", "again": True}, True, False, AfterInterruption.RUN),
        ({"service": "migrate", "again": True}, True, True, AfterInterruption.TAKE_UP),
        # Nothing is done twice by observing again.
        ({"canary": {"minutes": 1}}, True, False, AfterInterruption.RUN),
    ],
)
def test_what_becomes_of_an_interrupted_hook(
    fields: dict[str, Any], begun: bool, there: bool, decision: AfterInterruption
) -> None:
    assert decide_after_interruption(hook(**fields), begun=begun, container_there=there) is decision


def test_hooks_are_part_of_a_plan_that_changes_something() -> None:
    changes = plan(BOT, seen_instead(container("redis", config_hash="b" * 64)), IMAGES)
    with_hooks = replace(changes, hooks=planned_hooks(HOOKS))
    assert [(one.when, one.name) for one in with_hooks.hooks] == [
        ("before", "migrate"),
        ("after", "smoke"),
        ("after", "canary"),
    ]
    assert plan_id(with_hooks) != plan_id(changes)
    assert narrow_plan(with_hooks, {"redis"}).hooks == with_hooks.hooks
    assert narrow_plan(with_hooks, {"web"}).hooks == ()


def test_services_that_hooks_name_and_that_do_not_exist() -> None:
    assert unknown_services(HOOKS, {"web", "migrate"}, {"web"}) == {}
    assert unknown_services(HOOKS, {"web"}, {"web"}) == {
        "migrate": "hook migrate names migrate, which is no service of the Compose files"
    }
    assert "profile is not switched on" in unknown_services(HOOKS, {"web", "migrate"}, {"db"})["smoke"]


def test_a_one_off_container_needs_what_its_service_depends_on() -> None:
    app = application(service("db"), service("job", one_shot=True), service("migrate", "db", "job"))
    assert not_running(hook(), app, {"db"}) == ()
    assert not_running(hook(), app, set()) == ("db",)


def test_containers_of_other_operations_are_left_behind() -> None:
    name = container_name("app", "migrate", "app-1")
    other = container_name("app", "migrate", "app-2")
    seen = [
        replace(container("migrate", one_off=True), name=name),
        replace(container("migrate", one_off=True), name=other),
        # A service may be named hook.
        replace(container("hook"), name="app-hook-1"),
        replace(container("web", one_off=True), name="app-web-run-1"),
    ]
    assert [one.name for one in left_behind("app", seen, "app-1")] == [other]


def test_a_failed_hook_stands_for_the_images_that_it_shares() -> None:
    everything = application(service("web", image="shop:2"), service("db"), service("migrate", image="shop:2"))
    app = application(service("web", image="shop:2"), service("db"))
    assert hook_images(app, everything, hook(), ["db", "web"]) == ("web",)
    assert hook_images(app, everything, hook(service="db"), ["web"]) == ("web",)
    assert hook_images(app, None, hook(command=["x"]), ["db", "web"]) == ("db", "web")


def test_the_sentence_of_a_failure_has_the_line_that_shows_it() -> None:
    assert failure(RUN, "relation users exists") == (
        'hook migrate failed (one-off container of migrate): it ended with exit code 3; it said "relation users exists"'
    )
    late = RUN.model_copy(update={"problem": "did not end within 5 s, and was stopped", "exit_code": 143})
    assert failure(late).endswith("it did not end within 5 s, and was stopped")


def test_the_last_lines_are_bounded() -> None:
    lines = last_lines("\n".join(f"line {number}" for number in range(100)) + "\n\n\n")
    assert (lines[0], lines[-1], len(lines)) == ("line 80", "line 99", 20)
    assert len(last_lines("x" * 10_000)[0]) == 400
    assert last_lines("2026-11-27T21:01:14.478547208Z tool 2\n", stamped=True) == ("tool 2",)


def test_data_may_have_changed_once_a_hook_had_begun() -> None:
    assert data_warning([], []) == ""
    assert "hook migrate had begun" in data_warning([], ["migrate"])
    said = data_warning([RUN], ["migrate"])
    assert "hook migrate ended with exit code 3" in said
    assert "no snapshot was taken" in said
    assert data_warning([RUN], ["migrate"], [SnapshotRecord(id="s-1")]).endswith("; snapshot s-1 was taken before")


def test_a_snapshot_of_an_update_tells_that_its_containers_may_have_changed_data() -> None:
    said = data_warning([], [], [SnapshotRecord(id="s-1")])
    assert said == "data may have changed: the new version may have used it; snapshot s-1 was taken before"


def test_commands_check_a_release_that_is_back_and_one_off_containers_only_if_their_hook_says_so() -> None:
    migrate = {"name": "contract", "service": "migrate"}
    smoke, canary = HOOKS.model_dump(exclude_none=True)["after"]
    found = Hooks.model_validate({"after": [migrate, smoke, canary]})
    assert [one.name for one in found.rollback_hooks] == ["smoke"]
    changed = {"after": [migrate | {"after_rollback": True}, smoke | {"after_rollback": False}]}
    assert [one.name for one in Hooks.model_validate(changed).rollback_hooks] == ["contract"]
    for wrong in ({"before": [migrate | {"after_rollback": True}]}, {"after": [canary | {"after_rollback": True}]}):
        with pytest.raises(ValueError, match="after_rollback is for hooks"):
            Hooks.model_validate(wrong)


def test_a_rollback_is_proven_only_where_no_check_is_left_out() -> None:
    smoke = RUN.model_copy(update={"name": "smoke", "ok": True, "exit_code": 0})
    bad = RUN.model_copy(
        update={"name": "smoke", "sentence": "hook smoke failed (`curl` in web): it ended with exit code 22"}
    )
    proof = partial(proof_of_rollback, 10)
    assert proof(Hooks(), (), data_changed=False) == "10 services proven"
    assert proof(HOOKS, (smoke,), data_changed=True) == "10 services proven, also by hook smoke"
    assert proof(HOOKS, (bad,), data_changed=True) == (
        "10 services are healthy, but not proven: hook smoke failed (`curl` in web): it ended with exit code 22"
    )
    warned = bad.model_copy(update={"name": "warm", "warns": True})
    assert proof(HOOKS, (smoke, warned), data_changed=False) == "10 services proven, also by hook smoke"
    assert "not proven: hook smoke failed" in proof(HOOKS, (warned,), data_changed=False)
    assert proof(HOOKS, None, data_changed=False).endswith("not proven: hook smoke did not run again")
    assert "not proven: no hook checked them on the data" in proof(Hooks(), (), data_changed=True)


def test_data_is_proven_by_all_checks_of_what_is_back_and_by_none_after_a_migration() -> None:
    passed, failed = RUN.model_copy(update={"ok": True, "exit_code": 0}), RUN.model_copy(update={"ok": False})

    assert proves_data((passed, passed), ())
    assert not proves_data((passed, failed), ())
    assert not proves_data((), ())
    assert not proves_data(None, ())
    assert not proves_data((passed,), ("migrate",))
