"""What an update does around the replacement of containers: before the first one, and after the last is proven."""

from __future__ import annotations

from dataclasses import dataclass

from flows.deployment.operation import OperationRecorder
from models.compose import Application, Plan
from models.environments import Environment
from models.health import HealthReport
from models.records import Release


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateContext:
    """One update: the images are fetched, and `plan` says which containers it replaces.

    `release` is the last proven one, None for an application's first start.
    """

    recorder: OperationRecorder
    environment: Environment
    application: Application
    plan: Plan
    release: Release | None


async def before_fetched_images_run(update: UpdateContext) -> None:
    """Decide whether the fetched images may run; nothing that runs was touched, and nothing needs a rollback.

    Raises:
        RoasError: They may not; the images get their names back.
    """


async def before_containers_change(update: UpdateContext) -> None:
    """Prepare the replacement of containers, such as by saving data; a failure is rolled back.

    Raises:
        RoasError: A step failed.
    """


async def after_proof(update: UpdateContext, health: HealthReport) -> None:
    """Do what follows once all services are proven, before the release is kept; a failure is rolled back.

    Raises:
        StartFailedError: The release does not hold.
    """
