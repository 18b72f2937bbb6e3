from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from core.reporting.log_lines import LastLines, interleave, line_matcher
from models.failures import BadInputError
from models.logs import LogQuery
from models.records import ContainerLog

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def stamped(second: int, text: str) -> str:
    return f"{(NOON + timedelta(seconds=second)):%Y-%m-%dT%H:%M:%S}.000000000Z {text}"


def chosen(query: LogQuery, *lines: str) -> list[str]:
    return list(filter(line_matcher(query), lines))


def test_every_line_matches_a_query_without_a_pattern() -> None:
    assert chosen(LogQuery(), stamped(0, "a"), "no stamp") == [stamped(0, "a"), "no stamp"]


def test_a_pattern_matches_the_words_and_not_the_stamp() -> None:
    lines = (stamped(0, "started"), stamped(1, "a Timeout"), "timeout without a stamp")
    assert chosen(LogQuery(pattern="timeout|refused"), *lines) == [lines[2]]
    assert chosen(LogQuery(pattern="timeout|refused", ignore_case=True), *lines) == [*lines[1:]]
    assert chosen(LogQuery(pattern="2026"), *lines) == []
    assert chosen(LogQuery(pattern="^started$"), *lines) == [lines[0]]


def test_lines_before_the_moment_are_left_out_and_those_without_a_stamp_stay() -> None:
    lines = (stamped(0, "a"), "between", stamped(5, "b"))
    assert chosen(LogQuery(since=NOON + timedelta(seconds=1)), *lines) == ["between", lines[2]]


@pytest.mark.parametrize("pattern", ["(a", "a{2000}", r"(a)\1", "(?=a)", "[z-a]", "a" * 1001, r"\pL{500}"])
def test_a_pattern_that_cannot_be_used_is_refused(pattern: str) -> None:
    with pytest.raises(BadInputError) as raised:
        line_matcher(LogQuery(pattern=pattern))
    assert raised.value.advice


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(.*a){12}", "(x+x+)+y", "^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_a_hostile_pattern_takes_no_longer_than_any_other(pattern: str) -> None:
    is_wanted = line_matcher(LogQuery(pattern=pattern))
    begun = time.process_time()
    is_wanted("a" * 32_768 + "!")
    assert time.process_time() - begun < 2


def test_the_last_lines_are_bounded_by_number_and_by_characters() -> None:
    last = LastLines(3)
    last.extend("abcde")
    last.extend("f")
    assert last.lines() == ("d", "e", "f")
    large = LastLines(10_000)
    large.extend("x" * 100_000 for _ in range(100))
    assert sum(map(len, large.lines())) <= 1024 * 1024
    huge = LastLines(5)
    huge.extend(["x" * 2_000_000])
    assert len(huge.lines()) == 1


def test_lines_of_several_containers_are_in_the_order_of_time() -> None:
    web = ContainerLog(service="web", container="web-1", lines=(stamped(1, "w1"), " at w1.py", stamped(4, "w2")))
    db = ContainerLog(service="db", container="db-1", lines=(stamped(0, "d1"), stamped(1, "d2"), stamped(5, "d3")))
    lines = interleave([web, db])
    assert [line.line for line in lines] == ["d1", "w1", " at w1.py", "d2", "w2", "d3"]
    assert (lines[1].container, lines[1].at) == ("web-1", NOON + timedelta(seconds=1))
    assert lines[2].at is None
    assert lines[0].document() == {"at": NOON.isoformat(), "service": "db", "container": "db-1", "line": "d1"}
