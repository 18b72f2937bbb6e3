"""Preview: find out what an action would do on this host, for the page of a server that reaches no engine."""

from __future__ import annotations

import logging
from typing import Any

from prefect import flow
from prefect.artifacts import Artifact
from pydantic import Field

from core.runtime.page_actions import ACTIONS, PREVIEW_ARTIFACT, RUN_PREVIEWS, preview_words
from flows.common import parameters
from models.failures import BadInputError, RoasError
from tasks.runtime.command_documents import ask_command

log = logging.getLogger("roas")


@flow(name="preview", flow_run_name="preview of {action} of {environment}")
async def preview(
    environment: parameters.EnvironmentName = parameters.ENVIRONMENT,
    action: str = Field(description="What would be done: start, update, rollback or restore."),
    release: str | None = Field(None, description="Of a rollback: the release's id; without it the one proven before."),
    snapshot: str | None = Field(None, description="Of a restore: the snapshot's id; without it the newest."),
    with_data: bool = Field(False, description="Of a rollback: the data goes back, too."),
) -> None:
    """Find out what an action would do, as the command of its name prints it as JSON; nothing is changed.

    The page of the run's server reads the answer from an artifact of the run: a document, or why there is none.

    Raises:
        BadInputError: There is no such action, or it needs no preview by a run.
    """
    chosen = ACTIONS.get(action)
    if chosen is None or chosen.preview not in RUN_PREVIEWS:
        raise BadInputError(f"A run previews no action {action};", advice="it can be start, update, rollback, restore.")
    fields = {"release": release, "snapshot": snapshot, "with_data": "on" if with_data else None}
    words = preview_words(chosen, environment, {name: value for name, value in fields.items() if value})
    answer: dict[str, Any]
    try:
        answer = {"document": await ask_command(words or [])}
    except RoasError as error:
        log.warning("what %s of %s would do is not known: %s", action, environment, error)
        answer = {"problem": str(error)}
    await Artifact(type=PREVIEW_ARTIFACT, data=answer).acreate()
