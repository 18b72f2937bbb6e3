"""What is done by the clock: the agent says what did not begin in time, or was cut off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import timedelta

from httpx import HTTPError
from prefect import get_client
from prefect.exceptions import PrefectException

from flows.schedules.judge import judge_schedules
from flows.schedules.scheduled import scheduled
from models.failures import RoasError
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
