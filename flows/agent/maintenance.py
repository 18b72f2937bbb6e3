"""Maintenance that no process carries any more: the agent brings up what it stopped, once that is due."""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import UTC, datetime, timedelta

from adapters.host.own_command import BegunCommand, begin_own_command
from adapters.host.processes import boot_id
from core.deployment.maintenance import goes_up
from models.failures import RoasError
from tasks.runtime.maintenance import carrier, open_maintenance

log = logging.getLogger("roas")

EVERY = timedelta(seconds=10)
_TAIL_BYTES = 4096
_OF_SERVER = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_API_KEY", "PREFECT_HOME")


async def keep_bringing_up(every: timedelta = EVERY) -> None:
    """Bring up what a maintenance has left, until this is cancelled; what fails is logged once, and tried again.

    The command is a process of its own, since it shall outlive this agent.
    """
    command: BegunCommand | None = None
    said = ""
    while True:
        try:
            if command is not None and command.code is not None:
                said = " ".join(command.tail(_TAIL_BYTES))
                log.info("roas host maintain --end ended with exit code %d: %s", command.code, said)
                command = None
            if command is None and _is_due():
                command = begin_own_command(["host", "maintain", "--end"], variables=_variables(), folder=None)
        except (RoasError, OSError) as error:
            if said != (said := str(error)):
                log.warning("whether a maintenance was left is not known: %s", error)
        await asyncio.sleep(every.total_seconds())


def _is_due() -> bool:
    maintenance = open_maintenance()
    return maintenance is not None and goes_up(maintenance, boot=boot_id(), now=datetime.now(UTC)) and carrier() is None


def _variables() -> dict[str, str]:
    """Ours without those of Prefect that make a process a server or a worker."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_") or name in _OF_SERVER}
    return kept | {"ROAS_ASKED_BY": "the agent"}
