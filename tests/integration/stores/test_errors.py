"""errors.db keeps failures, their causes, and what was done about them."""

from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import TypeAdapter

from adapters.stores import Stores
from models.analysis import ActionOutcomes
from models.containers import SystemSample
from models.errors import (
    SAID,
    BusinessImpact,
    Category,
    Impact,
    ImpactType,
    Strategy,
)
from models.failures import NotFoundError, StoreConstraintError
from models.notifications import SentNotifications
from models.recovery import Choice, RecoveryExecution, RecoveryStep, TicketEntry, TicketState
from tests.integration.stores.values import BUNDLE, ERROR, NOON, TICKET

MINUTE = timedelta(minutes=1)


def test_an_error_is_given_back_as_it_was_recorded(stores: Stores) -> None:
    assert stores.errors.record(ERROR) == ERROR
    assert stores.errors.get("e1") == ERROR
    with pytest.raises(NotFoundError):
        stores.errors.get("e2")


def test_the_same_cause_seen_again_counts_up(stores: Stores) -> None:
    stores.errors.record(replace(ERROR, predictive=True))
    again = stores.errors.record(replace(ERROR, error_id="e2", first_seen=NOON + MINUTE, last_seen=NOON + MINUTE))
    assert (again.error_id, again.count, again.last_seen, again.predictive) == ("e1", 2, NOON + MINUTE, False)
    assert len(stores.errors.list_unresolved("prod")) == 1


def test_the_last_failure_of_each_service_is_found(stores: Stores) -> None:
    def fail(error_id: str, minutes: int, **change: object) -> None:
        at = NOON + minutes * MINUTE
        stores.errors.record(replace(ERROR, error_id=error_id, first_seen=at, last_seen=at, **change))

    fail("e1", 0, service="web")
    stores.errors.resolve("e1", NOON, "it came back")
    fail("e2", 3, service="web")
    fail("e3", 1, service="db")
    fail("e4", 9, service="db", predictive=True, verdict=replace(ERROR.verdict, category=Category.TIMEOUT))
    fail("e5", 9, service="web", environment="dev")
    fail("e6", 9, service=None)

    assert stores.errors.last_failures("prod") == {"web": NOON + 3 * MINUTE, "db": NOON + MINUTE}
    assert stores.errors.last_failures("test") == {}


def test_recording_the_same_error_again_changes_nothing(stores: Stores) -> None:
    stores.errors.record(ERROR)
    assert stores.errors.record(ERROR).count == 1


@pytest.mark.parametrize(
    "change",
    [
        {"environment": "dev"},
        {"service": "bot"},
        {"verdict": replace(ERROR.verdict, category=Category.TIMEOUT)},
        {"verdict": replace(ERROR.verdict, template="<n> in use")},
    ],
)
def test_another_cause_is_another_error(stores: Stores, change) -> None:
    stores.errors.record(ERROR)
    assert stores.errors.record(replace(ERROR, error_id="e2", **change)).error_id == "e2"


def test_a_cause_that_comes_back_after_it_was_resolved_is_a_new_error(stores: Stores) -> None:
    stores.errors.record(ERROR)
    assert stores.errors.resolve("e1", NOON + MINUTE, "port freed")
    assert not stores.errors.resolve("e1", NOON + MINUTE, "port freed")
    assert stores.errors.record(replace(ERROR, error_id="e2")).error_id == "e2"
    assert [one.error_id for one in stores.errors.latest("prod")] == ["e2", "e1"]
    assert stores.errors.get("e1").resolved_at == NOON + MINUTE


def test_impacts_and_executions_belong_to_their_error(stores: Stores) -> None:
    impact = Impact(
        impact_type=ImpactType.SERVICE_DOWN,
        affected_services=("web",),
        estimated_recovery_seconds=60,
        business_impact=BusinessImpact.HIGH,
    )
    begun = RecoveryExecution(
        attempt_id="e1-1",
        error_id="e1",
        strategy=Strategy.FREE_PORT,
        started_at=NOON,
        environment="prod",
        service="web",
    )
    with pytest.raises(StoreConstraintError, match=r"(?i)foreign key"):
        stores.errors.add_impact("e1", impact, NOON)
    stores.errors.record(ERROR)
    stores.errors.add_impact("e1", impact, NOON)
    assert stores.errors.impacts("e1") == [impact]
    stores.recoveries.record(begun)
    assert stores.recoveries.find("e1") == [begun]
    step = RecoveryStep(name="stop", target="web", ok=True, detail="", started_at=NOON, ended_at=NOON + MINUTE)
    ended = replace(begun, ended_at=NOON + MINUTE, success=True, steps=(step,), final_status="recovered")
    stores.recoveries.record(ended)
    assert stores.recoveries.find(environment="prod", since=NOON) == [ended]
    assert stores.recoveries.find(environment="prod", since=NOON + MINUTE) == []
    assert stores.recoveries.find(environment="dev") == []
    assert stores.recoveries.latest("prod", NOON, 1) == [ended]
    assert stores.recoveries.latest("dev", NOON, 1) == []


