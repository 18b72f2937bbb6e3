"""Judge what an environment needs of others now: on this host by their containers, elsewhere by the shared record."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from adapters.config.environment_files import environment_files
from adapters.config.needs import refuse_circle
from core.deployment.needs import down_words, judge_need
from flows.common.judge_health import judge_now
from models.environments import Environment
from models.failures import NeedDownError, RoasError
from models.needs import NeedState
from models.settings import current_settings
from tasks.deployment.lease import who_holds
from tasks.deployment.services import inspect_application, read_known
from tasks.reporting.needs import recorded_need, stopped_and_outage
from tasks.runtime.hosts import refuse_elsewhere_now
from tasks.runtime.project import load_project
from tasks.runtime.store_access import from_stores

log = logging.getLogger("roas")

_LOOK_AGAIN = timedelta(seconds=1)


async def judge_needs(environment: Environment) -> list[NeedState]:
    """Judge every need of an environment; one that cannot be judged is neither up nor down."""
    return list(await asyncio.gather(*(_judge(need) for need in environment.needs)))


async def wait_for_needs(environment: Environment) -> None:
    """Wait until all needs of an environment are healthy, at most as long as a start of it may take.

    Raises:
        NeedDownError: One is not, or is stopped and will not come up by itself.
        EnvironmentFileError: It needs itself through others.
    """
    await asyncio.to_thread(refuse_circle, environment, current_settings())
    until, said = datetime.now(UTC) + timedelta(seconds=environment.start_timeout_seconds), ""
    while down := [state for state in await judge_needs(environment) if not state.up]:
        words = ", and ".join(state.words for state in down)
        if datetime.now(UTC) >= until or not all(state.coming for state in down):
            starts = ", ".join(dict.fromkeys(f"`roas start {state.environment}`" for state in down))
            is_unknown = any(state.up is None and not state.coming for state in down)
            correct = f"correct needs of {environment.name}, or " if is_unknown else ""
            raise NeedDownError(
                f"{environment.name} was not touched: it needs {words};",
                advice=f"{correct}start that first: {starts}.",
            )
        if said != (said := ", ".join(state.need for state in down)):
            log.info("%s waits: it needs %s", environment.name, words)
        await asyncio.sleep(_LOOK_AGAIN.total_seconds())


async def needs_down(environment: Environment) -> str:
    """Say which needs of an environment are down now; empty where none is known to be."""
    return down_words(await judge_needs(environment)) if environment.needs else ""


async def _judge(need: str) -> NeedState:
    name = need.partition("/")[0]
    try:
        if not await asyncio.to_thread(_is_here, name):
            return await asyncio.to_thread(recorded_need, need)
        project = await load_project(name)
        application, containers = await asyncio.gather(read_known(project), inspect_application(project))
        report = await judge_now(project, application, container_states=containers)
        held = await who_holds(name) is not None
        stopped, outage = await from_stores(partial(stopped_and_outage, need=need), lambda _: (False, None))
        state = judge_need(need, report, containers, stopped=stopped, held=held)
        return replace(state, since=max(filter(None, (state.since, outage)), default=None))
    except (RoasError, OSError, TimeoutError) as error:
        return NeedState(need=need, up=None, reason=f"{error or type(error).__name__}", coming=False)


def _is_here(name: str) -> bool:
    settings = current_settings()
    if name not in environment_files(settings) or name in settings.foreign_environments:
        return False
    try:
        refuse_elsewhere_now(name)
    except RoasError:
        return False
    return True
