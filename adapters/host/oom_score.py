"""Which process the kernel ends first where memory runs out: of two of one size, the one with the higher score."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_OWN = Path("/proc/self/oom_score_adj")
_MORE, _MOST = 300, 1000
"""Thousandths of the memory: a process counts as if it had that much more (proc_pid_oom_score_adj(5))."""

_before: list[str] = []


def end_before_others() -> None:
    """Let this process be ended before others: another one can take its place, and nothing is lost with it."""
    with suppress(OSError, ValueError):
        if not _before:
            _before.append(_OWN.read_text().strip())
        _OWN.write_text(str(min(_MOST, int(_before[0]) + _MORE)))


def spare_as_before(process: int | None = None) -> None:
    """Let this process, or a child of it, have the score that this one had: what it does must not be cut off first."""
    with suppress(OSError):
        for before in _before:
            Path(f"/proc/{process or 'self'}/oom_score_adj").write_text(before)


def take_score(score: str) -> None:
    """Give this process a score that another one has.

    Raises:
        OSError: It may not have a lower one.
    """
    if score and score != _OWN.read_text().strip():
        _OWN.write_text(score)