def test_recoveries_are_counted_by_what_was_tried_against_what(stores: Stores) -> None:
    stores.errors.record(ERROR)
    tried = RecoveryExecution(error_id="e1", strategy=Strategy.FREE_PORT, started_at=NOON)
    for place, success in enumerate((True, True, False, None)):
        stores.recoveries.record(replace(tried, attempt_id=f"e1#{place}", success=success))
    stores.recoveries.record(replace(tried, attempt_id="e1#9", strategy=Strategy.RESTART_SERVICE, success=True))

    assert stores.recoveries.outcomes("prod", NOON) == [
        ActionOutcomes(strategy="free_port", cause="port_conflict", helped=2, failed=1, running=1),
        ActionOutcomes(strategy="restart_service", cause="port_conflict", helped=1, failed=0, running=0),
    ]
    assert stores.recoveries.outcomes("prod", NOON + MINUTE) == []
    assert stores.recoveries.outcomes("dev", NOON) == []


def test_one_cause_has_one_ticket(stores: Stores) -> None:
    stores.errors.record(ERROR)
    assert stores.tickets.open(TICKET) == TICKET
    stores.errors.resolve("e1", NOON, "?")
    stores.errors.record(replace(ERROR, error_id="e2"))
    later = replace(TICKET, ticket_id="t2", error_id="e2", tried=("recreate",), opened_at=NOON + MINUTE)
    same = stores.tickets.open(later)
    assert same.ticket_id == "t1"
    assert same.tried == ("restart", "recreate")
    assert same.history[-1].what == f"seen again: {TICKET.title}"
    assert len(stores.tickets.find(TicketState.OPEN, "prod")) == 1


def test_each_ticket_is_found_with_its_own_history_and_with_its_error(stores: Stores) -> None:
    for number in (1, 2):
        verdict = replace(ERROR.verdict, category=Category.UNKNOWN, template=f"words {number}")
        stores.errors.record(replace(ERROR, error_id=f"e{number}", verdict=verdict))
        opened = replace(TICKET, ticket_id=f"t{number}", error_id=f"e{number}", opened_at=NOON + number * MINUTE)
        stores.tickets.open(opened)
    stores.tickets.set_waiting_run("t1", "run-1", TicketEntry(at=NOON + 3 * MINUTE, by="roas", what="waits"))
    stores.errors.resolve("e2", NOON + 4 * MINUTE, "?")

    found = stores.tickets.find(environment="prod")
    assert [(ticket.ticket_id, [line.what for line in ticket.history]) for ticket in found] == [
        ("t2", ["opened"]),
        ("t1", ["opened", "waits"]),
    ]
    reported = stores.error_notifications.reported_errors("prod", NOON + 5 * MINUTE)
    assert [(cause.error.error_id, cause.ticket and cause.ticket.ticket_id) for cause in reported] == [("e1", "t1")]


def test_what_a_ticket_waits_for_is_noted_once(stores: Stores) -> None:
    stores.errors.record(ERROR)
    stores.tickets.open(TICKET)
    for run, minutes in (("run-1", 1), ("run-2", 2)):
        left = TicketEntry(at=NOON + minutes * MINUTE, by="roas", what="Retry repeats the failed step")
        stores.tickets.set_waiting_run("t1", run, left)

    ticket = stores.tickets.get("t1")
    assert (ticket.flow_run_id, [line.at for line in ticket.history]) == ("run-2", [NOON, NOON + MINUTE])


