"""Benchmarks of the stores: each figure is a ratio of things measured in turns within one run.

python -m benchmarks.stores [batch|transactions|samples|deletion|archive ...] [--rows N]
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
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from sqlmodel import Session

from adapters.stores import Stores
from adapters.stores.archiver import Archiver
from adapters.stores.batch import BatchWriter
from adapters.stores.lifecycle.steps import RetentionPolicy, compress_monitoring
from adapters.stores.sql import table
from benchmarks.measure import in_turns, medians, report, seconds
from models.operations import Operation, OperationStatus, OperationType
from models.records import RecordedScore
from models.settings import Settings
from models.tables.monitoring import ProbeRow

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


def probes(count: int, first: int = 0) -> list[dict]:
    return [
        {
            "checked_at": NOON + timedelta(milliseconds=first + place),
            "environment": "prod",
            "service": "bot",
            "kind": "http",
            "target": "http://bot:8080/health",
            "ok": True,
            "detail": "200 in time",
            "latency_ms": place * 0.25,
        }
        for place in range(count)
    ]


RAW = (
    "INSERT INTO probe_results (checked_at, environment, service, kind, target, ok, detail, latency_ms) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


def converted(row: dict) -> tuple:
    moment = row["checked_at"].astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    names = ("environment", "service", "kind", "target", "ok", "detail", "latency_ms")
    return (moment, *(row[name] for name in names))


def raw(connection: sqlite3.Connection, rows: list[dict], size: int) -> None:
    for at in range(0, len(rows), size):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(RAW, [converted(row) for row in rows[at : at + size]])
        connection.execute("COMMIT")


def add_all(stores: Stores, rows: list[dict], size: int) -> None:
    for at in range(0, len(rows), size):
        with stores.databases["monitoring"].write() as connection, Session(connection) as session:
            session.add_all([ProbeRow(**row) for row in rows[at : at + size]])
            session.flush()


def put_many(writer: BatchWriter, rows: list[dict], size: int) -> None:
    for at in range(0, len(rows), size):
        writer.put_many(ProbeRow, rows[at : at + size])


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
            "one": lambda rows: ([writer.put(ProbeRow, row) for row in rows], writer.flush()),
            "session": lambda rows: add_all(stores, rows, size),
        }
        clocks = (time.perf_counter, time.process_time)
        taken = in_turns(16, works, lambda: (probes(count, next(begins)),), clocks)
    for place, clock in enumerate(("", " (CPU)")):
        middle = medians(taken, place)
        what = f"batch {size}{clock}:"
        report(f"{what} raw executemany", count / middle["raw"], "rows/s")
        report(f"{what} put_many against raw", middle["raw"] / middle["many"], least=0.90)
        report(f"{what} put, each surviving a kill, against raw", middle["raw"] / middle["one"], least=0.70)
        report(f"{what} put_many against session.add_all", middle["session"] / middle["many"], least=8)


# Transactions over stores


def one_row_each(stores: Stores, name: str) -> None:
    operation = Operation(
        deployment_id=name,
        operation_type=OperationType.START,
        environment="prod",
        status=OperationStatus.SUCCESS,
        started_at=NOON,
        ended_at=NOON + timedelta(seconds=30),
    )
    score = RecordedScore(environment="prod", service=name, score=1, grade="A", scored_at=NOON)
    stores.execute_cross_db_transaction(
        [
            lambda inside: inside.operations.begin(operation),
            lambda inside: inside.health.record_score(score),
            lambda inside: inside.pauses.pause("prod", name, None, "r", "b", NOON),
        ]
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


ALL = {
    "batch": batch,
    "transactions": transactions,
    "samples": samples,
    "deletion": deletion,
    "archive": archive,
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("which", nargs="*", default=list(ALL))
    options.add_argument("--rows", type=int, default=5_000_000)
    given = options.parse_args()
    print(f"SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores, table {table(ProbeRow).name}")
    for name in given.which:
        ALL[name](given.rows)


if __name__ == "__main__":
    main()
