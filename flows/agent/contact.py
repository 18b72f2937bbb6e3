"""Contact of this host with the stores: reported again and again, with what became true of other hosts."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from adapters.stores.write_behind import waiting_writes
from flows.agent.pings import keep_pinging
from models.failures import RoasError
from models.hosts import CONTACT_EVERY, Contact
from tasks.recovery.hosts import report_hosts
from tasks.runtime.hosts import has_other_hosts, report_contact
from tasks.runtime.store_access import journals_folder

log = logging.getLogger("roas")

DEFAULT_ENGINE = "unix:///var/run/docker.sock"


async def keep_contact(backlog: Callable[[], int] | None = None) -> None:
    """Report contact, and ping, until this is cancelled; stores that are away are tried again and logged once.

    `backlog` counts the writes that wait for the stores; by default those in the journals of this host.
    """
    async with asyncio.TaskGroup() as beside:
        beside.create_task(keep_pinging())
        await _keep_reporting(backlog or _count_waiting)


async def _keep_reporting(backlog: Callable[[], int]) -> None:
    failed, contact = False, None
    while True:
        try:
            contact = await asyncio.to_thread(_contact, backlog, contact)
            failed = False
        except (RoasError, OSError) as error:
            if not failed:
                log.warning("no contact with the stores: %s", error)
            failed, contact = True, None
        await asyncio.sleep(CONTACT_EVERY.total_seconds())


def _contact(backlog: Callable[[], int], before: Contact | None) -> Contact:
    """Report contact, and what became true of other hosts once contact has held for as long as makes one silent."""
    at = report_contact(engine=os.environ.get("DOCKER_HOST") or DEFAULT_ENGINE, backlog=backlog()).last_contact
    contact = Contact(since=at, last=at) if before is None else before.renew(at)
    if has_other_hosts() and contact.is_settled:
        report_hosts()
    return contact


def _count_waiting() -> int:
    return waiting_writes(journals_folder())
