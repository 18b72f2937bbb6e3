"""Read what the images of an update say of themselves, and what was committed between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adapters.docker.engine import DockerEngine
from adapters.host.git_log import subjects_between
from core.deployment.release_notes import redact_note, release_note, revisions, with_commits
from models.compose import Application, FetchKind, ImageFact, Plan, PlannedAction, ReleaseNote
from models.containers import ContainerState, replicas
from models.environments import Environment
from tasks.deployment.images import ImageOutlook
from tasks.runtime.project import Project


def read_release_notes(
    project: Project,
    application: Application,
    planned: Plan,
    container_states: Sequence[ContainerState],
    images: ImageOutlook,
    engine: DockerEngine,
) -> tuple[ReleaseNote, ...]:
    """Return what changes with the new image of each service that the plan replaces.

    Raises:
        EngineError: The engine did not answer, or refused.
    """
    notes: list[ReleaseNote] = []
    for line in planned.changes:
        used = {container.image_id for container in replicas(container_states, line.service)}
        if line.action is not PlannedAction.RECREATE or not used:
            continue
        fetch, declaration = images.fetches.get(line.service), application.services[line.service]
        after: ImageFact | None = images.held.get(declaration.image)
        to_come = ""
        if fetch is not None and fetch.changes:
            after = images.coming.get(line.service)
            to_come = "fetched" if fetch.kind is FetchKind.PULL else "built"
        if after is not None and after.image_id in used:
            continue
        if after is None and not to_come:
            continue
        note = release_note(line.service, engine.images.inspect(min(used)), after, to_come=to_come)
        notes.append(_with_commits(project.environment, declaration.build_context, note))
    if not notes:
        return ()
    redact = project.redactor().text
    return tuple(redact_note(note, redact) for note in notes)


def _with_commits(environment: Environment, context: str, note: ReleaseNote) -> ReleaseNote:
    between = revisions(note)
    if between is None:
        return note
    folders = [Path(context)] if context.startswith("/") else []
    for folder in (*folders, environment.compose_files[0].absolute().parent):
        if subjects := subjects_between(folder, *between):
            return with_commits(note, subjects)
    return note
