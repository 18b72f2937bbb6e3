"""Samples from the kernel's control groups: files of both versions, and compared with a real engine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from adapters.docker.control_groups import sample_group
from core.monitoring.measurements import uses_the_same
from tests.integration.adapters.conftest import ComposeProject

CONTAINER = "ab" * 32
DEVICES = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls
    lo: 999999    10    0    0    0     0          0         0 999999      10    0    0    0     0       0          0
  eth0:   1200    12    0    0    0     0          0         0    340       4    0    0    0     0       0          0
  eth1:     30     1    0    0    0     0          0         0      2       1    0    0    0     0       0          0
"""
SECOND = {
    "cgroup.procs": "4711\n4712\n",
    "cpu.stat": "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 9\nnr_throttled 3\n",
    "memory.current": "50000\n",
    "memory.max": "67108864\n",
    "memory.stat": "anon 30000\nfile 20000\ninactive_file 8000\nactive_file 12000\n",
    "io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n253:0 rbytes=1 wbytes=2 rios=1 wios=1\n",
    "pids.current": "7\n",
}


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """A second-version mount of groups, and the folder of processes beside it."""
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups" / "cgroup.controllers").write_text("cpu io memory pids\n")
    lay(tmp_path / "groups" / "system.slice" / f"docker-{CONTAINER}.scope", SECOND)
    lay(tmp_path / "proc" / "4711" / "net", {"dev": DEVICES})
    return tmp_path


def lay(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def read(kernel: Path, *, networked: bool = True):
    return sample_group(CONTAINER, "bot", networked=networked, groups=kernel / "groups", processes=kernel / "proc")


def test_version_two_has_every_value_of_the_engine(kernel: Path) -> None:
    seen = read(kernel)

    assert (seen.service, seen.container_id) == ("bot", CONTAINER)
    assert (seen.cpu_total_ns, seen.throttled_periods, seen.processes) == (2_500_000_000, 3, 7)
    assert (seen.memory_bytes, seen.memory_limit_bytes) == (42_000, 67_108_864)
    assert (seen.network_rx_bytes, seen.network_tx_bytes) == (1230, 342)
    assert (seen.block_read_bytes, seen.block_write_bytes) == (4097, 8194)


def test_the_other_driver_without_limit_or_disk_is_read_too(kernel: Path) -> None:
    files = SECOND | {"memory.max": "max\n"}
    del files["io.stat"]
    (kernel / "groups" / "system.slice").rename(kernel / "gone")
    lay(kernel / "groups" / "docker" / CONTAINER, files)

    seen = read(kernel)

    assert seen.memory_limit_bytes == psutil.virtual_memory().total
    assert (seen.block_read_bytes, seen.block_write_bytes) == (0, 0)


def test_the_network_of_the_host_is_not_counted_for_a_container(kernel: Path) -> None:
    seen = read(kernel, networked=False)

    assert (seen.network_rx_bytes, seen.network_tx_bytes) == (0, 0)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("cgroup.procs", ""),
        ("cgroup.procs", "0\n"),
        ("cgroup.procs", "4999\n"),
        ("cpu.stat", "nr_throttled 3\n"),
        ("memory.current", "a lot\n"),
        ("memory.stat", "anon 30000\n"),
        ("pids.current", ""),
    ],
)
def test_what_cannot_be_read_whole_is_not_reported_at_all(kernel: Path, file: str, text: str) -> None:
    (kernel / "groups" / "system.slice" / f"docker-{CONTAINER}.scope" / file).write_text(text)

    assert read(kernel) is None


def test_a_container_of_another_machine_has_no_group_here(tmp_path: Path) -> None:
    assert read(tmp_path) is None


@pytest.mark.engine
def test_this_kernel_says_what_the_engine_says(make_project: Callable[..., ComposeProject]) -> None:
    project = make_project("""\
services:
  busy:
    image: IMAGE
    command: [sh, -c, "head -c 3000000 /dev/zero > /tmp/file; sync; while :; do cat /tmp/file | wc -c; sleep 0.1; done"]
    mem_limit: 64m
  host:
    image: IMAGE
    command: [sleep, infinity]
    network_mode: host
""")
    project.started()

    engines = project.engine.statistics.samples(project.name)
    groups = [sample_group(one.container_id, one.service, networked=one.service == "busy") for one in engines]
    again = project.engine.statistics.samples(project.name)

    assert [one.service for one in engines] == [one.service for one in groups] == [one.service for one in again]
    assert all(map(uses_the_same, engines, groups))
    assert all(map(uses_the_same, groups, again))
    assert {one.service: one.memory_limit_bytes for one in again} == {
        "busy": 64 * 2**20,
        "host": psutil.virtual_memory().total,
    }
    assert {one.service: one.network_rx_bytes > 0 for one in again} == {"busy": True, "host": False}


@pytest.mark.engine
def test_what_starts_anew_is_measured_anew(make_project: Callable[..., ComposeProject]) -> None:
    project = make_project("services: {bot: {image: IMAGE, command: FOREVER}}")
    project.started()
    bot = project.one("bot").container_id
    before = [project.engine.statistics.samples(project.name) for _ in range(2)][-1]

    project.engine.containers.stop(bot, timedelta())
    gone = project.engine.statistics.samples(project.name)
    project.engine.containers.start(bot)
    back = [project.engine.statistics.samples(project.name) for _ in range(2)][-1]

    assert [one.container_id for one in (*before, *back)] == [bot, bot]
    assert gone == []
    assert back[0].sampled_at > before[0].sampled_at
