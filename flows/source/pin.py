"""Pin an environment with a source to the revision that a user rolls it back to."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pydantic import TypeAdapter

from flows.common.requester import requester
from flows.operation.recorder import OperationRecorder
from models.records import Release
from models.sources import Pin, SourceRevision
from tasks.deployment.source import change_state, current_revision, source_state, switch_checkout

log = logging.getLogger("roas")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Before:
    """The checkout and the pin before a rollback."""

    revision: SourceRevision | None
    pin: Pin | None


_BEFORE = TypeAdapter(_Before)
_BEFORE_PIN = "before the pin"
"""Step of a rollback: which revision was checked out, and whether syncs were pinned; the detail says both."""


@asynccontextmanager
async def pin_to(recorder: OperationRecorder, release: Release, asked_by: str | None) -> AsyncIterator[None]:
    """Let the checkout be that of a release, and later syncs stay there; undone where the body fails.

    It is done before the containers change, so that a process that is killed leaves the environment pinned. An
    environment without a source is left alone.

    Raises:
        SourceError: The release's revision is not on this machine any more.
    """
    environment = recorder.environment
    if environment.source is None:
        yield
        return
    if (detail := recorder.step_detail(_BEFORE_PIN)) is None:
        before = _Before(revision=await current_revision(environment), pin=(await source_state(environment)).pin)
        await recorder.step(_BEFORE_PIN, detail=_BEFORE.dump_json(before).decode())
    else:
        before = _BEFORE.validate_json(detail)
    to = release.source
    pin = Pin(
        revision=to.revision if to is not None else "",
        by=requester(asked_by)[0],
        at=datetime.now(UTC),
        deployment_id=recorder.deployment_id,
    )
    try:
        if (failure := recorder.earlier_failure) is not None:
            raise failure
        await change_state(environment, lambda state: replace(state, pin=pin))
        if to is not None:
            await switch_checkout(environment, to)
        yield
    except BaseException:
        await change_state(environment, lambda state: replace(state, pin=before.pin))
        current = await current_revision(environment)
        if before.revision is not None and current is not None and current.revision != before.revision.revision:
            await switch_checkout(environment, before.revision)
        raise
    recorder.record.pinned = pin.revision
    log.warning(
        "%s is pinned to %s; later syncs stay there until `roas sync --unpin %s`",
        environment.name,
        to or "a release without a revision",
        environment.name,
    )
