"""Reloads of proxies that a start began: each ends before the start does, and none is forgotten."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flows.execution.execute import _StartExecution
from models.compose import Application, Plan
from models.environments import Environment
from tasks.runtime.project import Project


async def test_a_reload_that_fails_unexpectedly_lets_the_others_end_and_fails_the_start_afterwards() -> None:
    environment = Environment(name="shop", project="shop", compose_files=(Path("compose.yaml"),))
    application = Application(project="shop", services={}, networks=(), volumes=())
    nothing = cast("Any", None)
    recorder = cast("Any", SimpleNamespace(started_at=datetime(2026, 11, 29, tzinfo=UTC), project=Project(environment)))
    plan = Plan(project="shop", services=(), waves=())
    start = _StartExecution(recorder, environment, application, {}, plan, nothing, nothing)
    failed = asyncio.Event()

    async def fail() -> None:
        failed.set()
        raise ConnectionError("the server of runs is gone")

    async def end_later() -> None:
        await failed.wait()
        for _ in range(10):
            await asyncio.sleep(0)

    later = asyncio.create_task(end_later())
    start._following += [asyncio.create_task(fail()), later]

    await start.end_reloads()

    assert later.done()
    with pytest.raises(ConnectionError):
        await start.settle_proxies()
