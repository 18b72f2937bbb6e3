"""What is done by the clock: the agent says what did not begin in time, or was cut off, and what was left open."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from httpx import HTTPError
from prefect import get_client
from prefect.exceptions import PrefectException

from adapters.host.own_command import BegunCommand, begin_own_command
from adapters.host.processes import boot_id
from core.deployment.maintenance import goes_up
from flows.schedules.judge import judge_schedules
from flows.schedules.scheduled import scheduled
from models.failures import RoasError
from tasks.deployment.maintenance import begin_quiet, maintenance_lock, note_boot, read_maintenance
from tasks.recovery.drills import end_left_drill
from tasks.runtime.clients import load_environment
from tasks.runtime.plain_tasks import has_server

log = logging.getLogger("roas")

EVERY = timedelta(seconds=30)


async def is_paused(environment: str, schedule: str) -> bool:
    """Whether a person paused a schedule on the Prefect server, by itself or with its deployment.

    False without a server, or where it does not answer: then nothing runs by the clock either.
    """
    if not has_server():
        return False
    try:
        async with get_client() as client:
            deployment = await client.read_deployment_by_name(f"{scheduled.name}/{environment}")
    except (HTTPError, PrefectException, RuntimeError, ValueError):
        return False
    active = {one.slug: one.active for one in deployment.schedules}
    return deployment.paused or not active.get(schedule, True)


async def keep_judging(carried: Callable[[], Iterable[str]], every: timedelta = EVERY) -> None:
    """Judge the schedules of the environments that an agent carries, until this is cancelled.

    Drills that a dead process left are ended. What cannot be judged is logged once, and tried again.
    """
    logged: dict[str, str] = {}
    judged: set[str] = set()
    while True:
        for name in carried():
            try:
                environment = await load_environment(name)
                if environment.schedules or name in judged:
                    judged.add(name)
                    await judge_schedules(environment, is_paused=is_paused)
                await end_left_drill(name)
                logged.pop(name, None)
            except (RoasError, OSError) as error:
                if logged.get(name) != str(error):
                    logged[name] = str(error)
                    log.warning("schedules and drills of %s cannot be looked after: %s", name, error)
        await asyncio.sleep(every.total_seconds())


async def prepare_after_boot() -> None:
    """Let an unannounced boot be one event; before the first watch, which recovers each container."""
    try:
        if (left := await note_boot()) is not None:
            await begin_quiet(left)
    except (RoasError, OSError) as error:
        log.warning("whether the machine has booted is not known: %s", error)


async def keep_bringing_up(every: timedelta = EVERY) -> None:
    """Bring up what a maintenance left that no process carries, once that is due, until this is cancelled."""
    command: BegunCommand | None = None
    while True:
        try:
            left, now = read_maintenance(), datetime.now(UTC)
            is_due = left is not None and goes_up(left, boot=boot_id(), now=now) and maintenance_lock().holder() is None
            if is_due and (command is None or command.code is not None):
                # With Prefect's other variables a command takes itself for a server. It outlives this agent.
                names = (name for name in os.environ if name[:12] == "PREFECT_API_" or name[:8] != "PREFECT_")
                kept = {name: os.environ[name] for name in names}
                command = begin_own_command(["host", "maintain", "--end"], variables=kept, folder=None)
                log.info("what the maintenance stopped is brought up")
        except (RoasError, OSError) as error:
            log.warning("what a maintenance stopped cannot be brought up: %s", error)
        await asyncio.sleep(every.total_seconds())
