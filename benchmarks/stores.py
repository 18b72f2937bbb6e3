"""Benchmarks of the stores: each figure is a ratio of things measured in turns within one run.

python -m benchmarks.stores [batch|put|transactions|samples|deletion|archive|days ...] [--rows N]
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlmodel import Session

from adapters.stores import Stores
from adapters.stores.archiver import Archiver
from adapters.stores.batch import BatchWriter
from adapters.stores.lifecycle.steps import RetentionPolicy, compress_monitoring
from adapters.stores.sql import table
from models.operations import Operation, OperationStatus, OperationType
from models.records import RecordedScore
from models.settings import Settings
from models.tables.monitoring import ProbeRow

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@contextmanager
def opened() -> Iterator[Stores]:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, Stores.open(Settings(data_dir=Path(folder))) as stores:
        yield stores


def reported(name: str, value: float, goal: str, unit: str = "") -> None:
    print(f"{name:62} {value:12.3f} {unit:10} (goal {goal})", flush=True)


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    began = clock()
    work()
    return clock() - began


def processor_seconds(archiver: Archiver) -> float:
    """Of the process that writes archives: what else runs here does not count."""
    fields = Path(f"/proc/{archiver._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def in_turns(
    rounds: int, clock: Callable[[], float] = time.perf_counter, **works: Callable[[], object]
) -> dict[str, float]:
    """Median seconds of each, measured in turns; each goes first as often as the others, since tables grow."""
    taken = each_in_turns(rounds, (clock,), tuple, **works)
    return {name: statistics.median(one for (one,) in times) for name, times in taken.items()}


def each_in_turns(
    rounds: int, clocks: Sequence[Callable[[], float]], prepare: Callable[[], tuple], **works: Callable[..., object]
) -> dict[str, list[tuple[float, ...]]]:
    """What each took in each round by each clock, given what `prepare` gives anew every time."""
    taken: dict[str, list[tuple[float, ...]]] = {name: [] for name in works}
    for turn in range(rounds):
        first = turn % len(works)
        for name in [*works][first:] + [*works][:first]:
            given = prepare()
            began = [clock() for clock in clocks]
            works[name](*given)
            taken[name].append(tuple(clock() - start for clock, start in zip(clocks, began, strict=True)))
    return taken


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


def put(writer: BatchWriter, rows: list[dict]) -> None:
    for row in rows:
        writer.put(ProbeRow, row)


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
        taken = each_in_turns(
            16,
            (time.perf_counter, time.process_time),
            lambda: (probes(count, next(begins)),),
            raw=lambda rows: raw(connection, rows, size),
            many=lambda rows: (put_many(writer, rows, size), writer.flush()),
            one=lambda rows: (put(writer, rows), writer.flush()),
            session=lambda rows: add_all(stores, rows, size),
        )
    for place, clock in enumerate(("", " (CPU)")):
        middle = {name: statistics.median(times[place] for times in taken[name]) for name in taken}
        reported(f"batch {size}{clock}: raw executemany", count / middle["raw"], "-", "rows/s")
        reported(f"batch {size}{clock}: put_many against raw", middle["raw"] / middle["many"], ">= 0.90")
        reported(
            f"batch {size}{clock}: put, each surviving a kill, against raw", middle["raw"] / middle["one"], ">= 0.70"
        )
        reported(f"batch {size}{clock}: put_many against session.add_all", middle["session"] / middle["many"], ">= 8")


def produce(folder: str, count: int, answers) -> None:
    waits = []
    with Stores.open(Settings(data_dir=Path(folder))) as stores, BatchWriter(stores, batch_size=1000) as writer:
        for row in probes(count):
            began = time.perf_counter()
            writer.put(ProbeRow, row)
            waits.append(time.perf_counter() - began)
    answers.put(sorted(waits))


def four(_: int) -> None:
    count = 40_000
    with opened() as stores:
        folder = str(stores.folder)
        answers: multiprocessing.Queue = multiprocessing.Queue()

        def run(writers: int) -> tuple[float, list[float]]:
            began = time.perf_counter()
            processes = [
                multiprocessing.get_context("fork").Process(target=produce, args=(folder, count, answers))
                for _ in range(writers)
            ]
            for process in processes:
                process.start()
            waits = sorted(wait for _ in processes for wait in answers.get())
            for process in processes:
                process.join()
            return writers * count / (time.perf_counter() - began), waits

        alone, together, tails = [], [], []
        for _ in range(3):
            alone.append(run(1)[0])
            rate, waits = run(4)
            together.append(rate)
            tails.append(waits[int(len(waits) * 0.99)] * 1000)
    reported("four producers: p99 of put", statistics.median(tails), "<= 0.1", "ms")
    reported("four producers: rows/s against one", statistics.median(together) / statistics.median(alone), ">= 0.95")


# Transactions over stores


def operation(name: str, at: datetime = NOON, status: OperationStatus = OperationStatus.SUCCESS) -> Operation:
    return Operation(
        deployment_id=name,
        operation_type=OperationType.START,
        environment="prod",
        status=status,
        started_at=at,
        ended_at=at + timedelta(seconds=30),
    )


def one_row_each(stores: Stores, name: str) -> None:
    score = RecordedScore(environment="prod", service=name, score=1, grade="A", scored_at=NOON)
    stores.execute_cross_db_transaction(
        [
            lambda inside: inside.operations.begin(operation(name)),
            lambda inside: inside.health.record_score(score),
            lambda inside: inside.pauses.pause("prod", name, None, "r", "b", NOON),
        ]
    )


ROWS = (
    (
        "INSERT INTO deployment_operations (deployment_id, operation_type, environment, status, start_time, end_time, "
        "duration_ms) VALUES (?, 'start', 'prod', 'success', '2026-07-01 12:00:00.000000', "
        "'2026-07-01 12:00:30.000000', 30000) ON CONFLICT (deployment_id) DO NOTHING"
    ),
    (
        "INSERT INTO service_health_scores (timestamp, environment, service, score, grade, suggestions) "
        "VALUES ('2026-07-01 12:00:00.000000', 'prod', ?, 1.0, 'A', '[]')"
    ),
    (
        'INSERT INTO recovery_controls (environment, service_name, reason, "by", paused_at) '
        "VALUES ('prod', ?, 'r', 'b', '2026-07-01 12:00:00.000000') "
        "ON CONFLICT (environment, service_name) DO UPDATE SET reason = excluded.reason"
    ),
)


def attached(folder: Path, mode: str) -> sqlite3.Connection:
    """The same tables in files that SQLite itself commits as one; in WAL mode not if the process is killed."""
    with Stores.open(Settings(data_dir=folder)):
        pass
    connection = sqlite3.connect(folder / "deployment_logs.db", isolation_level=None)
    for name in ("monitoring", "errors"):
        connection.execute(f"ATTACH '{folder}/{name}.db' AS {name}")
    for name in ("main", "monitoring", "errors"):
        connection.execute(f"PRAGMA {name}.journal_mode={mode}").fetchall()
        connection.execute(f"PRAGMA {name}.synchronous=FULL")
    return connection


def write_attached(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in ROWS:
        connection.execute(statement, (name,))
    connection.execute("COMMIT")


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
    reported("transaction over three stores: syncs", (counts[1] - counts[0]) / 256, "<= 1.1")


def transactions(_: int) -> None:
    if shutil.which("strace"):
        sync_count()
    with (
        opened() as stores,
        closing(attached(stores.folder / "truncate", "TRUNCATE")) as truncating,
        closing(attached(stores.folder / "wal", "WAL")) as logging,
    ):
        names = (f"t{place}" for place in itertools.count())
        taken = each_in_turns(
            600,
            (time.perf_counter, time.process_time),
            lambda: (next(names),),
            ours=lambda name: one_row_each(stores, name),
            truncate=lambda name: write_attached(truncating, name),
            wal=lambda name: write_attached(logging, name),
        )
    mean = {name: statistics.mean(wall for wall, _ in times) for name, times in taken.items()}
    reported("transaction over three stores: mean", mean["ours"] * 1000, "-", "ms")
    reported("  of it on the processor", statistics.mean(busy for _, busy in taken["ours"]) * 1000, "-", "ms")
    reported("against ATTACH, TRUNCATE, FULL, the same rows (mean)", mean["truncate"] / mean["ours"], ">= 5")
    reported("against ATTACH, WAL, FULL, which tears (mean)", mean["wal"] / mean["ours"], "-")


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


WIDE = """
CREATE TABLE wide (
    id INTEGER PRIMARY KEY, environment TEXT, service TEXT, metric TEXT, value REAL, ts TEXT, labels TEXT
);
CREATE INDEX wide_1 ON wide(service, metric, ts); CREATE INDEX wide_2 ON wide(ts);
"""


def samples(rows: int) -> None:
    with opened() as stores, closing(same_settings(stores)) as connection:
        folder = stores.folder
        path = stores.databases["monitoring"].path
        empty = path.stat().st_size
        fill_samples(connection, rows, 1_767_225_600_000)
        reported("a sample on disk", (path.stat().st_size - empty) / rows, "<= 25", "bytes")
        wide = sqlite3.connect(folder / "wide.db", isolation_level=None)
        wide.execute("PRAGMA journal_mode=WAL").fetchall()
        for setting in ("synchronous=NORMAL", "cache_size=-16384", "temp_store=MEMORY"):
            wide.execute(f"PRAGMA {setting}")
        wide.executescript(WIDE)
        insert = (
            "INSERT INTO wide (environment, service, metric, value, ts, labels) "
            "VALUES ('prod', ?, ?, ?, ?, '{\"a\":1}')"
        )
        wide.execute("BEGIN")
        wide.executemany(
            insert,
            (
                (
                    f"service{place % SERIES // 10}",
                    f"metric{place % 10}",
                    place / 7,
                    f"2026-01-01 {place // SERIES:08d}",
                )
                for place in range(rows)
            ),
        )
        wide.execute("COMMIT")
        wide.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        for one in (connection, wide):
            one.execute("PRAGMA wal_autocheckpoint=0")
        at = 1_767_225_600_000 + (rows // SERIES + 1) * 60_000
        count = 200
        state = {"narrow": 0, "wide": 0}

        def narrow_batches() -> None:
            for _ in range(count):
                begin = at + state["narrow"] * 60_000
                state["narrow"] += 1
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(
                    "INSERT INTO metric_samples (ts, series, value) VALUES (?, ?, ?)",
                    [(begin, place + 1, place / 7) for place in range(100)],
                )
                connection.execute("COMMIT")

        def wide_batches() -> None:
            for _ in range(count):
                moment = f"2026-01-02 {state['wide']:08d}"
                state["wide"] += 1
                rows = [(f"service{place // 10}", f"metric{place % 10}", place / 7, moment) for place in range(100)]
                wide.execute("BEGIN IMMEDIATE")
                wide.executemany(insert, rows)
                wide.execute("COMMIT")

        def settled(one: sqlite3.Connection, write: Callable[[], None]) -> None:
            write()
            one.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

        narrow_batches()
        wal = stores.databases["monitoring"].wal_path.stat().st_size
        reported("a sample in the WAL, batches of 100", wal / (count * 100), "<= 300", "bytes")
        commits = in_turns(6, narrow=narrow_batches, wide=wide_batches)
        reported("insert rate against the wide table, commits alone", commits["wide"] / commits["narrow"], "-")
        # Committed data must also go from the log into the file, page by page.
        taken = in_turns(
            6,
            narrow=lambda: settled(connection, narrow_batches),
            wide=lambda: settled(wide, wide_batches),
        )
        reported("insert rate, samples", count * 100 / taken["narrow"], "-", "rows/s")
        reported("insert rate against the wide table", taken["wide"] / taken["narrow"], ">= 10")
        wide.close()


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
        from adapters.stores.lifecycle import samples as lifecycle

        deleting: list[float] = []
        original = lifecycle._delete_chunks

        def timed(*given) -> None:
            deleting.append(seconds(lambda: original(*given)))

        lifecycle._delete_chunks = timed
        writer.start()
        took = seconds(lambda: compress_monitoring(stores, now, RetentionPolicy(step_time=timedelta(hours=1))))
        stop.set()
        waits, peak = answers.get()
        writer.join()
        lifecycle._delete_chunks = original
    gone = rows * 0.4
    reported("deleting 40 %: deletion alone", gone / sum(deleting), ">= 1,000,000", "rows/s")
    reported("deleting 40 %: summed up, archived, verified and deleted", gone / took, "-", "rows/s")
    reported("a live writer meanwhile: p99", waits[int(len(waits) * 0.99)] * 1000, "<= 20", "ms")
    reported("a live writer meanwhile: longest", waits[-1] * 1000, "<= 150", "ms")
    reported("more disk meanwhile", (peak - size) / size * 100, "<= 10", "%")


def live_writer(folder: str, stop, answers) -> None:
    waits, peak = [], 0
    with Stores.open(Settings(data_dir=Path(folder))) as stores:
        database = stores.databases["monitoring"]
        while not stop.wait(0.01):
            waits.append(seconds(lambda: stores.heartbeats.beat("another process", NOON)))
            peak = max(peak, database.path.stat().st_size + database.wal_path.stat().st_size)
    answers.put((sorted(waits), peak))


PYTHON_LOOP = """
import sqlite3, sys, time
import pyarrow as pa, pyarrow.parquet as pq
began = time.process_time()
connection = sqlite3.connect(sys.argv[1])
cursor = connection.execute("SELECT ts, series, value FROM metric_samples")
schema = pa.schema([("ts", pa.int64()), ("series", pa.int64()), ("value", pa.float64())])
with pq.ParquetWriter(sys.argv[2], schema, compression="zstd") as writer:
    while rows := cursor.fetchmany(65536):
        writer.write_table(pa.table(list(zip(*rows)), schema=schema))
