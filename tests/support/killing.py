"""Processes that are killed right before one of their statements to a store."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import sqlalchemy as sa


def live_until(statement: int, live: Callable[[], object]) -> bool:
    """Live something in a child that is killed before this statement; True where it ended before that.

    The child must end well or be killed: anything else fails the test.
    """
    child = os.fork()
    if child == 0:
        left = statement

        def count(*_: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sa.event.listen(sa.Engine, "before_cursor_execute", count)
        sa.event.listen(sa.Engine, "commit", count)
        try:
            live()
        except BaseException:  # noqa: BLE001 - the test's own process must not go on in a child
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status == 0 or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL), status
    return status == 0
