"""When a Prefect worker of ours calls itself healthy."""

from __future__ import annotations

import pytest
from prefect.workers.base import BaseWorker
from prefect.workers.process import ProcessWorker

from flows.common.server_outages import call_unsynced_workers_unhealthy


def test_a_worker_is_healthy_once_it_knows_its_pool_and_asks_for_work(monkeypatch: pytest.MonkeyPatch) -> None:
    # Put back what the call replaces for the whole process.
    monkeypatch.setattr(BaseWorker, "is_worker_still_polling", BaseWorker.is_worker_still_polling)
    call_unsynced_workers_unhealthy()
    worker = ProcessWorker(work_pool_name="roas")

    assert not worker.is_worker_still_polling(query_interval_seconds=1)
    worker._has_successfully_synced = True
    assert worker.is_worker_still_polling(query_interval_seconds=1)
    assert not worker.is_worker_still_polling(query_interval_seconds=0)
