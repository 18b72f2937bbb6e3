"""Runs of schedules in real stores: claimed once, judged, reported once, ended by the next success."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from adapters.host.processes import this_process
from adapters.stores import Stores
from core.runtime.clock import read_times
from core.runtime.scheduled import SOURCE, later_due, report_run, run_id
from flows.schedules.judge import judge_schedules
from models.environments import Environment
from models.recovery import TicketState
from models.scheduled_runs import ScheduledRun, ScheduledState
from models.schedules import Schedule
from tasks.runtime.stores import open_stores
from tasks.schedules.runs import claim_run, end_badly, end_well, goes_on, read_schedules
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = pytest.mark.usefixtures("tasks_make_no_runs")

BEGAN = datetime(2026, 12, 1, tzinfo=UTC)
HOURLY = Schedule(run="drift", at="every hour", late_minutes=10)
GONE = replace(this_process(), pid=2**22, process_started=1)
ELSEWHERE = replace(this_process(), kernel="another machine")


@pytest.fixture(autouse=True)
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stores:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path))
    return open_stores()


def declared(schedule: Schedule = HOURLY) -> Environment:
    return Environment(
        name="prod", project="prod", compose_files=(Path("compose.yaml"),), schedules={"hourly": schedule}
    )


def run(due: datetime, schedule: Schedule = HOURLY, **fields: object) -> ScheduledRun:
    made = ScheduledRun(
        run_id=run_id("prod", "hourly", due),
        environment="prod",
        schedule="hourly",
        due_at=due,
        at=schedule.at,
        state=ScheduledState.RUNNING,
        began_at=due,
        attempts=1,
        runner=this_process(),
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def at(hours: float) -> datetime:
    return BEGAN + timedelta(hours=hours)


def states(stores: Stores) -> list[tuple[float, str]]:
    runs = stores.scheduled_runs.latest("prod", "hourly", 100)
    return [((one.due_at - BEGAN).total_seconds() / 3600, str(one.state)) for one in reversed(runs)]


def open_tickets(stores: Stores) -> list[str]:
    return [ticket.title for ticket in stores.tickets.find(TicketState.OPEN)]


async def test_of_many_that_claim_a_run_one_gets_it(stores: Stores) -> None:
    due = run(at(1))
    won = await asyncio.gather(*(claim_run(replace(due, flow_run_id=str(number))) for number in range(8)))
    assert Counter(won) == {True: 1, False: 7}
    assert states(stores) == [(1, "running")]


async def test_what_is_missed_is_reported_once_and_may_still_be_made_up_for(stores: Stores) -> None:
    assert await judge_schedules(declared(), at(0)) == []
    assert await judge_schedules(declared(), at(1.1)) == [], "it is not late yet"
    found = await judge_schedules(declared(), at(3.2))
    again = await judge_schedules(declared(), at(3.3))

    assert [(one.due_at, one.text) for one in found] == [
        (at(3), "it did not begin within 10 minutes, nor did the 2 before it")
    ]
    assert again == []
    assert states(stores) == [(0, "declared"), (3, "missed")]
    assert open_tickets(stores) == [
        "Schedule hourly, due at 2026-12-01 03:00 UTC: it did not begin within 10 minutes, nor did the 2 before it"
    ]

    late = run(at(3), began_at=at(3.5))
    assert await claim_run(late)
    assert await end_well(replace(late, state=ScheduledState.SUCCEEDED, ended_at=at(3.6), text="done"))
    assert states(stores) == [(0, "declared"), (3, "succeeded")]
    assert open_tickets(stores) == []
    assert stores.errors.list_unresolved("prod") == []


async def test_a_run_whose_process_was_killed_has_failed_and_that_is_reported(stores: Stores) -> None:
    await judge_schedules(declared(), at(0))
    for due, runner in ((1, GONE), (2, this_process()), (3, ELSEWHERE)):
        assert await claim_run(run(at(due), runner=runner))
    (found,) = await judge_schedules(declared(), at(3.01))
    assert (found.due_at, found.text) == (at(1), "its process was ended before it was done")
    assert states(stores)[1:] == [(1, "failed"), (2, "running"), (3, "running")]
    assert len(open_tickets(stores)) == 1
    # Its end is on record: what it would still say does not count.
    assert not await end_well(replace(run(at(1)), state=ScheduledState.SUCCEEDED, ended_at=at(4)))
    assert not await end_badly(replace(run(at(1)), state=ScheduledState.FAILED, ended_at=at(4)), None)


def test_a_run_of_another_machine_counts_as_ended_long_after_its_limit() -> None:
    limited = Schedule(run="drift", at="every hour", limit_minutes=30, retries=1)
    elsewhere = run(at(1), limited, runner=ELSEWHERE)
    assert goes_on(elsewhere, limited, at(2))
    assert not goes_on(elsewhere, limited, at(2.2))
    assert goes_on(elsewhere, HOURLY, at(20))
    assert not goes_on(elsewhere, HOURLY, at(26))


async def test_failures_of_one_schedule_are_one_ticket_until_it_succeeds(stores: Stores) -> None:
    for hour in (1, 2, 3):
        failed = run(at(hour), state=ScheduledState.RUNNING)
        assert await claim_run(failed)
        ended = replace(failed, state=ScheduledState.FAILED, ended_at=at(hour + 0.1), text=f"disk {hour} is full")
        assert await end_badly(ended, report_run(ended, HOURLY, at(hour + 0.1)))
    (error,) = stores.errors.list_unresolved("prod")
    assert (error.count, error.source, error.service) == (3, SOURCE, "schedule hourly")
    (ticket,) = stores.tickets.find(TicketState.OPEN)
    said = [entry.what.removeprefix("again: Schedule hourly, due at ") for entry in ticket.history]
    assert [one.partition(" UTC: ")[2] or one for one in said] == ["opened", "disk 2 is full", "disk 3 is full"]

    idle = run(at(4))
    assert await claim_run(idle)
    assert await end_well(replace(idle, state=ScheduledState.IDLE, ended_at=at(4.1), text="nothing"))
    assert len(open_tickets(stores)) == 1, "that nothing was to be done ends no failure"
    well = run(at(5))
    assert await claim_run(well)
    assert await end_well(replace(well, state=ScheduledState.SUCCEEDED, ended_at=at(5.1), text="done"))
    assert open_tickets(stores) == []


async def test_what_a_person_paused_is_not_missed_and_counts_again_once_it_goes_on(stores: Stores) -> None:
    paused = {"hourly"}

    async def is_paused(_environment: str, name: str) -> bool:
        return name in paused

    await judge_schedules(declared(), at(0))
    assert await judge_schedules(declared(), at(3.2), is_paused) == []
    assert states(stores) == [(0, "declared"), (3, "idle")]
    paused.clear()
    assert await judge_schedules(declared(), at(3.9), is_paused) == []
    (found,) = await judge_schedules(declared(), at(4.2), is_paused)
    assert (found.due_at, found.text) == (at(4), "it did not begin within 10 minutes")


async def test_what_is_taken_out_of_the_file_is_not_missed_and_counts_anew_once_it_is_back(stores: Stores) -> None:
    await judge_schedules(declared(), at(0))
    without = declared().model_copy(update={"schedules": {}})
    for hour in (1.5, 2.5):
        assert await judge_schedules(without, at(hour)) == []
    assert states(stores) == [(0, "declared"), (1.5, "idle")]
    assert await judge_schedules(declared(), at(5.5)) == []
    (found,) = await judge_schedules(declared(), at(6.5))
    assert (found.due_at, found.text) == (at(6), "it did not begin within 10 minutes")


async def test_times_that_change_count_from_then_on(stores: Stores) -> None:
    await judge_schedules(declared(), at(0))
    often = Schedule(run="drift", at="every 30 minutes", late_minutes=10)
    assert await judge_schedules(declared(often), at(2.05)) == []
    (found,) = await judge_schedules(declared(often), at(2.7))
    assert found.due_at == at(2.5)
    assert found.text == "it did not begin within 10 minutes"


@pytest.mark.parametrize(
    ("began", "schedule"),
    [
        (datetime(2026, 10, 24, 20, 10, tzinfo=UTC), "every 30 minutes Europe/Berlin"),
        (datetime(2026, 3, 7, 20, 10, tzinfo=UTC), "*/15 * * * * America/New_York"),
        (datetime(2026, 10, 3, 2, 10, tzinfo=UTC), "*/20 * * * * Australia/Lord_Howe"),
    ],
)
async def test_of_two_hundred_runs_none_is_lost_and_none_is_done_twice(
    stores: Stores, began: datetime, schedule: str
) -> None:
    """Clocks change meanwhile; two hosts try each, processes are killed, and now and then none is there at all."""
    draw, times = random.Random(schedule), read_times(schedule)
    spec = Schedule(run="drift", at=schedule, late_minutes=10)
    await judge_schedules(declared(spec), began)
    done: Counter[datetime] = Counter()
    dues = [due for due, _ in zip(times.after(began), range(200), strict=False)]
    assert len({due.astimezone(ZoneInfo(times.zone)).utcoffset() for due in dues}) == 2
    away_until = began
    for due in dues:
        if draw.random() < 0.05:
            away_until = due + timedelta(minutes=draw.choice([5, 25, 130]))
        begins = max(due, away_until)
        if later_due(spec, due, begins) is None:
            for _host in draw.sample(range(2), 2):
                if await claim_run(run(due, spec, began_at=begins, runner=this_process())):
                    done[due] += 1
                    claimed = run(due, spec, began_at=begins)
                    if draw.random() < 0.8:
                        await end_well(replace(claimed, state=ScheduledState.SUCCEEDED, ended_at=begins, text="done"))
        if due >= away_until:
            await judge_schedules(declared(spec), begins + timedelta(minutes=10))
    await judge_schedules(declared(spec), dues[-1] + timedelta(minutes=11))

    print(f"{schedule}: {len(dues)} due, {sum(done.values())} done")
    assert set(done.values()) == {1}
    runs = {one.due_at: one for one in stores.scheduled_runs.latest("prod", "hourly", 1000)}
    reported = [due for due, one in runs.items() if one.state is ScheduledState.MISSED]
    began_at = [one.began_at for one in runs.values() if one.began_at is not None]
    made_up_for = timedelta(minutes=10)
    for due in dues:
        is_covered = any(due <= moment <= due + made_up_for for moment in began_at)
        is_reported = any(due <= missed for missed in reported if not any(due < moment < missed for moment in began_at))
        assert due in runs or is_covered or is_reported, due


def test_the_list_has_what_is_declared_with_its_runs_the_newest_first(stores: Stores) -> None:
    assert [view.runs for view in read_schedules([declared()], at(1.5))] == [()]
    stores.scheduled_runs.add(run(at(0), state=ScheduledState.DECLARED))
    for hour in range(1, 40):
        stores.scheduled_runs.add(run(at(hour), state=ScheduledState.SUCCEEDED))
    (view,) = read_schedules([declared()], at(39.5))
    assert (view.next_at, len(view.runs), view.runs[0].due_at) == (at(40), 30, at(39))
