"""What an interrupted start has left: containers that were half replaced, and names of images that it fetched."""

from __future__ import annotations

import json
import logging

from flows.deployment.operation import OperationRecorder
from models.environments import Environment
from tasks.deployment.images import images_named, restore_names
from tasks.deployment.operations import interrupted_steps
from tasks.deployment.services import inspect_application, settle_half_replaced

log = logging.getLogger("roas")

FETCHING = "fetching"
"""Step of an operation: it begins to pull and build; its detail is the images that the names referred to before."""


async def settle_interrupted(recorder: OperationRecorder, environment: Environment) -> dict[str, str]:
    """Undo what an interrupted start has half done to containers, and what it did to image names.

    Nothing has decided whether fetched images may run, nor prepared their start, unless a container runs one already.
    This start then goes on with them: it returns the images that the names referred to before, by name, for its
    rollback.
    """
    steps = recorder.steps or await interrupted_steps(environment.name, recorder.deployment_id)
    if not steps:
        return {}
    await settle_half_replaced(environment)
    known = next((one.detail for one in steps if one.step == FETCHING), None)
    if recorder.steps or known is None:
        return {}
    before: dict[str, str] = json.loads(known)
    now = await images_named(environment, before)
    moved = {name: image_id for name, image_id in before.items() if now.get(name) != image_id}
    used = {one.image_id for one in await inspect_application(environment)}
    if used & {now[name] for name in moved if name in now}:
        return before
    if moved and (restored := await restore_names(environment, moved)):
        recorder.facts["image_names_restored"] = restored
        log.warning("an interrupted update had fetched images and replaced no container: %s", _restored(restored))
    return {}


def _restored(names: list[str]) -> str:
    verb = "refers" if len(names) == 1 else "refer"
    return f"{', '.join(names)} {verb} to the earlier image again"
