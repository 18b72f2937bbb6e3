"""Out-of-memory kills as the kernel reports them: its counter for a container, and its log."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from adapters.docker.control_groups import GROUPS, places
from models.evidence import MemorySigns

_KERNEL_LOG = Path("/dev/kmsg")
_RECORD_BYTES = 8192
"""The kernel returns one record per read, and refuses a buffer that is too small for it."""
_MOST_RECORDS = 50_000
_MOST_LINES = 8

_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def memory_signs(container_id: str, *, groups: Path = GROUPS, kernel_log: Path = _KERNEL_LOG) -> MemorySigns:
    """Read the kernel's out-of-memory kills of a container of this machine, and the log lines that name it.

    The counter is None once the container has ended; the log is None if this user may not read it.
    """
    return MemorySigns(oom_kills=_oom_kills(container_id, groups), kernel_lines=_kernel_lines(container_id, kernel_log))


def _oom_kills(container_id: str, groups: Path) -> int | None:
    roots = (groups, groups / "memory", groups / "unified")
    for folder in (root / place for root in roots for place in places(container_id)):
        # Version 2 of control groups counts in the first file, version 1 in the second.
        for name in ("memory.events", "memory.oom_control"):
            try:
                reported = (folder / name).read_text(encoding="ascii")
            except OSError:
                continue
            if match := _COUNT.search(reported):
                return int(match[1])
    return None


def _kernel_lines(container_id: str, kernel_log: Path) -> tuple[str, ...] | None:
    try:
        log = os.open(kernel_log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    lines: list[str] = []
    try:
        for _ in range(_MOST_RECORDS):
            try:
                record = os.read(log, _RECORD_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.EPIPE:
                    # The record was overwritten while we read; the next one is there.
                    continue
                return None
            if not record:
                break
            text = record.decode("utf-8", "replace")
            if container_id in text and "oom" in text.lower():
                lines.append(text.partition(";")[2].partition("\n")[0])
    finally:
        os.close(log)
    return tuple(lines[-_MOST_LINES:])