def test_while_a_ticket_is_open_the_same_category_in_other_words_is_the_same_cause(stores: Stores) -> None:
    in_other_words = replace(ERROR.verdict, template="bind: address <n>", pattern_name="bind")
    stores.errors.record(ERROR)
    stores.errors.record(replace(ERROR, error_id="e2", verdict=in_other_words))
    stores.errors.record(replace(ERROR, error_id="e3", service="other"))
    stores.tickets.open(TICKET)
    assert stores.tickets.open(replace(TICKET, ticket_id="t2", error_id="e2")).ticket_id == "t1"
    assert stores.tickets.open(replace(TICKET, ticket_id="t3", error_id="e3")).ticket_id == "t3"

    by_hand = TicketEntry(at=NOON, by="anna", what="port freed")
    stores.tickets.answer(stores.tickets.get("t1"), Choice.RESOLVED, by_hand)
    assert [one.error_id for one in stores.errors.list_unresolved()] == ["e3"]
    assert stores.tickets.open(replace(TICKET, ticket_id="t4", error_id="e2")).ticket_id == "t4"


@pytest.mark.parametrize(
    ("categories", "tickets"),
    [
        ((Category.PORT_CONFLICT, Category.HEALTHCHECK_FAILED), ["t0", "t0"]),
        ((Category.CONTAINER_EXITED, Category.PORT_CONFLICT), ["t0", "t0"]),
        ((Category.PORT_CONFLICT, Category.DISK_FULL), ["t0", "t1"]),
    ],
)
def test_while_a_ticket_is_open_how_its_service_fails_is_no_cause_of_its_own(
    stores: Stores, categories, tickets
) -> None:
    asked = []
    for number, category in enumerate(categories):
        stores.errors.record(replace(ERROR, error_id=f"e{number}", verdict=replace(ERROR.verdict, category=category)))
        ticket = stores.tickets.open(replace(TICKET, ticket_id=f"t{number}", error_id=f"e{number}"))
        asked.append(ticket.ticket_id)
    assert asked == tickets


def test_two_failures_whose_logs_show_different_causes_are_two_errors_with_a_ticket_each(stores: Stores) -> None:
    crash = replace(ERROR, verdict=replace(ERROR.verdict, category=Category.CONTAINER_EXITED))
    licence = replace(crash, evidence={SAID: "no licence found"})
    handles = replace(crash, error_id="e2", evidence={SAID: "out of handles"})
    assert stores.errors.record(licence).error_id == "e1"
    assert stores.errors.record(handles).error_id == "e2"
    assert stores.errors.record(replace(licence, error_id="e3")).error_id == "e1"
    stores.tickets.open(TICKET)
    other = stores.tickets.open(replace(TICKET, ticket_id="t2", error_id="e2"))
    assert other.ticket_id == "t2"
    stores.tickets.answer(other, Choice.RESOLVED, TicketEntry(at=NOON, by="ann", what="more handles"))
    assert [one.error_id for one in stores.errors.list_unresolved("prod")] == ["e1"]


def test_unknown_causes_have_a_ticket_each(stores: Stores) -> None:
    unknown = replace(ERROR.verdict, category=Category.UNKNOWN)
    for number in (1, 2):
        verdict = replace(unknown, template=f"words {number}")
        stores.errors.record(replace(ERROR, error_id=f"e{number}", verdict=verdict))
        asked = replace(TICKET, ticket_id=f"t{number}", error_id=f"e{number}")
        assert stores.tickets.open(asked).ticket_id == f"t{number}"


def test_a_resolved_ticket_of_a_cause_that_comes_back_is_opened_again(stores: Stores) -> None:
    stores.errors.record(ERROR)
    stores.tickets.open(TICKET)
    done = TicketEntry(at=NOON, by="anna", what="port freed")
    stores.tickets.resolve_for_error("e1", done)
    again = stores.tickets.open(replace(TICKET, ticket_id="t2", opened_at=NOON + MINUTE))
    assert (again.ticket_id, again.state, again.resolved_at) == ("t1", TicketState.OPEN, None)


def test_a_ticket_for_no_error_is_refused(stores: Stores) -> None:
    with pytest.raises(StoreConstraintError):
        stores.tickets.open(TICKET)


@pytest.mark.parametrize(("environment", "service"), [(None, None), ("prod", None), ("prod", "web")])
def test_recovery_is_paused_for_what_was_named(stores: Stores, environment, service) -> None:
    stores.pauses.pause(environment, service, NOON + MINUTE, "maintenance", "anna", NOON)
    [pause] = stores.pauses.active(NOON)
    assert (pause.environment, pause.service) == (environment, service)
    assert stores.pauses.active(NOON + MINUTE) == []
    assert stores.pauses.resume(environment, service)
    assert stores.pauses.active(NOON) == []


