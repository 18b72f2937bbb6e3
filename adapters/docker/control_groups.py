"""Resource use of this machine's containers, read from the kernel's control groups instead of the engine."""

# A Path takes as long to build as one of these files to read.
# ruff: noqa: PTH110, PTH112, PTH123

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import psutil

from models.containers import ServiceSample

GROUPS = Path("/sys/fs/cgroup")
_PROCESSES = Path("/proc")
_NANOSECONDS_A_MICROSECOND = 1000
_SENT = 8
"""Column of the bytes sent by an interface; the first column is the bytes received (proc_pid_net(5))."""


def places(container_id: str) -> tuple[str, str]:
    """The folders in which the two usual drivers put a container's group, below the mount."""
    return f"docker/{container_id}", f"system.slice/docker-{container_id}.scope"


def sample_group(
    container_id: str, service: str, *, networked: bool, groups: Path = GROUPS, processes: Path = _PROCESSES
) -> ServiceSample | None:
    """Sample a container as the engine would; its network only if it has its own (`networked`).

    None if the kernel does not show it here: the engine is on another machine or puts its groups elsewhere, or the
    container has just ended.
    """
    read = _second_version if os.path.exists(f"{groups}/cgroup.controllers") else _first_version
    try:
        numbers, leader = read(container_id, str(groups))
        received, sent = _network(f"{processes}/{leader}/net/dev") if networked else (0, 0)
    except (OSError, ValueError, KeyError, IndexError):
        return None
    return ServiceSample(
        service=service,
        container_id=container_id,
        sampled_at=datetime.now(UTC),
        network_rx_bytes=received,
        network_tx_bytes=sent,
        **numbers,
    )


def _second_version(container_id: str, groups: str) -> tuple[dict[str, int], str]:
    """By the kernel's admin-guide/cgroup-v2."""
    folder = _existing_group(groups, container_id)
    processor, limit = _table(f"{folder}/cpu.stat"), _text(f"{folder}/memory.max").strip()
    lines = _text_if_there(f"{folder}/io.stat").splitlines()
    devices = [dict(word.split("=") for word in line.split()[1:]) for line in lines]
    reclaimable = _table(f"{folder}/memory.stat")["inactive_file"]
    return {
        "cpu_total_ns": processor["usage_usec"] * _NANOSECONDS_A_MICROSECOND,
        "throttled_periods": processor.get("nr_throttled", 0),
        "memory_bytes": max(0, _number(f"{folder}/memory.current") - reclaimable),
        "memory_limit_bytes": _memory_of_machine() if limit == "max" else min(int(limit), _memory_of_machine()),
        "block_read_bytes": sum(int(device.get("rbytes", 0)) for device in devices),
        "block_write_bytes": sum(int(device.get("wbytes", 0)) for device in devices),
        "processes": _number(f"{folder}/pids.current"),
    }, _leader(folder)


def _first_version(container_id: str, groups: str) -> tuple[dict[str, int], str]:
    """By the kernel's admin-guide/cgroup-v1, where each controller has a tree of its own."""
    memory = _existing_group(f"{groups}/memory", container_id)
    place = memory.removeprefix(f"{groups}/memory/")
    blocks = _text_if_there(f"{groups}/blkio/{place}/blkio.throttle.io_service_bytes_recursive").splitlines()
    devices = [line.split()[1:] for line in blocks if not line.startswith("Total")]
    reclaimable = _table(f"{memory}/memory.stat")["total_inactive_file"]
    return {
        "cpu_total_ns": _number(f"{groups}/cpuacct/{place}/cpuacct.usage"),
        "throttled_periods": _table(f"{groups}/cpu/{place}/cpu.stat").get("nr_throttled", 0),
        "memory_bytes": max(0, _number(f"{memory}/memory.usage_in_bytes") - reclaimable),
        "memory_limit_bytes": min(_number(f"{memory}/memory.limit_in_bytes"), _memory_of_machine()),
        "block_read_bytes": sum(int(size) for kind, size in devices if kind == "Read"),
        "block_write_bytes": sum(int(size) for kind, size in devices if kind == "Write"),
        "processes": _number(f"{groups}/pids/{place}/pids.current"),
    }, _leader(f"{groups}/pids/{place}")


def _network(devices: str) -> tuple[int, int]:
    """Bytes received and sent by all interfaces but the loopback."""
    received = sent = 0
    for line in _text(devices).splitlines()[2:]:
        name, _, numbers = line.partition(":")
        if name.strip() != "lo":
            words = numbers.split()
            received, sent = received + int(words[0]), sent + int(words[_SENT])
    return received, sent


def _existing_group(groups: str, container_id: str) -> str:
    for place in places(container_id):
        if os.path.isdir(f"{groups}/{place}"):
            return f"{groups}/{place}"
    raise FileNotFoundError(container_id)


def _leader(folder: str) -> str:
    """A process of the group. Processes of another PID namespace are shown as 0 and cannot be read."""
    leader = _text(f"{folder}/cgroup.procs").split()[0]
    if leader == "0":
        raise ProcessLookupError(folder)
    return leader


def _table(file: str) -> dict[str, int]:
    words = _text(file).split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


def _number(file: str) -> int:
    return int(_text(file))


def _text(file: str) -> str:
    with open(file, "rb", buffering=0) as opened:
        return opened.read().decode("ascii")


def _text_if_there(file: str) -> str:
    """The text, or an empty one if the controller is disabled."""
    try:
        return _text(file)
    except FileNotFoundError:
        return ""


@lru_cache(maxsize=1)
def _memory_of_machine() -> int:
    return int(psutil.virtual_memory().total)
