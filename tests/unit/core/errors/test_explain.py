"""The first cause of an operation's end, not what followed from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adapters.pattern_files import shipped_set
from core.errors.explain import explain as explain_by
from models.errors import Category, RecordedError, Strategy
from models.evidence import EvidenceOccasion, MemoryFinding, MemoryGrade
from models.operations import Operation, OperationStatus, OperationType, StateChange
from models.records import ErrorDetails, Explanation
from models.recovery import RecoveryExecution, Ticket, TicketState
from models.validation import Check, CheckSeverity, ValidationResult
from tests.integration.stores.values import BUNDLE, ERROR, TICKET
from tests.support.hook_runs import stored_run


def explain(
    operation: Operation,
    *,
    errors: Sequence[RecordedError] = (),
    tickets: Sequence[Ticket] = (),
    executions: Sequence[RecoveryExecution] = (),
    **records: Any,
) -> Explanation:
    """Explain it; tickets and attempts are of the first error."""
    of_first = ErrorDetails(error=UNKNOWN, impacts=(), executions=tuple(executions), tickets=tuple(tickets))
    failures = [replace(of_first, error=error) for error in errors[:1] or [UNKNOWN]]
    failures += [ErrorDetails(error=error, impacts=(), executions=(), tickets=()) for error in errors[1:]]
    return explain_by(operation, shipped_set(), failures=failures, **records)


NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)

FAILED = Operation(
    deployment_id="prod-1",
    operation_type=OperationType.START,
    environment="prod",
    status=OperationStatus.FAILED,
    started_at=NOON - 5 * SECOND,
    ended_at=NOON + 5 * SECOND,
    details={"reason": "web did not start: it ended with exit code 1", "advice": "look at its log"},
)
SUCCEEDED = replace(FAILED, status=OperationStatus.SUCCESS, details={"health": "healthy"})


UNKNOWN = replace(ERROR, service=None, evidence={}, verdict=replace(ERROR.verdict, category=Category.UNKNOWN))


def fell(service: str, at: datetime = NOON, reason: str = "it ended") -> StateChange:
    return StateChange(
        deployment_id="prod-1", service=service, previous_state=None, new_state="failed", changed_at=at, reason=reason
    )


def finding(name: str, severity: CheckSeverity = CheckSeverity.CRITICAL) -> Check:
    return Check(name=name, passed=False, severity=severity, finding=f"{name} is wrong", fix=f"mend {name}")


def test_the_evidence_of_the_root_service_says_what_failed_first_and_since_when() -> None:
    found = explain(FAILED, changes=[fell("web")], errors=[ERROR], bundles=[BUNDLE])

    assert found.headline == BUNDLE.first_cause
    assert (found.service, found.since) == ("web", NOON)
    assert [(line.source, line.text) for line in found.lines] == [
        ("health check", "refused"),
        ("log", "bind: address already in use"),
    ]
    assert found.consequences == ()


def test_data_that_may_have_changed_comes_first_with_the_command_that_puts_it_back() -> None:
    details = FAILED.details | {
        "data": "data may have changed: hook migrate ended well; snapshot s-1 was taken before",
        "snapshots": [{"id": "s-1"}],
        "undone": "rolled back to release r-1: 2 services are healthy",
    }
    found = explain(replace(FAILED, details=details), changes=[fell("web")], errors=[ERROR], bundles=[BUNDLE])

    assert found.tried[0] == details["data"]
    assert found.commands[0].endswith(": roas snapshot restore prod s-1")
    assert replace(SUCCEEDED, details=details).data_back == ""

    # A check of the version that is back has passed on the data, so what was written meanwhile is worth more.
    proven = explain(replace(FAILED, details=details | {"data_proven": True}), errors=[ERROR], bundles=[BUNDLE])
    assert proven.commands[0] == "look at its log"
    assert any(one.startswith("Only if") and one.endswith("restore prod s-1") for one in proven.commands)


def test_what_was_refused_before_anything_was_touched_is_begun_again_once_it_is_corrected() -> None:
    details = {
        "reason": "front: its configuration is not valid: x",
        "advice": "Correct that file.",
        "error": "ValidationFailedError",
    }
    ticket = replace(TICKET, steps=("Read its log: roas logs prod front", "Check that it is healthy: roas health prod"))

    found = explain(replace(FAILED, details=details), tickets=[ticket])

    assert found.headline == details["reason"]
    assert found.commands[:2] == ("Correct that file.", "roas start prod")
    assert not any("roas logs" in one for one in found.commands)


def test_a_failed_dependency_is_the_cause_and_the_named_service_a_consequence() -> None:
    container = replace(BUNDLE.containers[0], service="redis", finished_at=NOON - SECOND)
    log = replace(BUNDLE.logs[0], service="redis", lines=("2026-07-01T11:59:59Z Fatal error loading the DB",))
    bundle = replace(
        BUNDLE, cause_service="redis", first_cause="redis ended with exit code 1; web needs it",
        containers=(container, *BUNDLE.containers), logs=(log, *BUNDLE.logs),
    )  # fmt: skip

    found = explain(FAILED, changes=[fell("web")], errors=[ERROR], bundles=[bundle])

    assert (found.service, found.since) == ("redis", NOON - SECOND)
    assert [line.service for line in found.lines] == ["redis"]
    assert found.lines[0].text == "Fatal error loading the DB"
    assert found.consequences == (FAILED.details["reason"],)


def test_the_first_of_several_that_failed_is_the_cause_and_the_others_followed() -> None:
    other = replace(BUNDLE, bundle_id="ev2", service="bot", cause_service="bot", first_cause="bot ended")

    found = explain(FAILED, changes=[fell("bot", NOON + SECOND), fell("web")], bundles=[other, BUNDLE])

    assert found.service == "web"
    assert found.consequences == ("bot: it ended",)


def test_evidence_of_what_was_replaced_is_no_cause() -> None:
    found = explain(FAILED, errors=[ERROR], bundles=[replace(BUNDLE, occasion=EvidenceOccasion.REPLACEMENT)])

    assert found.headline == FAILED.details["reason"]
    assert found.lines == ()


def test_without_evidence_the_recorded_reason_is_given_and_when_the_service_failed() -> None:
    found = explain(FAILED, changes=[fell("web")])

    assert (found.headline, found.service, found.since) == (FAILED.details["reason"], "web", NOON)


def test_a_start_that_took_too_long_is_explained_by_the_earliest_failure_among_what_was_awaited() -> None:
    still = replace(BUNDLE.containers[0], state="running", exit_code=None, health="starting", service="bot")
    waiting = replace(
        BUNDLE, bundle_id="ev2", service="bot", cause_service="bot", containers=(still,), probes=(),
        taken_at=NOON - SECOND, first_cause="bot shows no failure of its own: it was running and starting",
    )  # fmt: skip
    slow = replace(FAILED, details={"reason": "prod did not start within 60 s, still awaited: bot, web"})

    assert explain(slow, bundles=[waiting, BUNDLE]).headline == BUNDLE.first_cause
    assert explain(slow, bundles=[waiting]).headline == slow.details["reason"]
    assert explain(slow, bundles=[waiting]).because[0] == waiting.first_cause


def test_a_validation_that_stopped_it_gives_its_findings_and_fixes() -> None:
    validation = ValidationResult(
        environment="prod",
        validated_at=NOON,
        checks=(finding("disk", CheckSeverity.WARNING), finding("ports"), finding("variables")),
    )

    found = explain(FAILED, validation=validation, bundles=[BUNDLE])

    assert found.headline == "Validation stopped it before anything was touched: ports is wrong"
    assert found.because == ("check variables: variables is wrong",)
    assert found.commands == ("mend ports", "mend variables", "roas validate prod", "roas start prod")


def test_an_interrupted_operation_says_how_far_it_came_and_how_to_go_on() -> None:
    details = {"interrupted": "interrupted after redis was proven; the runner is gone", "reason": "interrupted"}

    found = explain(replace(FAILED, details=details), bundles=[BUNDLE])

    assert found.headline == "It was interrupted after redis was proven; the runner is gone"
    assert found.commands[0] == "roas resume prod-1"


def test_an_interrupted_operation_that_was_refused_since_says_why() -> None:
    reason = "prod-web-1 is paused, so a start touches nothing"
    details = {
        "interrupted": "interrupted after redis was proven; it is gone",
        "reason": reason,
        "error": "PausedError",
    }

    found = explain(replace(FAILED, details=details), bundles=[BUNDLE])

    assert found.headline == (
        f"It was interrupted after redis was proven; it is gone. Resumed, it touched nothing: {reason}"
    )
    assert found.commands[0] == "roas resume prod-1"


def test_what_was_tried_is_the_undoing_and_each_recovery() -> None:
    tried = RecoveryExecution(
        error_id="e1", strategy=Strategy.RESTART_SERVICE, started_at=NOON, final_status="web was not well"
    )
    operation = replace(FAILED, details=FAILED.details | {"undone": "release r1 runs again and is proven"})

    found = explain(operation, errors=[ERROR], bundles=[BUNDLE], executions=[tried])

    assert found.tried == ("release r1 runs again and is proven", "restart_service: web was not well")


def test_an_update_is_called_an_update_and_asked_for_again_as_one() -> None:
    running = replace(FAILED, details=FAILED.details | {"asked": {"flow": "update"}})
    for operation in (running, replace(FAILED, details=FAILED.details | {"update": "all"})):
        found = explain(operation)
        assert found.operation == "update"
        assert "roas update prod" in found.commands
    of_some = {"asked": {"flow": "update", "parameters": {"environment": "prod", "services": ["web", "bot"]}}}
    assert replace(FAILED, details=of_some).again == "roas update prod web bot"
    assert replace(FAILED, details={"restore": "s-1"}).again == "roas snapshot restore prod"


def test_an_undoing_that_failed_is_not_hidden() -> None:
    operation = replace(FAILED, details=FAILED.details | {"rolled_back_to": "r1", "undo_failed": "no such image"})

    assert explain(operation).tried == ("rolled back to release r1", "undoing failed: no such image")


def test_the_steps_of_an_open_ticket_are_what_to_type() -> None:
    ticket = replace(TICKET, steps=("See the log: docker compose -p prod logs --tail 100 web", "b: c", "d: e", "f: g"))

    found = explain(FAILED, errors=[ERROR], tickets=[ticket])

    assert found.commands == (
        "look at its log",
        "See the log: docker compose -p prod logs --tail 100 web",
        "b: c",
        "roas start prod",
        "roas resolve t1 --note 'what fixed it'",
    )


def test_a_step_in_the_advice_is_not_repeated() -> None:
    operation = replace(FAILED, details={"advice": "look at its log: docker compose -p prod logs web"})
    ticket = replace(
        TICKET, steps=("See the log: docker compose -p prod logs --tail 100 web", "Start it: docker start web")
    )

    assert explain(operation, tickets=[ticket]).commands[1] == "Start it: docker start web"


def test_commands_that_inspect_removed_containers_are_not_advised() -> None:
    details = {"reason": "x", "advice": "look: docker compose -p prod logs web", "undone": "removed web"}
    ticket = replace(TICKET, steps=("See: docker compose -p prod ps --all web", "Correct what the message names."))

    found = explain(replace(FAILED, details=details), errors=[ERROR], tickets=[ticket], bundles=[BUNDLE])

    assert found.commands[:3] == (
        "Correct what the message names.",
        "See its evidence: roas why prod-1 --evidence",
        "roas start prod",
    )


def test_of_what_was_undone_a_command_shows_the_cause_before_one_asks_what_runs_now() -> None:
    ticket = replace(TICKET, steps=("Correct it: grep -nwF base shop.env", "See: roas top prod", "roas start prod"))

    found = explain(replace(FAILED, details={"undone": "x"}), errors=[ERROR], tickets=[ticket], bundles=[BUNDLE])

    kept = "See its evidence: roas why prod-1 --evidence"
    assert found.commands[:4] == (ticket.steps[0], kept, *ticket.steps[1:])
    assert found.commands.count(kept) == 1


def test_a_resolved_ticket_asks_for_nothing() -> None:
    found = explain(FAILED, tickets=[replace(TICKET, state=TicketState.RESOLVED)])

    assert found.commands == ("look at its log", "roas start prod")


def test_facts_beyond_the_headline_are_named() -> None:
    killed = replace(
        BUNDLE.containers[0],
        memory=MemoryFinding(grade=MemoryGrade.PROBABLE, sentence="probably killed"),
        restart_count=3,
    )

    found = explain(FAILED, errors=[ERROR], bundles=[replace(BUNDLE, containers=(killed,))])

    assert "prod-web-1: probably killed" in found.because
    assert "prod-web-1 was restarted 3 times by the engine" in found.because
    assert found.because[-1].startswith("judged port_conflict")


def test_a_judgement_that_says_only_that_it_ended_is_left_out() -> None:
    error = replace(ERROR, verdict=replace(ERROR.verdict, category=Category.CONTAINER_EXITED))

    assert explain(FAILED, errors=[error], bundles=[BUNDLE]).because == ()


def test_what_changed_is_given_as_it_is() -> None:
    assert explain(FAILED, release_changes=("web: another image",)).changed == ("web: another image",)


def test_a_success_says_so_and_where_its_time_went() -> None:
    found = explain(replace(SUCCEEDED, details={"health": "healthy", "critical_path": [["db", 6.25], ["bot", 2]]}))

    assert found.headline == "Nothing failed: it succeeded after 10.0 s, and the application was healthy."
    assert found.slow == ("the start waited for db 6.2 s, then bot 2.0 s",)


def test_without_a_critical_path_the_slowest_service_is_named() -> None:
    changes = [
        replace(fell(name), new_state="healthy", details={"took_seconds": took}) for name, took in (("a", 1), ("b", 3))
    ]

    assert explain(SUCCEEDED, changes=changes).slow == ("b took longest: 3.0 s",)


def test_a_success_names_what_failed_without_being_required() -> None:
    assert explain(SUCCEEDED, changes=[fell("extra")]).consequences == ("extra failed, and is not required: it ended",)


@pytest.mark.parametrize("status", [OperationStatus.RUNNING, OperationStatus.PENDING])
def test_what_has_not_ended_is_not_explained_away(status) -> None:
    assert "has not ended" in explain(replace(FAILED, status=status, ended_at=None)).headline


def test_what_validation_had_warned_of_stands_beside_the_cause() -> None:
    warning = CheckSeverity.WARNING
    checks = (
        replace(finding("mounted_configuration", warning), subject="web"),
        replace(finding("image", warning), subject="redis"),
        finding("interpolation", warning),
    )
    validation = ValidationResult(environment="prod", validated_at=NOON, checks=checks)

    found = explain(FAILED, validation=validation, changes=[fell("web")], bundles=[BUNDLE])

    warned = [fact for fact in found.because if fact.startswith("validation had warned: ")]
    assert [fact.partition(": ")[2] for fact in warned] == ["mounted_configuration is wrong", "interpolation is wrong"]


def test_what_ended_with_the_engine_is_reported_with_it() -> None:
    operation = replace(FAILED, details={"reason": "web: it ended with exit code 143; the engine went away meanwhile"})

    found = explain(operation, changes=[fell("web")], bundles=[BUNDLE])

    assert found.headline == f"The engine went away during it: {BUNDLE.first_cause}"


def test_an_action_that_lacked_a_fact_is_among_what_was_tried() -> None:
    lacking = "restart_service may not be done: web runs, and none of its checks fails."
    errors = [replace(ERROR, evidence={"left_alone": reason}) for reason in (lacking, "put off: it is busy")]

    assert explain(FAILED, errors=errors).tried == (lacking,)


def test_a_success_names_the_hooks_that_only_warned() -> None:
    ended = ((True, "hook a ended well"), (False, "hook b failed: exit code 4"))
    hooks = [stored_run(ok=ok, sentence=sentence) for ok, sentence in ended]
    found = explain(replace(SUCCEEDED, details={"hooks": hooks}))
    assert found.consequences == ("hook b failed: exit code 4, which fails no update",)


def test_a_failure_says_that_data_may_have_changed() -> None:
    said = "hooks that ran may have changed data"
    assert said in explain(replace(FAILED, details=FAILED.details | {"data": said})).tried


@pytest.mark.parametrize(
    ("more", "command"),
    [
        ({}, "roas plan prod"),
        ({"update": "all"}, "roas plan --update prod"),
        ({"source": {"revision": "1" * 40}}, "roas sync prod"),
    ],
)
def test_a_plan_that_changed_says_that_nothing_was_touched_and_how_to_see_the_new_one(
    more: dict[str, object], command: str
) -> None:
    reason = "Plan 1 is not what a start of prod would do now (plan 2): recreate web, its image is another"
    refused = replace(FAILED, details={"error": "PlanChangedError", "reason": reason} | more)

    found = explain(refused)

    assert found.headline == f"Nothing that runs was touched: {reason}"
    assert found.commands == (command,)


def test_a_gate_that_refused_is_the_cause_whatever_evidence_there_is() -> None:
    gate = {
        "outcome": "refused",
        "policies": [
            {"policy": "not-root", "outcome": "refused", "reason": "web: it would run as root"},
            {"policy": "age", "outcome": "warned", "reason": "it is young"},
        ],
        "scans": [{"outcome": "refused", "text": "web: 0 fixed, 1 new: CVE-2026-1 (high) in openssl 3"}],
    }
    refused = replace(FAILED, details=FAILED.details | {"gate": gate, "update": "all"})
    found = explain(refused, errors=[ERROR], bundles=[BUNDLE])

    assert found.headline == (
        "The gate refused the images before a container was touched: policy not-root: web: it would run as root"
    )
    assert found.because == (
        "web: 0 fixed, 1 new: CVE-2026-1 (high) in openssl 3",
        "it had warned too: it is young",
    )
    assert found.commands == ("roas gate prod", "roas update --override-gate REASON prod")
    synced = replace(refused, details=refused.details | {"source": {"revision": "1" * 40}})
    assert explain(synced).commands[1] == "roas sync --override-gate REASON prod"
    overridden = replace(FAILED, details=FAILED.details | {"gate": gate | {"outcome": "overridden"}})
    assert explain(overridden, errors=[ERROR], bundles=[BUNDLE]).headline == BUNDLE.first_cause
