"""Out-of-memory kills as the kernel reports them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.docker.memory_signs import memory_signs
from core.errors.evidence import grade_memory
from models.evidence import MemoryGrade
from tests.integration.adapters.conftest import ComposeProject

CONTAINER = "ab" * 32
OTHER = "cd" * 32
TIMEOUT_SECONDS = 300


def groups(folder: Path, place: str, reported: str) -> Path:
    file = folder / place.format(CONTAINER)
    file.parent.mkdir(parents=True)
    file.write_text(reported)
    return folder


@pytest.mark.parametrize(
    ("place", "reported"),
    [
        ("system.slice/docker-{}.scope/memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 0\n"),
        ("docker/{}/memory.events", "oom_kill 2\n"),
        ("memory/docker/{}/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        ("memory/system.slice/docker-{}.scope/memory.oom_control", "oom_kill 2\n"),
    ],
)
def test_the_kernels_count_is_found_where_either_version_and_driver_puts_it(tmp_path: Path, place, reported) -> None:
    signs = memory_signs(CONTAINER, groups=groups(tmp_path, place, reported), kernel_log=tmp_path / "none")

    assert signs.oom_kills == 2


def test_what_cannot_be_read_is_not_known_rather_than_zero(tmp_path: Path) -> None:
    signs = memory_signs(CONTAINER, groups=tmp_path, kernel_log=tmp_path / "none")

    assert (signs.oom_kills, signs.kernel_lines) == (None, None)


def test_the_kernels_log_is_searched_for_the_container_alone(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text(f"6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,task_memcg=/docker/{CONTAINER}\n SUBSYSTEM=memory\n")

    assert memory_signs(CONTAINER, groups=tmp_path, kernel_log=log).kernel_lines == (
        f"oom-kill:constraint=CONSTRAINT_MEMCG,task_memcg=/docker/{CONTAINER}",
    )
    assert memory_signs(OTHER, groups=tmp_path, kernel_log=log).kernel_lines == ()


@pytest.mark.engine
def test_a_child_killed_in_a_container_that_goes_on_leaves_its_signs(
    make_project: Callable[..., ComposeProject],
) -> None:
    eat = "import subprocess as s, sys; s.run([sys.executable, '-c', 'x = bytearray(300_000_000)']); print('fed')"
    project = make_project(f"""
        services:
          eater:
            image: roas/sample-bot:local
            network_mode: none
            init: true
            mem_limit: 32m
            memswap_limit: 32m
            healthcheck: {{disable: true}}
            command: ["sh", "-c", "python3 -c \\"{eat}\\"; sleep 600"]
    """)
    (seen,) = project.started()
    with project.engine.events.stream(project.name, seen.seen_at - timedelta(seconds=30)) as events:
        killed = next(event for event in events if event.action in ("oom", "die"))
    assert killed.action == "oom", project.engine.containers.logs(seen.container_id)
    # The engine may report it before the kernel has killed, and the process that waited for the child says so.
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while "fed" not in (said := project.engine.containers.logs(seen.container_id)):
        assert time.monotonic() < deadline, said
        time.sleep(0.1)

    signs = memory_signs(seen.container_id)
    after = project.one("eater")

    assert after.state == "running"
    found = grade_memory(after, signs, [killed])
    assert found.grade is MemoryGrade.PROVEN
    assert found.sentence.startswith("a process in it was killed")
    # Inside a container, or as another user than root, one of the two is closed to us.
    assert signs.oom_kills is None or signs.oom_kills >= 1
    assert signs.kernel_lines is None or any(seen.container_id in line for line in signs.kernel_lines)
