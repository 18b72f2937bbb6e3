"""Image names after an interrupted update: given back where nothing was replaced yet, else by the next rollback."""

from __future__ import annotations

import json
import logging

from flows.deployment.operation import OperationRecorder
from models.environments import Environment
from tasks.deployment.images import images_named, restore_names
from tasks.deployment.operations import step_of_interrupted
from tasks.deployment.services import inspect_application

log = logging.getLogger("roas")

FETCHING = "fetching"
"""Step of an operation: it begins to pull and build; its detail is the images that the names referred to before."""


async def settle_interrupted_fetch(recorder: OperationRecorder, environment: Environment) -> dict[str, str]:
    """Undo what an interrupted operation did to image names, unless a container runs an image that it fetched.

    Nothing has decided whether such images may run, nor prepared their start. Where one runs, this start goes on with
    them: it returns the images that the names referred to before, by name, for its rollback.
    """
    if recorder.steps:
        return {}
    known = await step_of_interrupted(environment.name, recorder.deployment_id, FETCHING)
    if known is None:
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
