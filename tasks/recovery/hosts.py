"""Report what became true of hosts and what ended, once: as an error and a ticket of this system itself."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime

from core.storage.incidents import OWN_SYSTEM, of_host, subject_of
from models.hosts import HostEvent
from models.recovery import TicketEntry
from tasks.runtime.hosts import has_other_hosts, this_host
from tasks.runtime.stores import open_stores

log = logging.getLogger("roas")


def report_hosts() -> list[HostEvent]:
    """Open or resolve an incident for each host that became silent, has a wrong clock, or is well again.

    Every process that reports contact calls it; the stores let one of them have each change, with its error and
    ticket in one transaction. Notifications go to those that environments name.

    Raises:
        StoreError: The stores cannot be read or written.
    """
    if not has_other_hosts() or not open_stores().hosts.has_news():
        return []
    now, here = datetime.now(UTC), this_host().name
    with open_stores().together() as stores:
        events = stores.hosts.notice()
        bindings = stores.hosts.bindings().values() if events else ()
        open_errors = stores.errors.unresolved(OWN_SYSTEM) if events else []
        for event in events:
            mine = sorted(one.environment for one in bindings if one.host_id == event.host.host_id)
            if not event.ended:
                error, ticket = of_host(event, mine, here)
                recorded = stores.errors.record(error)
                stores.tickets.open(replace(ticket, error_id=recorded.error_id))
                continue
            for error in open_errors:
                if error.service == subject_of(event) and error.source == str(event.kind):
                    why = f"host {event.host.label} is well again, as {here} noticed"
                    stores.errors.resolve(error.error_id, now, why)
                    stores.tickets.resolve_for_error(error.error_id, TicketEntry(at=now, by="roas", what=why))
    for event in events:
        state = "is well again" if event.ended else f"is {event.kind}"
        log.warning("host %s %s (since %s UTC)", event.host.label, state, f"{event.since:%Y-%m-%d %H:%M:%S}")
    return events
