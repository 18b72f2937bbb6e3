"""Pin an environment with a source to the revision that a user rolls it back to."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

from flows.deployment.operation import OperationRecorder
from flows.runtime.requester import requester
from models.environments import Environment
from models.records import Release
from models.sources import Pin
from tasks.deployment.source import change_state, current_revision, source_state, switch_checkout

log = logging.getLogger("roas")


@asynccontextmanager
async def pinned_to(
    recorder: OperationRecorder, environment: Environment, release: Release, asked_by: str | None
) -> AsyncIterator[None]:
    """Let the checkout be that of a release, and later syncs stay there; undone where the body fails.

    It is done before the containers change, so that a process that is killed leaves the environment pinned. An
    environment without a source is left alone.

    Raises:
        SourceError: The release's revision is not on this machine any more.
    """
    if environment.source is None:
        yield
        return
    before, earlier = await current_revision(environment), (await source_state(environment)).pin
    to = release.source
    pin = Pin(
        revision=to.revision if to is not None else "",
        by=requester(asked_by)[0],
        at=datetime.now(UTC),
        deployment_id=recorder.deployment_id,
    )
    await change_state(environment, lambda state: replace(state, pin=pin))
    try:
        if to is not None:
            await switch_checkout(environment, to)
        yield
    except BaseException:
        await change_state(environment, lambda state: replace(state, pin=earlier))
        if before is not None and to is not None and before.revision != to.revision:
            await switch_checkout(environment, before)
        raise
    recorder.facts["pinned"] = pin.revision
    log.warning(
        "%s is pinned to %s; later syncs stay there until `roas sync --unpin %s`",
        environment.name,
        to or "a release without a revision",
        environment.name,
    )
