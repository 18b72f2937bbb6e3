"""Benchmarks of the stores: each figure is a ratio of things measured in turns within one run.

python -m benchmarks.stores [batch|transactions|samples|deletion|archive ...] [--rows N]
python -m benchmarks.stores soak [--minutes 10]

In a soak eight processes write, two read and the life cycle runs: no caller sees a lock error or waits long.
"""

import argparse
import itertools
import multiprocessing
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from adapters.stores import Stores
from adapters.stores.archiver import Archiver
from adapters.stores.batch import BatchWriter
from adapters.stores.lifecycle.steps import (
    RetentionPolicy,
    archive_deployments,
    clean_errors,
    compress_monitoring,
    optimise,
    vacuum,
)
from adapters.stores.sql import table
from benchmarks.measure import in_turns, medians, report, seconds
from models.health import ProbeResult, RecordedScore
from models.metrics import Metric
from models.operations import Operation, OperationStatus, OperationType
from models.settings import Settings
from models.tables.monitoring import ProbeRow
from tests.support.store_rows import all_or_none, put_score

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@contextmanager
def opened() -> Iterator[Stores]:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, Stores.open(Settings(data_dir=Path(folder))) as stores:
        yield stores


def processor_seconds(archiver: Archiver) -> float:
    """Of the process that writes archives: what else runs here does not count."""
    fields = Path(f"/proc/{archiver._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# Batch writer


def probes(count: int, first: int = 0) -> list[ProbeResult]:
    return [
        ProbeResult(
            checked_at=NOON + timedelta(milliseconds=first + place),
            service="bot",
            kind="http",
            target="http://bot:8080/health",
            ok=True,
            detail="200 in time",
            latency_ms=place * 0.25,
        )
        for place in range(count)
    ]


RAW = (
    "INSERT INTO probe_results (checked_at, environment, service, kind, target, ok, detail, latency_ms) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


def converted(row: ProbeResult) -> tuple:
    moment = row.checked_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return (moment, "prod", row.service, row.kind, row.target, row.ok, row.detail, row.latency_ms)


def raw(connection: sqlite3.Connection, rows: list[ProbeResult], size: int) -> None:
    for at in range(0, len(rows), size):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(RAW, [converted(row) for row in rows[at : at + size]])
        connection.execute("COMMIT")


def put_many(writer: BatchWriter, rows: list[ProbeResult], size: int) -> None:
    for at in range(0, len(rows), size):
        writer.put_probes(rows[at : at + size], "prod")


def same_settings(stores: Stores) -> sqlite3.Connection:
    return stores.databases["monitoring"]._connect(query_only=False)


def batch(_: int) -> None:
    for size in (100, 1000):
        one_size(size)


def one_size(size: int) -> None:
    count = 10_000
    begins = itertools.count(0, count)
    with (
        opened() as stores,
        closing(same_settings(stores)) as connection,
        BatchWriter(stores, batch_size=size) as writer,
    ):
        works = {
            "raw": lambda rows: raw(connection, rows, size),
            "many": lambda rows: (put_many(writer, rows, size), writer.flush()),
            "one": lambda rows: ([writer.put_probes([row], "prod") for row in rows], writer.flush()),
        }
        clocks = (time.perf_counter, time.process_time)
        taken = in_turns(16, works, lambda: (probes(count, next(begins)),), clocks)
    for place, clock in enumerate(("", " (CPU)")):
        middle = medians(taken, place)
        what = f"batch {size}{clock}:"
        report(f"{what} raw executemany", count / middle["raw"], "rows/s")
        report(f"{what} put_probes against raw", middle["raw"] / middle["many"], least=0.40)
        report(f"{what} one by one, each surviving a kill, against raw", middle["raw"] / middle["one"], least=0.20)


# Transactions over stores


def operation(name: str, at: datetime) -> Operation:
    return Operation(
        deployment_id=name,
        operation_type=OperationType.START,
        environment="prod",
        status=OperationStatus.SUCCESS,
        started_at=at,
        ended_at=at + timedelta(seconds=30),
    )


def one_row_each(stores: Stores, name: str, at: datetime = NOON) -> None:
    score = RecordedScore(environment="prod", service=name, score=1, grade="A", scored_at=at)
    all_or_none(
        stores,
        [
            lambda inside: inside.operations.begin(operation(name, at)),
            lambda inside: put_score(inside, score),
            lambda inside: inside.pauses.pause("prod", name, None, "r", "b", at),
        ],
    )


def sync_count() -> None:
    code = (
        "import sys\nfrom benchmarks.stores import *\n"
        "with Stores.open(Settings(data_dir=Path(sys.argv[1]))) as stores:\n"
        "    for place in range(int(sys.argv[2])): one_row_each(stores, f't{place}')\n"
        "    import os; os._exit(0)\n"
    )
    counts = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for times in (0, 256):
            trace = Path(folder) / f"trace{times}"
            subprocess.run(
                [
                    *("strace", "-f", "-o", trace, "-e", "trace=fdatasync,fsync"),
                    *(sys.executable, "-c", code, Path(folder) / str(times), str(times)),
                ],
                check=True,
            )
            counts.append(trace.read_text().count("sync("))
    report("transaction over three stores: syncs", (counts[1] - counts[0]) / 256, most=1.1)


def transactions(_: int) -> None:
    if shutil.which("strace"):
        sync_count()
    with opened() as stores:
        names = (f"t{place}" for place in itertools.count())
        works = {"ours": partial(one_row_each, stores)}
        clocks = (time.perf_counter, time.process_time)
        taken = in_turns(600, works, lambda: (next(names),), clocks)["ours"]
    report("transaction over three stores: mean", statistics.mean(wall for wall, _ in taken) * 1000, "ms")
    report("  of it on the processor", statistics.mean(busy for _, busy in taken) * 1000, "ms")


# Samples

SERIES = 200


def fill_samples(connection: sqlite3.Connection, rows: int, begin: int, step: int = 60_000) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO metric_series (id, environment, service, metric) VALUES (?, 'prod', ?, ?)",
        [(place + 1, f"service{place // 10}", f"metric{place % 10}") for place in range(SERIES)],
    )
    chance = random.Random(1)
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO metric_samples (ts, series, value) VALUES (?, ?, ?)",
        ((begin + place // SERIES * step, place % SERIES + 1, round(chance.gauss(50, 5), 1)) for place in range(rows)),
    )
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def samples(rows: int) -> None:
    with opened() as stores, closing(same_settings(stores)) as connection:
        database = stores.databases["monitoring"]
        empty = database.path.stat().st_size
        fill_samples(connection, rows, 1_767_225_600_000)
        report("a sample on disk", (database.path.stat().st_size - empty) / rows, "bytes", most=25)
        connection.execute("PRAGMA wal_autocheckpoint=0")
        begins = itertools.count(1_767_225_600_000 + (rows // SERIES + 1) * 60_000, 60_000)
        batches, size = 200, 100

        def insert() -> None:
            for begin in itertools.islice(begins, batches):
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(
                    "INSERT INTO metric_samples (ts, series, value) VALUES (?, ?, ?)",
                    [(begin, place + 1, place / 7) for place in range(size)],
                )
                connection.execute("COMMIT")

        def settle() -> None:
            # Committed data must also go from the log into the file, page by page.
            insert()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

        insert()
        report(
            "a sample in the WAL, batches of 100",
            database.wal_path.stat().st_size / (batches * size),
            "bytes",
            most=300,
        )
        report("insert rate", batches * size / medians(in_turns(6, {"settle": settle}))["settle"], "rows/s")


def deletion(rows: int) -> None:
    with opened() as stores:
        begin = datetime(2026, 1, 1, tzinfo=UTC)
        database = stores.databases["monitoring"]
        with closing(same_settings(stores)) as connection:
            fill_samples(connection, rows, round(begin.timestamp() * 1000))
        now = begin + timedelta(minutes=rows * 0.4 / SERIES) + timedelta(days=90)
        # Hours and days are summed up as they pass; here they would count as room that deleting takes.
        compress_monitoring(stores, now, RetentionPolicy(monitoring=timedelta(days=3650), step_time=timedelta(hours=1)))
        database.settle()
        size = database.path.stat().st_size
        answers: multiprocessing.Queue = multiprocessing.Queue()
        stop = multiprocessing.Event()
        given = (str(stores.folder), stop, answers)
        writer = multiprocessing.get_context("fork").Process(target=live_writer, args=given)
        writer.start()
        took = seconds(lambda: compress_monitoring(stores, now, RetentionPolicy(step_time=timedelta(hours=1))))
        stop.set()
        waits, peak = answers.get()
        writer.join()
    report("deleting 40 %: summed up, archived, verified and deleted", rows * 0.4 / took, "rows/s")
    report("a live writer meanwhile: p99", waits[int(len(waits) * 0.99)] * 1000, "ms", most=20)
    report("a live writer meanwhile: longest", waits[-1] * 1000, "ms", most=150)
    report("more disk meanwhile", (peak - size) / size * 100, "%", most=10)


def live_writer(folder: str, stop, answers) -> None:
    waits, peak = [], 0
    with Stores.open(Settings(data_dir=Path(folder))) as stores:
        database = stores.databases["monitoring"]
        while not stop.wait(0.01):
            waits.append(seconds(lambda: stores.heartbeats.beat("another process", NOON)))
            peak = max(peak, database.path.stat().st_size + database.wal_path.stat().st_size)
    answers.put((sorted(waits), peak))


def archive(rows: int) -> None:
    with opened() as stores:
        path = stores.databases["monitoring"].path
        with closing(same_settings(stores)) as connection:
            fill_samples(connection, rows, 1_767_225_600_000)
        names = {place + 1: ("prod", f"service{place // 10}", f"metric{place % 10}") for place in range(SERIES)}
        kinds = {"ts": "whole", "series": "whole", "value": "real"}
        folder = stores.folder
        made = []

        def ours(archiver: Archiver) -> None:
            made.clear()
            step = 250_000 // SERIES * 60_000
            for part in range(-(-rows // 250_000)):
                begin = 1_767_225_600_000 + part * step
                query = f"SELECT ts, series, value FROM metric_samples WHERE ts >= {begin} AND ts < {begin + step}"
                made.append(
                    archiver.write(str(path.absolute()), query, folder / f"{part}.parquet", kinds=kinds, names=names)
                )

        with Archiver() as archiver:
            ours(archiver)
            taken = [seconds(partial(ours, archiver), partial(processor_seconds, archiver)) for _ in range(3)]
            status = Path(f"/proc/{archiver._process.pid}/status").read_text()
    report("archive, read back and compared", rows / statistics.median(taken), "rows/CPU s")
    report("archive: a row", sum(one.size for one in made) / sum(one.rows for one in made), "bytes", most=3)
    report("archive: peak memory", int(status.split("VmHWM:")[1].split()[0]) / 1024, "MiB", most=200)


# Soak


def write(folder: str, name: str, stop, answers) -> None:
    waits = []
    with Stores.open(Settings(data_dir=Path(folder))) as stores, BatchWriter(stores) as batches:
        begin = datetime.now(UTC) - timedelta(days=2)
        for place in itertools.count(1):
            at = begin + timedelta(seconds=place)
            waits.append(seconds(partial(one_step, stores, batches, f"{name}-{place}", at, place)))
            if stop.wait(0.02):
                break
    answers.put((name, waits))


def one_step(stores: Stores, batches: BatchWriter, name: str, at: datetime, place: int) -> None:
    match place % 4:
        case 0:
            stores.operations.begin(operation(name, at))
        case 1:
            measured = {"environment": "prod", "service": "s", "value": 1.0, "sampled_at": at}
            stores.metrics.add([Metric(name=f"m{number}", **measured) for number in range(50)])
        case 2:
            one_row_each(stores, name, at)
        case _:
            batches.put_probes([replace(probe, checked_at=at, detail=name) for probe in probes(10)], "prod")


def read(folder: str, name: str, stop, answers) -> None:
    waits = []
    with Stores.open(Settings(data_dir=Path(folder))) as stores:

        def look() -> None:
            with stores.read_one_moment() as moment:
                moment.operations.history(limit=20)
                moment.metrics.latest("prod")

        while not stop.wait(0.05):
            waits.append(seconds(look))
    answers.put((name, waits))


def soak(minutes: float) -> None:
    until = time.monotonic() + minutes * 60
    context = multiprocessing.get_context("spawn")
    stop, answers = context.Event(), context.Queue()
    day = timedelta(days=1)
    policy = RetentionPolicy(monitoring=day, deployments=day, failed_deployments=day)
    with opened() as stores:
        works = [(write, f"writer{place}") for place in range(8)] + [(read, f"reader{place}") for place in range(2)]
        processes = [
            context.Process(target=work, args=(str(stores.folder), name, stop, answers)) for work, name in works
        ]
        for process in processes:
            process.start()
        rounds = largest = 0
        while time.monotonic() < until:
            for step in (compress_monitoring, clean_errors, archive_deployments, optimise, vacuum):
                step(stores, datetime.now(UTC), policy)
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


ALL = {
    "batch": batch,
    "transactions": transactions,
    "samples": samples,
    "deletion": deletion,
    "archive": archive,
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("which", nargs="*", default=list(ALL), choices=[*ALL, "soak", []])
    options.add_argument("--rows", type=int, default=5_000_000)
    options.add_argument("--minutes", type=float, default=10)
    given = options.parse_args()
    print(f"SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores, table {table(ProbeRow).name}")
    for name in given.which:
        soak(given.minutes) if name == "soak" else ALL[name](given.rows)


if __name__ == "__main__":
    main()
