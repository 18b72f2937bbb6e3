"""What failed in an update is kept as an unproven release, so that no update takes it again until a user lifts it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from flows.operation.recorder import OperationRecorder
from models.failures import RoasError
from models.records import Release
from tasks.deployment.release import has_failed_before, hold_back

log = logging.getLogger("roas")


async def keep_failed_release(recorder: OperationRecorder, tried: Callable[[], Awaitable[Release | None]]) -> None:
    """Keep what was tried, once an operation; images whose digests it has are held back. None: nothing is to blame."""
    try:
        if await has_failed_before(recorder.deployment_id, recorder.environment.name):
            return
        release = await tried()
        if release is None:
            return
        await hold_back(release)
    except RoasError as trouble:
        log.warning("the image that failed is not held back: %s", await recorder.without_secrets(trouble))
        return
    if release.digests:
        recorder.record.held_back = release.digests
        held = ", ".join(f"{name} {digest}" for name, digest in release.digests.items())
        log.warning("held back until a user lifts it: %s", held)
