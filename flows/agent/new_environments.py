"""Environments that become known while `roas serve` runs, such as by `roas init` in another folder, and those whose
schedules change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from httpx import HTTPError
from prefect.exceptions import PrefectException

from adapters.config.environment_files import chosen_folder, known_environments
from flows.server.deployments import declared_schedules
from models.failures import RoasError
from models.settings import current_settings

_LOOK_SECONDS = 15.0

log = logging.getLogger("roas")


async def serve_new_environments(
    names: Iterable[str], serve: Callable[[str], Awaitable[None]], every_seconds: float = _LOOK_SECONDS
) -> None:
    """Serve each environment that is not among `names` as soon as it is known, and each anew whose schedules change.

    This goes on until it is cancelled. Where one folder of environments is chosen, which there are is read once, when
    serving begins.
    """
    served = {name: await asyncio.to_thread(declared_schedules, name) for name in names}
    while True:
        await asyncio.sleep(every_seconds)
        try:
            known = set(served)
            if chosen_folder(current_settings()) is None:
                known |= set(await asyncio.to_thread(known_environments, current_settings()))
            for name in sorted(known):
                schedules, is_new = await asyncio.to_thread(declared_schedules, name), name not in served
                if is_new or schedules not in (None, served[name]):
                    await serve(name)
                    served[name] = schedules
                    log.info("serving environment %s: %s", name, "it is new" if is_new else "its schedules changed")
        except (RoasError, HTTPError, PrefectException) as error:
            log.warning("environments that became known or changed are not served yet: %s", error)
