"""Pings of a schedule to an outside service, which notices where they stop."""

from __future__ import annotations

import asyncio
import logging

from adapters.notifications.ping import read_ping_address, send_ping
from core.runtime.pings import Ping
from models.failures import BadInputError
from models.schedules import Schedule

log = logging.getLogger("roas")


async def ping(schedule: Schedule, signal: Ping) -> None:
    """Send a ping where the schedule names an address; one that is not taken is logged, and ends nothing."""
    if schedule.ping_file is None:
        return
    try:
        address = await asyncio.to_thread(read_ping_address, schedule.ping_file)
    except BadInputError as error:
        log.warning("no ping is sent: %s", error)
        return
    if (failure := await send_ping(address, signal)) is not None:
        log.warning("the ping address in %s was not reached: %s", schedule.ping_file, failure.text)
