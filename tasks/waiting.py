"""Wait until a service is well: by its own health check and probe, twice in a row."""

from __future__ import annotations

import asyncio
import time

from prefect import task

from adapters.probes import run_probe
from adapters.secrets import secret_values
from core.health import judge_service
from models.environments import Environment
from models.failures import StartFailedError
from models.health import ServiceHealth
from tasks.doors import engine_of
from tasks.patience import ACT

_LOOK_EVERY_SECONDS = 0.5
_WELL = frozenset({ServiceHealth.HEALTHY, ServiceHealth.COMPLETED})


@task(name="recovery step: verify", task_run_name="verify {service}", **ACT)
async def wait_until_well(environment: Environment, service: str) -> str:
    """Wait for two healthy looks in a row, at most as long as the environment's policy says.

    Raises:
        StartFailedError: It did not become well in time; the message says what was seen last.
    """
    engine, spec = engine_of(environment), environment.service(service)
    secrets = await asyncio.to_thread(secret_values, environment)
    began = time.monotonic()
    well = 0
    while True:
        sightings = await asyncio.to_thread(engine.sightings, environment.project, service)
        mine = [seen for seen in sightings if not seen.one_off]
        probe = None
        if spec.probe is not None and any(seen.state == "running" for seen in mine):
            probe = await run_probe(spec.probe, service, project=environment.project, engine=engine, secrets=secrets)
        verdict = judge_service(service, mine, probe, spec=spec)
        well = well + 1 if verdict.health in _WELL else 0
        seconds = time.monotonic() - began
        if well == 2:
            return f"{service} is {verdict.health} after {seconds:.1f} s: {verdict.reason}"
        if seconds > environment.recovery.verify_timeout_seconds:
            raise StartFailedError(
                f"{service} was not well {seconds:.0f} s after its recovery step, last seen {verdict.health}: "
                f"{verdict.reason}",
                service=service,
            )
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
