"""Updates, rollbacks, restores and syncs; that each of their tasks is a run of Prefect is proven in e2e/flows."""

from __future__ import annotations

from tests.support.plain_tasks import tasks_make_no_runs

__all__ = ["tasks_make_no_runs"]
