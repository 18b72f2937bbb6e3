"""The page's overview of 500 environments: processor time of one answer.

    python -m benchmarks.page_overview [--environments 500] [--services 8] [--operations 50]

The stores are made: so many operations and judgements of each environment. Processor time is compared, since it depends
less on what else the machine does; the smallest of ten is reported.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta

from benchmarks.measure import in_turns, report
from models.health import Health, HealthReport, ServiceHealth, ServiceVerdict
from models.operations import Operation, OperationStatus, OperationType
from models.records import Release

_MOST_MILLISECONDS = 150.0
_RUNS = 10


def _fill(environments: int, services: int, operations: int) -> None:
    from tasks.runtime.stores import open_stores

    stores, now = open_stores(), datetime.now(UTC)
    for number in range(environments):
        name = f"environment-{number:03}"
        verdicts = tuple(
            ServiceVerdict(
                service=f"service-{place}", health=ServiceHealth.HEALTHY, reason="its own health check passes"
            )
            for place in range(services)
        )
        with stores.together() as together:
            for place in range(operations):
                at = now - timedelta(hours=operations - place)
                operation = Operation(
                    deployment_id=f"{name}-{place}",
                    operation_type=OperationType.START,
                    environment=name,
                    status=OperationStatus.RUNNING,
                    started_at=at,
                    details={"waits": {f"service-{service}": 1.0 for service in range(services)}},
                )
                together.operations.begin(operation)
                together.operations.finish(operation.deployment_id, OperationStatus.SUCCESS, at + timedelta(seconds=9))
                health = HealthReport(environment=name, overall=Health.HEALTHY, checked_at=at, services=verdicts)
                together.health.record(health)
            release = Release(
                release_id=f"r-{name}", environment=name, deployment_id=f"{name}-0", created_at=now, proven=True
            )
            together.releases.keep(release)
            together.heartbeats.beat(f"collection/{name}", now)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=int, default=500)
    parser.add_argument("--services", type=int, default=8)
    parser.add_argument("--operations", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ROAS_DATA_DIR"] = folder
        from flows.page.rendering import BASE
        from tasks.reporting.overview import read_overview
        from tests.support.page import page_client

        _fill(given.environments, given.services, given.operations)
        client = page_client()
        works = {"read": read_overview, "page": lambda: client.get(f"{BASE}/")}
        for work in works.values():
            work()
        taken = in_turns(_RUNS, works, clocks=(time.process_time,))
        figures = {name: 1000 * min(times[0] for times in rounds) for name, rounds in taken.items()}
    kept = [
        report("processor time to read the overview", figures["read"], "ms"),
        report("processor time of the whole page, HTML included", figures["page"], "ms", most=_MOST_MILLISECONDS),
    ]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
