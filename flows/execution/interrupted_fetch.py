"""What an interrupted start has left: containers that were half replaced, and names of images that it fetched."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence

from flows.operation.recorder import OperationRecorder
from flows.operation.steps import OperationRun, Step
from models.operations import OperationStep
from tasks.deployment.images import images_named, restore_names
from tasks.deployment.operations import interrupted_steps
from tasks.deployment.services import inspect_application, settle_half_replaced

log = logging.getLogger("roas")

FETCHING = "fetching"
"""Step of an operation: it begins to pull and build; its detail is the images that the names referred to before."""


FETCHING_FOR_HOOKS = "fetching for hooks"
"""Step of an update: it begins to pull and build images that hooks alone run; its detail is as that of FETCHING."""

NAMES_BACK = "gave image names back"
"""Step of an operation: names that an interrupted one had moved refer to their earlier images; the detail is which."""
_DECIDING = frozenset({FETCHING, FETCHING_FOR_HOOKS, NAMES_BACK})


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
    Then they are left, and what their names referred to before is returned, by name: a start goes on with them.
    """
    steps = await interrupted_steps(recorder.name, recorder.deployment_id, _DECIDING)
    if steps or recorder.steps:
        await settle_half_replaced(recorder.project)
    if not (before := names_before(steps)):
        return {}
    now = await images_named(recorder.project, before)
    moved = {name: image_id for name, image_id in before.items() if now.get(name, "") != image_id}
    used = {container.image_id for container in await inspect_application(recorder.project)}
    if used & {now[name] for name in moved if name in now}:
        return before
    if moved and (restored := await give_back(recorder, moved)):
        await recorder.step(NAMES_BACK, detail=json.dumps(restored))
        log.warning("an interrupted update had fetched images that no container uses: %s", _describe_restored(restored))
    return {}


async def _settle_names(run: OperationRun) -> None:
    await settle_interrupted(run.recorder)


SETTLE_NAMES = Step("settle names", _settle_names)
"""Gives names back that an interrupted update moved, where no container uses what it fetched."""


async def give_back(recorder: OperationRecorder, names: Mapping[str, str]) -> list[str]:
    """Let names refer to these images again, and put into the record which had moved."""
    if restored := await restore_names(recorder.project, names):
        recorder.record.image_names_restored = tuple(restored)
    return restored


def _describe_restored(names: list[str]) -> str:
    verb = "refers" if len(names) == 1 else "refer"
    return f"{', '.join(names)} {verb} to the earlier image again"