print(time.process_time() - began)
"""


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

        def loop() -> float:
            command = [sys.executable, "-c", PYTHON_LOOP, path, folder / "loop.parquet"]
            return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

        ours_taken, loop_taken = [], []
        with Archiver() as archiver:
            ours(archiver)
            for _ in range(3):
                began = processor_seconds(archiver)
                ours(archiver)
                ours_taken.append(processor_seconds(archiver) - began)
                loop_taken.append(loop())
            status = Path(f"/proc/{archiver._process.pid}/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
        taken = {"ours": statistics.median(ours_taken), "loop": statistics.median(loop_taken)}
    reported("archive, read back and compared", rows / taken["ours"], "-", "rows/CPU s")
    reported("archive against a Python loop that does not verify", taken["loop"] / taken["ours"], ">= 2")
    reported("archive: a row", sum(one.size for one in made) / sum(one.rows for one in made), "<= 3", "bytes")
    reported("archive: peak memory", peak, "<= 200", "MiB")


def days(_: int) -> None:
    count = 1_000_000
    with opened() as stores, closing(stores.databases["deployment_logs"]._connect(query_only=False)) as connection:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO deployment_operations (deployment_id, operation_type, environment, status, start_time, "
            "end_time, duration_ms) VALUES (?, 'start', ?, ?, ?, ?, ?)",
            (
                (
                    f"d{place}",
                    f"env{place % 5}",
                    "failed" if place % 13 == 0 else "success",
                    f"{NOON - timedelta(seconds=place * 31):%Y-%m-%d %H:%M:%S.%f}",
                    f"{NOON - timedelta(seconds=place * 31 - 30):%Y-%m-%d %H:%M:%S.%f}",
                    30_000,
                )
                for place in range(count)
            ),
        )
        connection.execute("COMMIT")
        connection.execute("ANALYZE")

        def ask(query: str) -> Callable[[], list]:
            return lambda: connection.execute(query).fetchall()

        scan = (
            "SELECT substr(start_time, 1, 10) AS d, count(*), sum(status = 'success') "
            "FROM deployment_operations NOT INDEXED GROUP BY d ORDER BY d"
        )
        # By both columns of the index: counting a group costs less than summing each of its rows.
        index = (
            "SELECT day, sum(n), sum(n * ok) FROM "
            "(SELECT day, ok, count(*) AS n FROM deployment_operations GROUP BY day, ok) "
            "WHERE ok IS NOT NULL GROUP BY day ORDER BY day"
        )
        bare = "SELECT count(day), sum(ok) FROM deployment_operations INDEXED BY idx_deployment_operations_day"
        found = stores.operations.success_by_day(3650, NOON)
        assert [(one.day.isoformat(), one.total, one.successes) for one in found] == ask(scan)() == ask(index)()
        taken = in_turns(
            9,
            time.process_time,
            scan=ask(scan),
            index=ask(index),
            bare=ask(bare),
            ours=lambda: stores.operations.success_by_day(3650, NOON),
        )
    reported("success by day over 1 M operations, all days", taken["ours"] * 1000, "-", "CPU ms")
    reported("by its index against the bare scan of that index", taken["index"] / taken["bare"], "<= 1.2")
    reported("by the daily roll-up against the table scan", taken["scan"] / taken["ours"], ">= 100")


ALL = {
    "batch": batch,
    "put": four,
    "transactions": transactions,
    "samples": samples,
    "deletion": deletion,
    "archive": archive,
    "days": days,
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
