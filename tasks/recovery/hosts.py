"""Report what became true of hosts and what ended, once: as an error and a ticket of this system itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from adapters.stores.repositories.repositories import Repositories
from core.storage.incidents import OWN_SYSTEM, report_host, subject_of
from models.audit import Actor
from models.errors import RecordedError
from models.hosts import Host, HostEvent, HostEventKind
from models.recovery import TicketEntry
from tasks.runtime.hosts import has_other_hosts, this_host
from tasks.runtime.stores import open_stores

log = logging.getLogger("roas")


def report_hosts() -> list[HostEvent]:
    """Open or resolve an incident for each host that became silent, has a wrong clock, or is healthy again.

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
        open_errors = stores.errors.list_unresolved(OWN_SYSTEM) if events else []
        for event in events:
            environments = sorted(binding.environment for binding in bindings if binding.host_id == event.host.host_id)
            if not event.ended:
                error, ticket = report_host(event, environments, here)
                recorded = stores.errors.record(error)
                stores.tickets.open(replace(ticket, error_id=recorded.error_id))
                continue
            over = [
                open_error
                for open_error in open_errors
                if open_error.service == subject_of(event) and open_error.source == str(event.kind)
            ]
            _resolve(
                stores, over, TicketEntry(at=now, by="roas", what=f"{event.host.label} is healthy, as {here} noticed")
            )
    for event in events:
        state = "is healthy again" if event.ended else f"is {event.kind}"
        log.warning("host %s %s (since %s UTC)", event.host.label, state, f"{event.since:%Y-%m-%d %H:%M:%S}")
    return events


def dismiss_host(name: str, by: str, actor: Actor) -> Host:
    """Expect no contact of a host until it is in contact again, and resolve what was reported of it.

    Raises:
        NotFoundError: No host has this name or id.
        BadInputError: Several have this name.
        StoreError: The stores did not take it.
    """
    with open_stores().together() as stores:
        host = stores.hosts.get_by_name(name)
        stores.hosts.dismiss(host.host_id)
        about = {subject_of(HostEvent(host=host, kind=kind, since=host.last_contact)) for kind in HostEventKind}
        kinds = {str(kind) for kind in HostEventKind}
        over = [
            error
            for error in stores.errors.list_unresolved(OWN_SYSTEM)
            if error.service in about and error.source in kinds
        ]
        entry = TicketEntry(at=datetime.now(UTC), by=by, what=f"{by} dismissed host {host.label}", actor=actor)
        _resolve(stores, over, entry)
    return host


def _resolve(stores: Repositories, errors: Sequence[RecordedError], entry: TicketEntry) -> None:
    for error in errors:
        stores.errors.resolve(error.error_id, entry.at, entry.what)
        stores.tickets.resolve_for_error(error.error_id, entry)
