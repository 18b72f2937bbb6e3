"""A life cycle that is killed anywhere is gone on with by the next: every row stays, or is in one archive."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime

import pytest

from adapters.stores import Stores
from adapters.stores.archives import archived_rows, archives
from adapters.stores.lifecycle.steps import archive_deployments, clean_errors, compress_monitoring, optimise, vacuum
from models.settings import Settings
from models.storage import LifecycleStep, RetentionPolicy
from tests.integration.stores.test_lifecycle import DAY, NOW
from tests.integration.stores.year import Year, fill
from tests.support.killing import live_until
from tests.support.store_rows import series

STEPS: tuple[Callable[..., LifecycleStep], ...] = (
    compress_monitoring,
    clean_errors,
    archive_deployments,
    optimise,
    vacuum,
)
POLICY = RetentionPolicy(
    monitoring=25 * DAY, errors=20 * DAY, deployments=15 * DAY, failed_deployments=20 * DAY, chunk_rows=20
)
TABLES = {
    "deployment_logs": ("deployment_operations", "service_state_changes", "operation_steps"),
    "monitoring": ("probe_results", "deployment_health_history"),
    "errors": (
        "deployment_errors",
        "error_impact_analysis",
        "auto_recovery_executions",
        "manual_intervention_tickets",
        "evidence_bundles",
    ),
}


def rows(stores: Stores) -> Counter[tuple[str, object]]:
    """What there is of each row, in the stores and in their archives."""
    found: Counter[tuple[str, object]] = Counter()
    for store, tables in TABLES.items():
        with stores.databases[store].read() as connection:
            for name in tables:
                found.update((name, key) for key in connection.exec_driver_sql(f"SELECT id FROM {name}").scalars())
    for name in ("cpu_usage", "memory_bytes", "response_time", "restarts_total"):
        found.update(
            (name, moment) for moment, _ in series(stores, "prod", "s0", name, datetime.min.replace(tzinfo=NOW.tzinfo))
        )
    for archive in archives(stores):
        for row in archived_rows(stores, archive):
            key = (row["metric"], row["ts"]) if archive.table == "metric_samples" else (archive.table, row["id"])
            found[key] += 1
    return found


@pytest.mark.campaign
def test_a_life_cycle_killed_in_each_step_is_gone_on_with(settings: Settings) -> None:
    with Stores.open(settings) as stores:
        fill(stores, Year(now=NOW, days=30, services=1, minutes=4 * 60))
        before, open_before = rows(stores), {one.error_id for one in stores.errors.list_unresolved()}
    rng, killed = random.Random(settings.stores_url is None), 0
    for step in STEPS:

        def live(step: Callable[..., LifecycleStep] = step) -> None:
            with Stores.open(settings) as stores:
                step(stores, NOW, POLICY)

        tries = 0
        # Opening the stores takes some statements of its own; every try gets a little further.
        while not live_until(50 + rng.randrange(60) + 60 * tries, live):
            tries += 1
        killed += tries
    assert killed > 3
    with Stores.open(settings) as stores:
        assert rows(stores) == before
        assert set(before.values()) == {1}
        assert {one.error_id for one in stores.errors.list_unresolved()} == open_before
        left = {one.path for one in archives(stores)}
        files = {
            file.relative_to(settings.data_dir) for file in settings.data_dir.glob("archive/**/*") if file.is_file()
        }
        assert files == left
        for step in STEPS:
            assert step(stores, NOW, POLICY).archives == ()
