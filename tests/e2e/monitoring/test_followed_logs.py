"""Logs are followed on while their engine is away: killed as by a crash, and started again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from adapters.docker.engine import DockerEngine
from adapters.docker.followed_logs import FollowedLogs
from tests.support.engines import IMAGE, OwnEngine

pytestmark = [pytest.mark.engine, pytest.mark.campaign]
PROJECT = "roas-test-followed"
COUNTS = "i=0; while true; do i=$((i + 1)); echo line $i of $(cat /proc/sys/kernel/random/uuid); sleep 0.2; done"


def events(followed: FollowedLogs) -> Iterator[str]:
    """Each remark, and "line" for each line; what never comes fails by the test's own time limit."""
    for batch in followed:
        if batch.remark:
            yield batch.remark
        for log in batch.logs:
            yield from ("line" for _ in log.lines)


def test_logs_are_followed_on_when_the_engine_comes_back(own_engine: OwnEngine) -> None:
    labels = (f"com.docker.compose.project={PROJECT}", "com.docker.compose.service=web")
    own_engine.docker(
        "run", "--detach", "--init", "--restart", "always", "--name", f"{PROJECT}-web-1",
        *(word for label in labels for word in ("--label", label)), IMAGE, "sh", "-c", COUNTS,
    )  # fmt: skip
    engine = DockerEngine(own_engine.address)
    with engine.logs.follow(PROJECT, ("web",), datetime.now(UTC)) as followed:
        happened = events(followed)
        assert next(happened) == "line"
        own_engine.kill()
        away = next(event for event in happened if event != "line")
        own_engine.start()
        assert next(event for event in happened if event == "line")
    assert "It is asked again" in away
    engine.close()
