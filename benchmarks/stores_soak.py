"""Eight processes write, two read, the life cycle runs: no caller sees a lock error, no caller waits long.

python -m benchmarks.stores_soak [--minutes 10]
"""

import argparse
import itertools
import multiprocessing
import tempfile
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from adapters.stores import Stores
from adapters.stores.batch import BatchWriter
from adapters.stores.lifecycle.steps import (
    RetentionPolicy,
    archive_deployments,
    clean_errors,
    compress_monitoring,
    optimise,
    vacuum,
)
from benchmarks.measure import seconds
from models.metrics import Metric
from models.operations import Operation, OperationStatus, OperationType
from models.records import RecordedScore
from models.settings import Settings
from models.tables.monitoring import ProbeRow

NOW = datetime.now(UTC)
POLICY = RetentionPolicy(
    monitoring=timedelta(days=1), deployments=timedelta(days=1), failed_deployments=timedelta(days=1)
)


def write(folder: str, name: str, stop, answers) -> None:
    waits = []
    with Stores.open(Settings(data_dir=Path(folder))) as stores, BatchWriter(stores) as batches:
        for place in itertools.count(1):
            at = NOW - timedelta(days=2) + timedelta(seconds=place)
            waits.append(seconds(partial(one_step, stores, batches, f"{name}-{place}", at, place)))
            if stop.wait(0.02):
                break
    answers.put((name, waits))


def one_step(stores: Stores, batches: BatchWriter, name: str, at: datetime, place: int) -> None:
    operation = Operation(
        deployment_id=name,
        operation_type=OperationType.START,
        environment="prod",
        status=OperationStatus.SUCCESS,
        started_at=at,
        ended_at=at,
    )
    score = RecordedScore(environment="prod", service=name, score=1, grade="A", scored_at=at)
    kind = place % 4
    if kind == 0:
        stores.operations.begin(operation)
    elif kind == 1:
        metrics = [
            Metric(environment="prod", service="s", name=f"m{number}", value=1.0, sampled_at=at) for number in range(50)
        ]
        stores.metrics.add(metrics)
    elif kind == 2:
        stores.execute_cross_db_transaction(
            [lambda inside: inside.operations.begin(operation), lambda inside: inside.health.record_score(score)]
        )
    else:
        row = {"checked_at": at, "environment": "prod", "service": "s", "kind": "tcp", "target": "t", "ok": True}
        batches.put_many(ProbeRow, [row | {"detail": name}] * 10)


def read(folder: str, name: str, stop, answers) -> None:
    waits = []
    with Stores.open(Settings(data_dir=Path(folder))) as stores:

        def look() -> None:
            with stores.at_one_moment() as moment:
                moment.operations.history(limit=20)
                moment.metrics.latest("prod")

        while not stop.wait(0.05):
            waits.append(seconds(look))
    answers.put((name, waits))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=10)
    until = time.monotonic() + options.parse_args().minutes * 60
    context = multiprocessing.get_context("spawn")
    stop, answers = context.Event(), context.Queue()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, Stores.open(Settings(data_dir=Path(folder))) as stores:
        works = [(write, f"writer{place}") for place in range(8)] + [(read, f"reader{place}") for place in range(2)]
        processes = [context.Process(target=work, args=(folder, name, stop, answers)) for work, name in works]
        for process in processes:
            process.start()
        rounds = largest = 0
        while time.monotonic() < until:
            for step in (compress_monitoring, clean_errors, archive_deployments, optimise, vacuum):
                step(stores, datetime.now(UTC), POLICY)
                largest = max(largest, *(database.wal_path.stat().st_size for database in stores.databases.values()))
            rounds += 1
        stop.set()
        results = [answers.get(timeout=120) for _ in processes]
        for process in processes:
            process.join()
        failed = [process.name for process in processes if process.exitcode]
        for name, waits in sorted(results):
            waits.sort()
            middle, most, last = (1000 * waits[place] for place in (len(waits) // 2, int(len(waits) * 0.99), -1))
            print(f"{name}: {len(waits)} steps, p50 {middle:.1f} ms, p99 {most:.1f} ms, longest {last:.0f} ms")
        print(f"life cycle: {rounds} rounds; largest WAL {largest / 1048576:.1f} MiB; failed: {failed or 'none'}")


if __name__ == "__main__":
    main()
