from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TypeVar

from core.reporting.analysis import analyse_operations
from core.reporting.report_page import percent_in_words, report_page
from models.analysis import ActionOutcomes, Analysis, AnswersOfDay, Failure, Share
from models.metrics import Alert, AlertSeverity
from models.operations import Operation, OperationStatus, OperationType
from models.pages import Block, Items, Page, Plot, Table, Text

NOON = datetime(2026, 7, 8, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ACTION = ActionOutcomes(strategy="restart_service", cause="oom_killed", helped=3, failed=1, running=0)
Kind = TypeVar("Kind", bound=Block)


def start(at: datetime, *, seconds: float = 10, good: bool = True) -> Operation:
    return Operation(
        deployment_id=f"prod-{at:%Y%m%d}",
        operation_type=OperationType.START,
        environment="prod",
        status=OperationStatus.SUCCESS if good else OperationStatus.FAILED,
        started_at=at,
        ended_at=at + timedelta(seconds=seconds),
    )


def analysed(days: int, *operations: Operation, failures: tuple[Failure, ...] = ()) -> Analysis:
    return analyse_operations(operations, environment="prod", since=NOON - days * DAY, until=NOON, failures=failures)


def answers(service: str, *, good: int, total: int, ago: int = 1) -> AnswersOfDay:
    return AnswersOfDay(service=service, day=(NOON - ago * DAY).date(), share=Share(good=good, total=total))


def blocks(page: Page, heading: str, kind: type[Kind]) -> list[Kind]:
    found = next(section for section in page.sections if section.heading == heading)
    return [block for block in found.blocks if isinstance(block, kind)]


def test_an_empty_week_says_so_in_every_section() -> None:
    page = report_page(analysed(7), (), (), ())

    assert page.title == "Report on prod"
    assert all(section.blocks for section in page.sections)
    assert blocks(page, "Operations", Text)[0].text == "No operation has ended."
    assert blocks(page, "Availability", Text)[0].text == "No probe answer is recorded."
    assert not any(isinstance(block, Plot | Table) for section in page.sections for block in section.blocks)


def test_few_days_stand_one_by_one() -> None:
    page = report_page(analysed(7, start(NOON - DAY), start(NOON - 2 * DAY, good=False)), (), (), ())
    rate, duration = blocks(page, "Operations", Plot)

    assert len(rate.labels) == 8
    assert rate.title == "Operations that succeeded, by day"
    assert rate.lines[0].values[-3:] == (0.0, 100.0, None)
    assert duration.lines[0].values[-2] == 10.0


def test_two_years_are_summed_up_by_week_and_ten_by_more() -> None:
    starts = [start(NOON - n * DAY, seconds=10 + n % 7) for n in range(1, 731)]
    years, decade = report_page(analysed(730, *starts), (), (), ()), report_page(analysed(3650, *starts), (), (), ())
    rate, duration = blocks(years, "Operations", Plot)

    assert rate.title == "Operations that succeeded, by week"
    assert len(rate.labels) == 105
    assert duration.lines[0].values[-2] == 13.0
    for plot in blocks(decade, "Operations", Plot):
        assert len(plot.labels) <= 200
    assert blocks(decade, "Operations", Plot)[0].title == "Operations that succeeded, by 3 weeks"


def test_a_week_counts_each_start_once() -> None:
    starts = [start(NOON - n * DAY, good=n % 5 != 0) for n in range(1, 101)]
    table = blocks(report_page(analysed(100, *starts), (), (), ()), "Operations", Table)[0]

    assert table.folded
    assert sum(int(row[1]) for row in table.rows) == 100
    assert sum(int(row[2]) for row in table.rows) == 80


def test_repairs_say_what_was_tried_and_what_helped() -> None:
    failure = Failure(row="e1", service="web", cause="oom_killed", began_at=NOON - DAY, ended_at=NOON - DAY + DAY / 24)
    page = report_page(analysed(7, failures=(failure,)), (), (), (), actions=(ACTION,))
    failures, tried = blocks(page, "Failures and repairs", Table)

    assert failures.rows == (("web", "oom killed", "1", "", "60 min", ""),)
    assert tried.rows == (("restart service", "oom killed", "4", "3", "1", ""),)


def test_availability_is_compared_with_the_objective_worst_first() -> None:
    seen = (answers("db", good=1000, total=1000), answers("web", good=980, total=1000))
    page = report_page(analysed(7), (), (), (), answers=seen, objective_percent=99.0)
    table, plots = blocks(page, "Availability", Table)[0], blocks(page, "Availability", Plot)

    assert table.rows == (
        ("web", "1000", "98.00 %", "99 %", "200 %", "missed"),
        ("db", "1000", "100.00 %", "99 %", "0 %", "met"),
    )
    assert [plot.title for plot in plots] == ["Availability of web, by day"]
    assert plots[0].limit == 99.0
    assert plots[0].lowest < 98.0


def test_without_an_environment_file_nothing_is_compared() -> None:
    page = report_page(analysed(7), (), (), (), answers=(answers("web", good=9, total=10),))
    table = blocks(page, "Availability", Table)[0]

    assert table.head == ("service", "answers", "good")
    assert table.rows == (("web", "10", "90.00 %"),)


def test_one_bad_answer_is_never_rounded_away() -> None:
    assert percent_in_words(Share(good=999_999, total=1_000_000)) == "99.99 %"
    assert percent_in_words(Share(good=5, total=5)) == "100.00 %"
    assert percent_in_words(Share(good=0, total=0)) == ""


def test_alerts_are_cut_and_say_how_many_are_missing() -> None:
    alert = Alert(
        alert_id="a1",
        environment="prod",
        service="web",
        metric="cpu_usage",
        severity=AlertSeverity.WARNING,
        reason="CPU is 93 %",
        opened_at=NOON,
    )
    table = blocks(report_page(analysed(7), (), (alert,) * 60, ()), "Alerts", Table)[0]

    assert (len(table.rows), table.omitted) == (50, 10)


def test_advice_names_its_rows() -> None:
    failed = [start(NOON - n * DAY, good=False) for n in range(1, 6)]
    items = blocks(report_page(analysed(7, *failed), (), (), ()), "What to do", Items)[0].items

    assert "prod-20260703" in items[0]
