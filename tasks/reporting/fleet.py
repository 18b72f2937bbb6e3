"""Read every host and environment of the stores, by one query a table; a plain read, and no task run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from core.storage.incidents import OWN_SYSTEM
from models.hosts import Fleet, FleetEnvironment
from tasks.runtime.hosts import this_host
from tasks.runtime.stores import open_stores, stores_exist


def read_fleet() -> Fleet:
    """The fleet as the stores know it; this host alone, without environments, where nothing was recorded yet."""
    here = this_host()
    if not stores_exist():
        return Fleet(at=datetime.now(UTC), this_host=here.host_id, hosts=(), environments=())
    stores = open_stores()
    bindings = stores.hosts.bindings()
    judged = stores.health.latest_judgements()
    alerts, tickets = stores.alerts.count_unresolved(), stores.tickets.count_unresolved()
    names = {*bindings, *judged, *alerts, *tickets} - {OWN_SYSTEM}
    environments = []
    for name in sorted(names):
        health, at = judged.get(name, ("", None))
        environments.append(
            FleetEnvironment(
                environment=name,
                host_id=bindings[name].host_id if name in bindings else "",
                health=health,
                judged_at=at,
                alerts=alerts.get(name, 0),
                tickets=tickets.get(name, 0),
            )
        )
    return Fleet(
        at=stores.hosts.now(),
        this_host=here.host_id,
        hosts=tuple(stores.hosts.all()),
        environments=tuple(environments),
    )


def read_silence(environment: str) -> tuple[str, timedelta] | None:
    """The name of the host that an environment belongs to, and the time since its last contact; None without a host."""
    if not stores_exist():
        return None
    hosts = open_stores().hosts
    host = hosts.find(hosts.owner(environment) or "")
    return None if host is None else (host.name, hosts.now() - host.last_contact)
