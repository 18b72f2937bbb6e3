"""Environments that become known while `roas serve` runs, such as by `roas init` in another folder."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from httpx import HTTPError
from prefect.exceptions import PrefectException

from adapters.config.environment_files import chosen_folder, known_environments
from models.failures import RoasError
from models.settings import current_settings

_LOOK_SECONDS = 15.0

log = logging.getLogger("roas")


async def serve_new_environments(
    names: set[str], serve: Callable[[str], Awaitable[None]], every_seconds: float = _LOOK_SECONDS
) -> None:
    """Serve each environment that is not among `names` as soon as it is known, until this is cancelled.

    Where one folder of environments is chosen, its content is read once, when serving begins.
    """
    while chosen_folder(current_settings()) is None:
        await asyncio.sleep(every_seconds)
        try:
            for name in sorted(set(await asyncio.to_thread(known_environments, current_settings())) - names):
                await serve(name)
                names.add(name)
                log.info("serving environment %s too", name)
        except (RoasError, HTTPError, PrefectException) as error:
            log.warning("environments that became known are not served yet: %s", error)
