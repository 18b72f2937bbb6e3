"""Frames of `roas top`, each from one value."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len
from rich.console import Console

from cli.rendering.top import frame
from models.live import LiveRecovery, LiveService, LiveView
from models.metrics import Alert, AlertSeverity, Prediction
from models.operations import Operation, OperationStatus, OperationType
from models.recovery import Pause
from tests.golden.conftest import golden

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
MIB = 2**20


def ago(**parts: float) -> datetime:
    return NOW - timedelta(**parts)


WEB = LiveService(
    service="web", state="running", health="healthy", containers=2, since=ago(hours=5), restarts=1, cpu_percent=12.34,
    memory_bytes=310 * MIB, response_ms=42.4, cpu_history=tuple(float(10 + n % 7) for n in range(40)),
    memory_history=tuple((200.0 + 3 * n) * MIB for n in range(40)),
)  # fmt: skip
DB = LiveService(
    service="db", state="running", health="healthy", containers=1, since=ago(days=2), cpu_percent=0.4,
    memory_bytes=1.5 * 1024 * MIB, cpu_history=(0.0, 0.0, 0.4), memory_history=(1500.0 * MIB,) * 3,
)  # fmt: skip
JOB = LiveService(service="migrate", state="exited (0)", health="completed", containers=1, since=ago(days=2))
QUEUE = LiveService(
    service="queue", state="exited (137)", health="stopped", containers=1, since=ago(seconds=3), restarts=4
)
FORECAST = Prediction(
    prediction_id="p-1", environment="shop", service="db", metric="memory_usage", value=80, threshold=90, falling=False,
    made_at=ago(minutes=5), expected=NOW + timedelta(hours=7), earliest=NOW, latest=NOW + timedelta(days=1),
    words="memory_usage of db grows by 2.2 an hour",
)  # fmt: skip
STARTED = Operation(
    deployment_id="shop-1", operation_type=OperationType.START, environment="shop", status=OperationStatus.SUCCESS,
    started_at=ago(days=2, seconds=20), ended_at=ago(days=2),
)  # fmt: skip
HELPED = LiveRecovery(
    at=ago(minutes=12), service="web", action="restart_service", cause="service_crashed",
    result="web healthy again after 1.9 s", success=True,
)  # fmt: skip
HEALTHY = LiveView(
    environment="shop", at=NOW, services=(DB, JOB, WEB), overall="healthy", release="r-20261124-120000-aaf5",
    released_at=ago(days=2), collected_at=ago(seconds=20), operation=STARTED, recoveries=(HELPED,), forecast=FORECAST,
    history=timedelta(minutes=30),
)  # fmt: skip


def alert(number: int, severity: AlertSeverity, service: str, reason: str) -> Alert:
    return Alert(
        alert_id=f"alert-{number}", environment="shop", service=service, metric="health", severity=severity,
        reason=reason, opened_at=ago(minutes=number),
    )  # fmt: skip


TROUBLED = replace(
    HEALTHY,
    services=(DB, JOB, QUEUE, WEB),
    overall="unhealthy",
    stale="collected 3 min ago; roas serve is not running",
    collected_at=ago(minutes=3),
    operation=replace(STARTED, status=OperationStatus.RUNNING, started_at=ago(seconds=12), ended_at=None),
    step="db proven",
    alerts=(
        alert(1, AlertSeverity.WARNING, "web", "response_time is 912 ms, usually 40 ms"),
        alert(2, AlertSeverity.CRITICAL, "queue", "does not run: its container exited with code 137"),
    ),
    tickets=1,
    pauses=(
        Pause(
            environment="shop", service="db", until=NOW + timedelta(hours=2), reason="new disk", by="me", paused_at=NOW
        ),
    ),
    recoveries=(
        LiveRecovery(at=ago(seconds=2), service="queue", action="restart_service", cause="killed", result="running",
                     success=None),
        replace(HELPED, success=False, result="web exited again with code 1\nafter 3 s"),
        HELPED,
    ),
)  # fmt: skip
CROWDED = replace(
    TROUBLED,
    services=(
        *(replace(WEB, service=f"worker-with-a-long-name-{n:02}") for n in range(40)),
        QUEUE,
        replace(DB, service="データベース"),
    ),
    alerts=tuple(alert(n, AlertSeverity.WARNING, "web", f"limit {n} was passed") for n in range(9)),
)
AWAY = replace(
    HEALTHY,
    services=(LiveService(service="db", state="unknown", health="healthy"),),
    problems=("Docker engine at unix:///var/run/docker.sock did not answer; is it running?",),
    meant_to_run=False,
)
NOTHING = LiveView(environment="shop", at=NOW, services=(), stale="nothing is collected; roas serve is not running")
VIEWS = {"healthy": HEALTHY, "troubled": TROUBLED, "crowded": CROWDED, "engine away": AWAY, "nothing": NOTHING}


def shown(view: LiveView, width: int, height: int | None) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, highlight=False, color_system=None)
    console.print(frame(view, width, height), end="")
    return [line.rstrip() for line in out.getvalue().rstrip("\n").split("\n")]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_frames(width: int, height: int) -> None:
    frames = [f"# {name}\n" + "\n".join(shown(view, width, height)) for name, view in VIEWS.items()]

    golden(f"top {width}x{height}.txt", "\n\n".join(frames))


def test_one_frame_without_a_height_shows_everything() -> None:
    golden("top once.txt", "\n".join(shown(CROWDED, 120, None)))


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 10), (40, 6), (200, 60), (20, 3)])
def test_a_frame_fits_its_terminal(name: str, width: int, height: int) -> None:
    lines = shown(VIEWS[name], width, height)

    assert len(lines) <= height
    assert max(cell_len(line) for line in lines) <= width


def test_nothing_in_a_text_of_others_reaches_the_terminal() -> None:
    hostile = replace(HEALTHY, alerts=(alert(1, AlertSeverity.WARNING, "web\x1b[2J", "\x1b]0;title\x07 [red]x[/red]"),))

    text = "\n".join(shown(hostile, 120, 40))

    assert "\x1b" not in text
    assert "[red]x[/red]" in text
