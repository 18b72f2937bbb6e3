"""The small real application of the flows' tests."""

from __future__ import annotations

from tests.e2e.flows.conftest import place
from tests.support.plain_tasks import tasks_make_no_runs

__all__ = ["place", "tasks_make_no_runs"]
