"""Nothing secret is written: texts pass here on their way to a store, a log or an artifact."""

from __future__ import annotations

import asyncio

from core.redaction import Redactor
from models.failures import BadInputError
from tasks.doors import find_environment, redactor_of


async def redact(environment: str, text: str, compose_files: tuple[str, ...] = ()) -> str:
    """The text without the environment's secret values and without whatever looks like one."""

    def clean() -> str:
        try:
            redactor = redactor_of(find_environment(environment, compose_files))
        except BadInputError:
            # The environment's file is what failed: its secrets are unknown, patterns still apply.
            redactor = Redactor(())
        return redactor.text(text)

    return await asyncio.to_thread(clean)
