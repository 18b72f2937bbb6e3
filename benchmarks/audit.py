"""What the audit log costs: begin and end of an operation, with and without its entries, in turns.

python -m benchmarks.audit
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from adapters.stores import Stores
from adapters.stores.audit_check import verify
from adapters.stores.repositories import operations
from models.operations import Operation, OperationStatus, OperationType
from models.settings import Settings

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
RUNNING = Operation(
    deployment_id="",
    operation_type=OperationType.START,
    environment="prod",
    status=OperationStatus.RUNNING,
    started_at=NOON,
    details={"asked": {"flow": "startup", "parameters": {"environment": "prod"}}},
)
TIMES = 400


def main() -> None:
    """Print seconds and ratio."""
    taken: dict[str, list[float]] = {"with": [], "without": []}
    audit = operations._audit
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, Stores.open(Settings(data_dir=Path(folder))) as stores:
        for place in range(TIMES):
            for way in taken:
                operations._audit = audit if way == "with" else lambda *_: None
                name = f"{way}-{place}"
                began = time.perf_counter()
                stores.operations.begin(replace(RUNNING, deployment_id=name))
                stores.operations.finish(name, OperationStatus.SUCCESS, NOON, {"critical_path": ["a", "b", "c"] * 10})
                taken[way].append(time.perf_counter() - began)
        began = time.perf_counter()
        entries = sum(report.entries for report in verify(stores))
        print(f"verifying {entries} entries: {time.perf_counter() - began:.3f} s")
    middle = {way: statistics.median(times) for way, times in taken.items()}
    print(f"begin and end of an operation: {middle['with'] * 1000:.2f} ms, {middle['without'] * 1000:.2f} ms without")
    print(f"ratio of medians: {middle['with'] / middle['without']:.2f}")


if __name__ == "__main__":
    main()
