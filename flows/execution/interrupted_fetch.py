"""What an interrupted start has left: containers that were half replaced, and names of images that it fetched."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from flows.operation.recorder import OperationRecorder
from models.operations import OperationStep
from tasks.deployment.images import images_named, restore_names
from tasks.deployment.operations import interrupted_steps
from tasks.deployment.services import inspect_application, settle_half_replaced

log = logging.getLogger("roas")

FETCHING = "fetching"
"""Step of an operation: it begins to pull and build; its detail is the images that the names referred to before."""


FETCHING_FOR_HOOKS = "fetching for hooks"
"""Step of an update: it begins to pull and build images that hooks alone run; its detail is as that of FETCHING."""


def names_before(steps: Sequence[OperationStep]) -> dict[str, str] | None:
    """The images that names referred to before an operation fetched, by name, of its steps; None before it fetched."""
    details = {step.step: step.detail for step in steps if step.step in (FETCHING, FETCHING_FOR_HOOKS)}
    return (
        None
        if not details
        else json.loads(details.get(FETCHING_FOR_HOOKS, "{}")) | json.loads(details.get(FETCHING, "{}"))
    )


async def settle_interrupted(recorder: OperationRecorder) -> dict[str, str]:
    """Undo what an interrupted start has half done to containers, and what it did to image names.

    Nothing has decided whether fetched images may run, nor prepared their start, unless a container runs one already.
    This start then goes on with them: it returns the images that the names referred to before, by name, for its
    rollback.
    """
    steps = recorder.steps or await interrupted_steps(recorder.name, recorder.deployment_id)
    if not steps:
        return {}
    await settle_half_replaced(recorder.project)
    before = names_before(steps)
    if recorder.steps or before is None:
        return {}
    now = await images_named(recorder.project, before)
    moved = {name: image_id for name, image_id in before.items() if now.get(name, "") != image_id}
    used = {container.image_id for container in await inspect_application(recorder.project)}
    if used & {now[name] for name in moved if name in now}:
        return before
    if moved and (restored := await restore_names(recorder.project, moved)):
        recorder.record.image_names_restored = tuple(restored)
        log.warning(
            "an interrupted update had fetched images and replaced no container: %s", _describe_restored(restored)
        )
    return {}


def _describe_restored(names: list[str]) -> str:
    verb = "refers" if len(names) == 1 else "refer"
    return f"{', '.join(names)} {verb} to the earlier image again"
