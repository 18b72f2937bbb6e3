"""Runs and workers outlive a Prefect server that is away or has forgotten them."""

from __future__ import annotations

import asyncio
import threading
from uuid import uuid4

import pytest
from prefect import flow_engine
from prefect.workers import base

import flows.deployment.startup  # noqa: F401 - as in the process of a run, which imports its flow first
from flows.common.server_outages import keep_asking_the_server

pytestmark = [pytest.mark.flow, pytest.mark.campaign]


async def test_a_lease_that_the_server_forgot_cancels_no_run() -> None:
    forgotten = uuid4()
    async with flow_engine.amaintain_concurrency_lease(forgotten, 300, raise_on_lease_renewal_failure=True):
        (renewing,) = [one for one in threading.enumerate() if one.name.endswith(str(forgotten))]
        await asyncio.to_thread(renewing.join, 60)
        assert not renewing.is_alive()
        await asyncio.sleep(0)


async def test_a_worker_asks_on_after_its_server_was_away_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    monkeypatch.setattr(base, "critical_service_loop", base.critical_service_loop)
    keep_asking_the_server()
    asked, answered = 0, asyncio.Event()

    async def ask() -> None:
        nonlocal asked
        asked += 1
        if asked <= 30:
            raise httpx.ConnectError("the server is away")
        answered.set()

    async with asyncio.timeout(300):
        asking = asyncio.create_task(base.critical_service_loop(ask, 0, backoff=4, printer=lambda *_: None))
        await answered.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    assert asked > 30
