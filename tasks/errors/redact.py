"""Nothing secret is written: texts pass here on their way to a store, a log or an artifact."""

from __future__ import annotations

import asyncio
import logging

from adapters.config.environments import environment_names
from core.common.safe_text import printable
from core.errors.redact import Redactor
from models.failures import BadInputError, EngineError
from models.settings import current_settings
from tasks.runtime.clients import engine_of, find_environment, redactor_of

log = logging.getLogger("roas")


async def redact(environment: str, text: str, compose_files: tuple[str, ...] = ()) -> str:
    """The text without the environment's secret values, whatever looks like one, and what a terminal would obey."""
    return await asyncio.to_thread(redact_now, environment, text, compose_files)


def redact_now(environment: str | None, text: str, compose_files: tuple[str, ...] = ()) -> str:
    """The same within this thread; without an environment, for words about all of them, without the secrets of any."""
    names = [environment] if environment is not None else environment_names(current_settings().environments_dir)
    text = Redactor(()).text(printable(text)) if not names else printable(text)
    for name in names:
        text = _redactor(name, compose_files).text(text)
    return text


def _redactor(environment: str, compose_files: tuple[str, ...]) -> Redactor:
    try:
        declared = find_environment(environment, compose_files)
        engine = engine_of(declared)
    except BadInputError:
        # The environment's file is what failed: its secrets are unknown, patterns still apply.
        return Redactor(())
    try:
        # To look at the containers is to learn which secrets they were given.
        engine.containers.inspect_project(declared.project)
    except EngineError as error:
        log.info("redacting without the secrets of containers: %s", error)
    return redactor_of(declared)
