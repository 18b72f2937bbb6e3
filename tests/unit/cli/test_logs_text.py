from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

from cli.options import moment_or_age
from cli.rendering.logs import show_logs
from models.records import ContainerLog

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
STAMP = "2026-07-01T12:00:0{}.000000000Z"


def test_lines_are_by_time_and_each_names_its_container(capsys: pytest.CaptureFixture[str]) -> None:
    show_logs(
        [
            ContainerLog(service="web", container="web-1", lines=(f"{STAMP.format(1)} [bold]up[/bold] \x1b[2J",)),
            ContainerLog(service="db", container="db-long-1", lines=(f"{STAMP.format(0)} ready",), kept_at=NOON),
            ContainerLog(service="idle", container="idle-1", lines=()),
        ]
    )
    assert capsys.readouterr().out.splitlines() == [
        "db-long-1 is removed; this was kept of it at 2026-07-01 12:00:00 UTC",
        "idle-1 has written nothing",
        "db-long-1 | 2026-07-01 12:00:00 ready",
        r"web-1     | 2026-07-01 12:00:01 [bold]up[/bold] \x1b[2J",
    ]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("10m", NOON - timedelta(minutes=10)),
        ("2h", NOON - timedelta(hours=2)),
        ("2026-06-30", datetime(2026, 6, 30, tzinfo=UTC)),
        ("2026-06-30T10:00", datetime(2026, 6, 30, 10, tzinfo=UTC)),
        ("2026-06-30T10:00:00+02:00", datetime(2026, 6, 30, 8, tzinfo=UTC)),
        ("2026-06-30T10:00:00Z", datetime(2026, 6, 30, 10, tzinfo=UTC)),
    ],
)
def test_a_moment_is_an_age_or_a_time(text: str, moment: datetime) -> None:
    assert moment_or_age(text, NOON) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "-5m", "9999999999d", "2026-13-01", "0001-01-01T00:00+14:00"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        moment_or_age(text, NOON)
