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
    hosts = [one for one in stores.hosts.all() if one.dismissed_at is None]
    now, bindings = stores.hosts.now(), stores.hosts.bindings().values()
    names = {one.host_id: one.name for one in hosts}
    of_host = Counter(one.host_id for one in bindings)
    return [
        families.gauge(
            "roas_host_last_contact_timestamp_seconds",
            "When a host was last in contact with the stores, in Unix time by the database's clock.",
            *_HOST,
            samples=(((one.name, one.host_id), one.last_contact.timestamp()) for one in hosts),
        ),
        families.gauge(
            "roas_host_silent",
            "1 while a host has had no contact with the stores for a minute.",
            *_HOST,
            samples=(((one.name, one.host_id), now - one.last_contact >= SILENT_AFTER) for one in hosts),
        ),
        families.gauge(
            "roas_host_clock_skew_seconds",
            "How far a host's clock is ahead of the database's; negative where it is behind.",
            *_HOST,
            samples=(((one.name, one.host_id), one.clock_skew_seconds) for one in hosts),
        ),
        families.gauge(
            "roas_host_journal_writes",
            "Writes that wait in a host's journal for the stores, as of its last contact.",
            *_HOST,
            samples=(((one.name, one.host_id), one.backlog) for one in hosts),
        ),
        families.gauge(
            "roas_host_environments",
            "Environments that belong to a host.",
            *_HOST,
            samples=(((one.name, one.host_id), of_host[one.host_id]) for one in hosts),
        ),
        families.gauge(
            "roas_host_info",
            "1; the version of this program and the engine of a host are its labels.",
            *_HOST,
            "version",
            "engine",
            samples=(((one.name, one.host_id, one.version, one.engine), 1.0) for one in hosts),
        ),
        families.gauge(
            "roas_environment_host_info",
            "1; the host that an environment belongs to is its label.",
            "environment",
            "host",
            samples=(((one.environment, names.get(one.host_id, one.host_id)), 1.0) for one in bindings),
        ),
    ]
