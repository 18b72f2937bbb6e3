"""Hosts as metrics: their last contact, clocks and journals, and the environments that belong to them."""

from __future__ import annotations

from collections import Counter

from prometheus_client.core import Metric

from adapters.prometheus import metric_families as families
from adapters.stores.repositories.repositories import Repositories
from models.hosts import SILENT_AFTER

_HOST = ("host", "host_id")


def host_figures(stores: Repositories) -> list[Metric]:
    """Every host that is expected to be in contact, and what belongs to each. Times are of the database's clock.

    Raises:
        StoreError: The hosts cannot be read.
    """
    hosts = [host for host in stores.hosts.all() if host.dismissed_at is None]
    now, bindings = stores.hosts.now(), stores.hosts.bindings().values()
    names = {host.host_id: host.name for host in hosts}
    of_host = Counter(binding.host_id for binding in bindings)
    return [
        families.gauge(
            "roas_host_last_contact_timestamp_seconds",
            "When a host was last in contact with the stores, in Unix time by the database's clock.",
            *_HOST,
            samples=(((host.name, host.host_id), host.last_contact.timestamp()) for host in hosts),
        ),
        families.gauge(
            "roas_host_silent",
            "1 while a host has had no contact with the stores for a minute.",
            *_HOST,
            samples=(((host.name, host.host_id), now - host.last_contact >= SILENT_AFTER) for host in hosts),
        ),
        families.gauge(
            "roas_host_clock_skew_seconds",
            "How far a host's clock is ahead of the database's; negative where it is behind.",
            *_HOST,
            samples=(((host.name, host.host_id), host.clock_skew_seconds) for host in hosts),
        ),
        families.gauge(
            "roas_host_journal_writes",
            "Writes that wait in a host's journal for the stores, as of its last contact.",
            *_HOST,
            samples=(((host.name, host.host_id), host.backlog) for host in hosts),
        ),
        families.gauge(
            "roas_host_environments",
            "Environments that belong to a host.",
            *_HOST,
            samples=(((host.name, host.host_id), of_host[host.host_id]) for host in hosts),
        ),
        families.gauge(
            "roas_host_info",
            "1; the version of this program and the engine of a host are its labels.",
            *_HOST,
            "version",
            "engine",
            samples=(((host.name, host.host_id, host.version, host.engine), 1.0) for host in hosts),
        ),
        families.gauge(
            "roas_environment_host_info",
            "1; the host that an environment belongs to is its label.",
            "environment",
            "host",
            samples=(((binding.environment, names.get(binding.host_id, binding.host_id)), 1.0) for binding in bindings),
        ),
    ]
