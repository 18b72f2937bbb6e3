"""Read what an environment's file says."""

from __future__ import annotations

import asyncio

from models.environments import Environment
from tasks.runtime.clients import find_environment
from tasks.runtime.retry_policy import retry_read


@retry_read
async def load_environment(name: str, compose_files: tuple[str, ...] = ()) -> Environment:
    """The environment of that name, or one made up for bare Compose files.

    Raises:
        EnvironmentFileError: There is no such file, or it is not a valid environment.
    """
    return await asyncio.to_thread(find_environment, name, compose_files)
