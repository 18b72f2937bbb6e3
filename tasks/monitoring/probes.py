"""Probes: ask a service whether it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from adapters.compose.variables import secret_values
from adapters.probes import run_probe
from models.containers import ContainerState
from models.environments import Environment
from models.health import ProbeResult
from tasks.runtime.clients import engine_of
from tasks.runtime.retry_policy import retry_read


@retry_read
async def probe_service(
    environment: Environment, service: str, container_states: Sequence[ContainerState] | None = None
) -> ProbeResult:
    """What the environment's own probe of a service answers; a service that fails it is an answer too.

    `container_states` are its project's containers, where they were looked at just now.
    """
    probe = environment.service(service).probe
    if probe is None:
        raise ValueError(f"{service} has no probe in environment {environment.name}")
    secrets = await asyncio.to_thread(secret_values, environment)
    return await run_probe(
        probe,
        service,
        project=environment.project,
        engine=engine_of(environment),
        secrets=secrets,
        container_states=container_states,
    )
