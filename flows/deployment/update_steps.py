"""What an update does around the replacement of containers: before the first one, and after the last is proven."""

from __future__ import annotations

from flows.deployment.gate import check_gate
from flows.deployment.hooks import fetch_for_hooks, run_after_hooks, run_before_hooks
from flows.deployment.release_notes import note_what_changes
from flows.deployment.saved_data import save_before_update
from flows.deployment.update_context import UpdateContext
from models.health import HealthReport


async def before_fetched_images_run(update: UpdateContext) -> None:
    """Decide whether the fetched images may run; nothing that runs was touched, and nothing needs a rollback.

    Raises:
        RoasError: They may not; the images get their names back.
    """
    await note_what_changes(update.recorder, update.plan)
    # Hooks run new images too, so the gate judges those as well.
    await check_gate(await fetch_for_hooks(update))


async def before_containers_change(update: UpdateContext) -> None:
    """Prepare the replacement of containers, such as by saving data; a failure is rolled back.

    Raises:
        RoasError: A step failed.
    """
    await note_what_changes(update.recorder, update.plan)
    # Before a migration changes it.
    await save_before_update(update)
    await run_before_hooks(update)


async def after_proof(update: UpdateContext, health: HealthReport) -> None:
    """Do what follows once all services are proven, before the release is kept; a failure is rolled back.

    Raises:
        StartFailedError: The release does not hold.
    """
    await run_after_hooks(update)
