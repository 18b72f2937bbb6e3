"""How programs end is said in words."""

from __future__ import annotations

import signal

import pytest

from core.common.exit_codes import describe_end


@pytest.mark.parametrize(
    ("code", "memory_ran_out", "words"),
    [
        (3, False, "ended with exit code 3"),
        (3, True, "ended with exit code 3"),
        (-9, True, "was killed by the kernel, since memory ran out"),
        (137, True, "was killed by the kernel, since memory ran out"),
        (-9, False, "was killed by SIGKILL"),
        (137, False, "ended with exit code 137"),
        (-15, True, "was killed by SIGTERM"),
        (-(signal.SIGRTMIN + 1), False, f"was killed by signal {signal.SIGRTMIN + 1}"),
    ],
)
def test_only_a_kill_is_put_down_to_the_memory(code: int, memory_ran_out: bool, words: str) -> None:
    assert describe_end(code, memory_ran_out=memory_ran_out) == words
