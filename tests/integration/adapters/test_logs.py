"""Logs of a real engine, read and followed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from adapters.docker.engine import DockerEngine
from adapters.docker.followed_logs import FollowedLogs
from core.common.stamps import stamp_of, without_stamp
from models.failures import ContainerGoneError
from tests.integration.adapters.conftest import ComposeProject

pytestmark = pytest.mark.engine
Make = Callable[..., ComposeProject]

SERVICES = """\
services:
  web:
    image: IMAGE
    command:
      - sh
      - -c
      - |
        trap 'exit 0' TERM
        echo "web starts $$(cat /proc/sys/kernel/random/uuid)"
        echo "password: $$TOKEN" >&2
        sleep 1000 & wait
    environment: {TOKEN: correct-horse-battery}
    stop_signal: TERM
  screen:
    image: IMAGE
    tty: true
    command: [sh, -c, "trap 'exit 0' TERM; printf '\\\\033[2Jscreen\\\\n'; sleep 1000 & wait"]
  counter:
    image: IMAGE
    command: [sh, -c, "i=0; while [ $$i -lt 3000 ]; do i=$$((i + 1)); echo line $$i; done"]
"""


def texts(followed: FollowedLogs) -> Iterator[str]:
    """The lines that are followed, each after its service; lines that never come fail by the test's own time limit."""
    for batch in followed:
        for log in batch.logs:
            yield from (f"{log.service} {without_stamp(line)}" for line in log.lines)


def next_start(lines: Iterator[str]) -> str:
    return next(line for line in lines if line.startswith("web web starts"))


def read_all(engine: DockerEngine, container_id: str, tail: int = 100_000, since: datetime | None = None) -> list[str]:
    with closing(engine.logs.read(container_id, tail, since)) as batches:
        return [line for batch in batches for line in batch]


def await_lines(engine: DockerEngine, container_id: str, count: int) -> list[str]:
    """The log once it has so many lines: the engine writes them after the container's start or end."""
    while len(lines := read_all(engine, container_id)) < count:
        threading.Event().wait(0.05)
    return lines


def test_a_log_is_read_whole_or_its_end_or_since_a_moment(make_project: Make) -> None:
    project = make_project(SERVICES)
    project.started()
    counter, engine = project.one("counter").container_id, project.engine
    lines = await_lines(engine, counter, 3000)
    assert [without_stamp(line) for line in lines] == [f"line {number}" for number in range(1, 3001)]
    assert read_all(engine, counter, tail=2) == lines[-2:]
    middle = stamp_of(lines[1500])
    assert middle is not None
    assert len(read_all(engine, counter, since=middle)) == pytest.approx(1500, abs=50)
    assert read_all(engine, counter, since=datetime.now(UTC) + timedelta(hours=1)) == []
    with closing(engine.logs.read(counter, 3000)) as batches:
        assert len(next(batches)) < 3000


def test_both_streams_and_a_terminal_are_read_without_secrets_and_escapes(make_project: Make) -> None:
    project = make_project(SERVICES)
    project.started()
    web = await_lines(project.engine, project.one("web").container_id, 2)
    assert min(map(without_stamp, web)) == "password: [redacted]"
    assert [without_stamp(line) for line in await_lines(project.engine, project.one("screen").container_id, 1)] == [
        r"\x1b[2Jscreen"
    ]


def test_the_log_of_a_removed_container_is_gone(engine: DockerEngine) -> None:
    with pytest.raises(ContainerGoneError):
        read_all(engine, "0" * 64)


def test_logs_are_followed_through_a_restart_and_a_replacement(make_project: Make) -> None:
    project = make_project(SERVICES)
    project.compose().create()
    engine, before = project.engine, datetime.now(UTC) - timedelta(seconds=2)
    with engine.logs.follow(project.name, ("web",), before) as followed:
        lines = texts(followed)
        web = project.one("web").container_id
        engine.containers.start(web)
        first = next_start(lines)
        engine.containers.restart(web, timedelta(seconds=1))
        second = next_start(lines)
        snapshot = engine.containers.snapshot(web)
        engine.containers.stop(web, timedelta(seconds=1))
        engine.containers.remove(web)
        engine.containers.start(engine.containers.recreate(snapshot))
        third = next_start(lines)
    assert len({first, second, third}) == 3


def test_what_was_written_before_is_followed_once_and_redacted(make_project: Make) -> None:
    project = make_project(SERVICES)
    project.started()
    web = project.one("web").container_id
    await_lines(project.engine, web, 2)
    with project.engine.logs.follow(project.name, (), datetime.now(UTC) - timedelta(minutes=1)) as followed:
        lines = texts(followed)
        written = [next(lines)]
        while sum(line.startswith("counter") for line in written) < 3000 or "web password: [redacted]" not in written:
            written.append(next(lines))
        project.engine.containers.restart(web, timedelta(seconds=1))
        next_start(lines)
    assert len(written) == len(set(written))
    assert not any("correct-horse" in line for line in written)


def test_following_ends_its_threads(make_project: Make) -> None:
    project = make_project(SERVICES)
    project.started()
    before = {thread.ident for thread in threading.enumerate()}
    with project.engine.logs.follow(project.name, (), datetime.now(UTC) - timedelta(minutes=1)) as followed:
        next(texts(followed))
    left = [thread for thread in threading.enumerate() if thread.name == "logs" and thread.ident not in before]
    assert left == []
