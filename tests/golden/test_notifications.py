"""What users are sent of the five commonest failures, for each service: judged by the shipped patterns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from adapters.pattern_files import described_patterns, shipped_set
from core.errors.classify import classify
from core.errors.evidence import failure_lines
from core.notifications.due import failure_of
from core.notifications.message import compose
from core.notifications.pacing import Batch
from core.notifications.services import render
from core.recovery.manual_steps import manual_steps
from models.errors import Category, Evidence, RecordedError, Strategy
from models.notifications import Addresses, NewsDetails, ReportedError, SentNotifications
from models.recovery import RecoveryExecution, Ticket
from tests.golden.conftest import golden

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ADDRESSES = Addresses(prefect="https://ops.example", grafana="https://grafana.example")
KINDS = {"discord": "discord-webhook", "slack": "slack-webhook", "teams": "ms-teams-webhook", "text": "text"}


@dataclass(frozen=True, kw_only=True)
class NotifiedFailure:
    """A failure as recovery records it."""

    service: str
    text: str
    first_cause: str
    category: Category
    logs: tuple[str, ...] = ()
    affected: tuple[str, ...] = ()
    evidence: Evidence | None = None
    tried: str = ""
    count: int = 1


FAILURES = {
    "port": NotifiedFailure(
        service="web",
        text="Docker engine refused to start shop-web-1: driver failed programming external connectivity on endpoint "
        "shop-web-1: Bind for 0.0.0.0:8080 failed: port is already allocated",
        first_cause="web could not be started: Bind for 0.0.0.0:8080 failed: port is already allocated",
        category=Category.PORT_CONFLICT,
    ),
    "variable": NotifiedFailure(
        service="api",
        text="service api is stopped: exited with code 1",
        first_cause="api ended with exit code 1; its last line is \"KeyError: 'DATABASE_URL'\"",
        category=Category.MISSING_ENV_SECRET,
        logs=(
            "Traceback (most recent call last):",
            '  File "/app/settings.py", line 12, in <module>',
            '    DATABASE_URL = os.environ["DATABASE_URL"]',
            "KeyError: 'DATABASE_URL'",
        ),
        affected=("api", "web"),
    ),
    "image": NotifiedFailure(
        service="web",
        text="Image ghcr.io/example/shop:2.41 of web was found neither locally nor in the registry: manifest unknown",
        first_cause=(
            "Image ghcr.io/example/shop:2.41 of web was found neither locally nor in the registry: manifest unknown"
        ),
        category=Category.IMAGE_PULL_FAILED,
    ),
    "login": NotifiedFailure(
        service="api",
        text="service api is stopped: exited with code 1",
        first_cause="api ended with exit code 1",
        category=Category.AUTH_FAILED,
        logs=(
            "INFO connecting to db:5432",
            'psycopg.OperationalError: connection failed: FATAL:  password authentication failed for user "shop"',
        ),
        affected=("api", "web"),
        tried="api restarted and exited again with code 1",
        count=3,
    ),
    "memory": NotifiedFailure(
        service="worker",
        text="service worker keeps crashing: exited with code 137",
        first_cause="worker keeps crashing, restarted 6 times, last with exit code 137, the kernel killed it because "
        "its memory reached its limit of 256 MiB",
        category=Category.OOM_KILLED,
        logs=("INFO loading 1200000 rows", "INFO building the index"),
        evidence=Evidence(exit_code=137, oom_killed=True, restart_count=6, container_state="restarting"),
        tried="worker restarted and exited again with code 137",
        count=7,
    ),
}


def rendered(failure: NotifiedFailure, kind: str) -> str:
    evidence = failure.evidence or Evidence(exit_code=1, logs=failure.logs)
    verdict = classify(failure.text, shipped_set(), evidence=evidence)
    assert verdict.category is failure.category
    steps = manual_steps(verdict, service=failure.service, project="shop", environment="shop")
    began = NOON - timedelta(minutes=2)
    error = RecordedError(
        error_id="err-1",
        environment="shop",
        text=failure.text,
        source="watch",
        verdict=verdict,
        first_seen=began,
        last_seen=NOON,
        service=failure.service,
        count=failure.count,
    )
    ticket = Ticket(
        ticket_id="T-260302-1a2b", error_id="err-1", environment="shop", title="", opened_at=NOON, steps=steps
    )
    tried = RecoveryExecution(
        error_id="err-1",
        strategy=Strategy.RESTART_SERVICE,
        started_at=began,
        ended_at=NOON,
        success=False,
        final_status=failure.tried,
    )
    cause = ReportedError(
        error=error, reported=SentNotifications(), ticket=ticket, executions=[tried] if failure.tried else []
    )
    means = next((one.means for one in described_patterns() if one.pattern.name == verdict.pattern_name), "")
    details = NewsDetails(
        first_cause=failure.first_cause,
        means=means,
        lines=tuple(failure.logs[place] for place in failure_lines(failure.logs, 3, shipped_set())),
        affected=failure.affected,
        flow_run_id="0197a6f2-3c1e-7f00-8000-1a2b3c4d5e6f",
    )
    message = compose(Batch(news=(failure_of(cause),)), {"err-1": details}, ADDRESSES, NOON).message
    found = render(kind, message)
    if kind == "text":
        return f"{found['subject']}\n\n{found['body']}"
    return json.dumps(found, indent=2, ensure_ascii=False)


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("service", KINDS)
def test_message_of_a_common_failure(name: str, service: str) -> None:
    ending = "txt" if service == "text" else "json"
    golden(f"notifications/{name}.{service}.{ending}", rendered(FAILURES[name], KINDS[service]))