def test_evidence_is_given_back_as_it_was_kept_and_kept_once(stores: Stores) -> None:
    stores.evidence.keep(BUNDLE)
    stores.evidence.keep(replace(BUNDLE, reason="again"))
    assert stores.evidence.find(deployment_id="prod-1") == [BUNDLE]
    assert stores.evidence.find(deployment_id="prod-2") == []


def test_evidence_of_a_host_whose_processor_time_was_not_taken_yet_is_read() -> None:
    host = SystemSample(
        sampled_at=NOON, cpu_busy_seconds=5, load_1m=1, load_5m=1, load_15m=1, cpus=2, memory_total_bytes=1,
        memory_available_bytes=1, swap_used_bytes=0, disk_total_bytes=1, disk_free_bytes=1, inodes_total=1,
        inodes_free=1, network_rx_bytes=0, network_tx_bytes=0, open_files_limit=1,
    )  # fmt: skip
    kept = TypeAdapter(SystemSample).dump_python(host, mode="json")
    del kept["cpu_busy_seconds"]

    assert TypeAdapter(SystemSample).validate_python(kept) == replace(host, cpu_busy_seconds=0.0)


def test_evidence_is_linked_to_its_error_both_ways(stores: Stores) -> None:
    stores.errors.record(ERROR)
    stores.evidence.keep(BUNDLE)
    stores.evidence.link(["ev1"], "e1")
    assert stores.evidence.find(error_id="e1") == [replace(BUNDLE, error_id="e1")]
    assert stores.errors.get("e1").evidence == {**ERROR.evidence, "bundles": ["ev1"]}


def test_evidence_of_no_error_is_not_linked(stores: Stores) -> None:
    stores.evidence.keep(BUNDLE)
    with pytest.raises(StoreConstraintError):
        stores.evidence.link(["ev1"], "never")


def test_an_error_seen_again_and_again_keeps_its_first_evidence_and_the_latest(stores: Stores) -> None:
    stores.errors.record(ERROR)
    for number in range(20):
        bundle = replace(BUNDLE, bundle_id=f"ev{number:02d}", taken_at=NOON + number * MINUTE)
        stores.evidence.keep(bundle)
        stores.evidence.link([bundle.bundle_id], "e1")
    kept = [bundle.bundle_id for bundle in stores.evidence.find(error_id="e1")]
    assert kept == ["ev00", *(f"ev{number:02d}" for number in range(9, 20))]
    assert stores.errors.get("e1").evidence["bundles"] == kept


def test_a_ticket_names_the_latest_evidence(stores: Stores) -> None:
    stores.errors.record(ERROR)
    stores.tickets.open(replace(TICKET, evidence=("ev1",)))
    assert stores.tickets.open(replace(TICKET, ticket_id="t2")).evidence == ("ev1",)
    assert stores.tickets.open(replace(TICKET, ticket_id="t3", evidence=("ev2",))).evidence == ("ev2",)


def test_what_people_were_reported_is_claimed_once(stores: Stores) -> None:
    stores.errors.record(ERROR)
    stores.tickets.open(TICKET)
    (cause,) = stores.error_notifications.reported_errors(ERROR.environment, NOON)
    assert (cause.error.error_id, cause.reported) == ("e1", SentNotifications())
    assert cause.ticket is not None
    once = SentNotifications(times=1, last_at=NOON)

    assert stores.error_notifications.mark_sent("e1", SentNotifications(), once)
    assert not stores.error_notifications.mark_sent("e1", SentNotifications(), once)
    assert stores.error_notifications.reported_errors(ERROR.environment, NOON)[0].reported == once

    over = replace(once, end_at=NOON + MINUTE)
    assert stores.error_notifications.mark_sent("e1", once, over)
    assert not stores.error_notifications.mark_sent("e1", once, over)


def test_causes_that_were_over_long_ago_are_not_asked_for(stores: Stores) -> None:
    stores.errors.record(ERROR)
    stores.errors.resolve("e1", NOON, "mended")
    assert [cause.resolution for cause in stores.error_notifications.reported_errors(ERROR.environment, NOON)] == [
        "mended"
    ]
    assert stores.error_notifications.reported_errors(ERROR.environment, NOON + MINUTE) == []
    assert stores.error_notifications.reported_errors("another", NOON) == []
