"""Tests whose flows make no task runs, as the agent calls them; what those record is proven in tests/e2e/flows."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tasks.runtime.plain_tasks import without_task_runs


@pytest.fixture(autouse=True)
async def tasks_make_no_runs() -> AsyncIterator[None]:
    """A task run costs its server more than most tasks cost."""
    with without_task_runs():
        yield
