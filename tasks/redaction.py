"""Nothing secret is written: texts pass here on their way to a store, a log or an artifact."""

from __future__ import annotations

import asyncio
import logging

from core.redaction import Redactor
from core.safe_text import printable
from models.failures import BadInputError, EngineError
from tasks.doors import engine_of, find_environment, redactor_of

log = logging.getLogger("roas")


async def redact(environment: str, text: str, compose_files: tuple[str, ...] = ()) -> str:
    """The text without the environment's secret values, whatever looks like one, and what a terminal would obey."""

    def clean() -> str:
        try:
            declared = find_environment(environment, compose_files)
        except BadInputError:
            # The environment's file is what failed: its secrets are unknown, patterns still apply.
            return Redactor(()).text(printable(text))
        try:
            # To look at the containers is to learn which secrets they were given.
            engine_of(declared).sightings(declared.project)
        except EngineError as error:
            log.info("redacting without the secrets of containers: %s", error)
        return redactor_of(declared).text(printable(text))

    return await asyncio.to_thread(clean)
