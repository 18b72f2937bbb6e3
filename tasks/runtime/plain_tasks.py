"""Tasks without task runs: plain calls that keep their retry policy and need no Prefect server.

The agent watches many environments in one process, for as long as the machine runs. A task run for each read would be
written to a server that may be away, and would grow its database without end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from prefect.settings import PREFECT_API_URL

_plain: ContextVar[bool] = ContextVar("without_task_runs", default=False)


@contextmanager
def without_task_runs() -> Iterator[None]:
    """Let tasks that are called in the body, and in what it begins, make no task runs."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def makes_task_runs() -> bool:
    """Whether a task called now would make a task run."""
    return not _plain.get()


def has_server() -> bool:
    """Whether there is a Prefect server to talk to: for a flow always, for the agent only where one is named."""
    return makes_task_runs() or PREFECT_API_URL.value() is not None
