"""Nothing secret is written: texts pass here on their way to a store, a log or an artifact."""

from __future__ import annotations

import asyncio
import logging

from adapters.config.environment_files import known_environments
from core.common.safe_text import printable
from core.errors.redact import Redactor
from models.failures import BadInputError, EngineError
from models.settings import current_settings
from tasks.runtime.project import Project, open_project

log = logging.getLogger("roas")


async def redact(project: Project | str, text: str, compose_files: tuple[str, ...] = ()) -> str:
    """Return the text without the project's secrets, values that look like one, and terminal escapes."""
    if isinstance(project, str):
        return await asyncio.to_thread(redact_now, project, text, compose_files)
    return await asyncio.to_thread(lambda: _redactor_of(project).text(printable(text)))


def redact_now(environment: str | None, text: str, compose_files: tuple[str, ...] = ()) -> str:
    """The same within this thread; without an environment, for words about all of them, without the secrets of any."""
    names = [environment] if environment is not None else known_environments(current_settings())
    text = Redactor(()).text(printable(text)) if not names else printable(text)
    for name in names:
        text = _redactor(name, compose_files).text(text)
    return text


def _redactor(environment: str, compose_files: tuple[str, ...]) -> Redactor:
    try:
        project = open_project(environment, compose_files)
    except BadInputError:
        # The environment's file is what failed: its secrets are unknown, patterns still apply.
        return Redactor(())
    return _redactor_of(project)


def _redactor_of(project: Project) -> Redactor:
    try:
        # The engine learns from the containers which secrets they were given.
        project.inspect_containers()
    except EngineError as error:
        log.info("secrets that only containers know are not redacted here: %s", error)
    except BadInputError:
        return Redactor(())
    return project.redactor()
