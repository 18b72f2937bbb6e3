"""An explanation fits one screen, whatever was recorded."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cli.rendering.why import show_explanation
from models.operations import OperationStatus
from models.records import Explanation, ShownLine

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
COMMAND = "docker inspect --format '{{json .State}}' $(docker compose -p app ps --all --quiet bot) " * 2


def explanation(many: int) -> Explanation:
    return Explanation(
        deployment_id="prod-20260701-120000-abcd",
        environment="prod",
        operation="start",
        status=OperationStatus.FAILED,
        headline="bot ended [red] with " + "many words " * many,
        started_at=NOON,
        service="bot",
        since=NOON,
        because=("a fact " * 30,) * many,
        lines=tuple(ShownLine(service="bot", source="log", text=f"line {n} " * 30, at=NOON) for n in range(many)),
        consequences=("it followed " * 30,) * many,
        changed=("it changed " * 30,) * many,
        tried=("it was tried " * 30,) * many,
        commands=(COMMAND,) * many,
    )


def shown(capsys: pytest.CaptureFixture[str], value: Explanation) -> list[str]:
    show_explanation(value)
    return capsys.readouterr().out.splitlines()


def test_much_is_cut_to_about_a_screen_of_100_columns_but_no_command_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, explanation(20))

    assert len(lines) <= 50
    assert all(len(line) <= 100 for line in lines if "docker inspect" not in line)
    assert sum(line.endswith(COMMAND) for line in lines) == 6
    assert "and 14 more (--json shows all)" in lines[-1]


def test_the_end_of_a_long_line_is_shown_where_there_is_room(capsys: pytest.CaptureFixture[str]) -> None:
    long = ShownLine(service="bot", source="log", text=f"{'the trace goes on, ' * 8}reason: no such table", at=NOON)
    value = replace(explanation(0), lines=(long,), because=(f"{'judged so ' * 12}because of its end",))

    text = " ".join(" ".join(shown(capsys, value)).split())

    assert "reason: no such table" in text
    assert "because of its end" in text


def test_no_line_of_a_log_is_cut_for_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    texts = [f"{n} {'the trace goes on, ' * 40}reason: number {n}" for n in range(3)]
    lines = tuple(ShownLine(service="bot", source="log", text=text, at=NOON) for text in texts)

    text = " ".join(" ".join(shown(capsys, replace(explanation(20), lines=lines))).split())

    assert all(f"reason: number {n}" in text for n in range(3))


def test_a_terminal_shows_the_reason_at_the_end_of_long_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    texts = [f"{n} {'the trace goes on, ' * 40}reason: number {n}" for n in range(3)]
    lines = tuple(ShownLine(service="bot", source="log", text=text, at=NOON) for text in texts)
    headline = f"bot ended {'and so on ' * 60}because of its password"

    text = " ".join(" ".join(shown(capsys, replace(explanation(20), lines=lines, headline=headline))).split())

    assert all(f"reason: number {n}" in text for n in range(3))
    assert "because of its password" in text
    assert "more characters" not in text


def test_a_terminal_shows_both_ends_of_an_extremely_long_line_and_the_command_for_all_of_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    line = ShownLine(service="bot", source="log", text=f"begins {'x' * 20_000} reason: no such table", at=NOON)

    lines = shown(capsys, replace(explanation(0), lines=(line,)))

    assert len(lines) <= 50
    assert any("begins" in line for line in lines)
    assert lines[-1].endswith("reason: no such table")
    (cut,) = (line.strip() for line in lines if "more characters" in line)
    assert cut.endswith(" more characters: roas why prod-20260701-120000-abcd --evidence")


def test_what_is_empty_takes_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, explanation(0))

    assert len(lines) == 4
    assert "bot ended [red] with" in lines[2]


def test_the_latest_lines_are_shown_where_not_all_fit(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, explanation(20))

    assert any("line 19" in line for line in lines)
    assert not any("line 0 " in line for line in lines)
