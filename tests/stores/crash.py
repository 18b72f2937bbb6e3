"""A crash harness: what is left of the stores after a crash at any instant, and after many kills.

`record` runs the real code under strace and notes every write and sync of its files. From the notes the files
are rebuilt as a crash at any point would leave them: a killed process (every write is there), a power failure
(what was not synced is gone), or one that kept some unsynced pages and lost others. Each state is opened, and
must hold the same transactions in all three stores, every acknowledged one, and no damage.

    python -m tests.stores.crash            the whole, some minutes
    python -m tests.stores.crash --quick    what the gate runs
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from adapters.stores import Stores, database, transactions
from adapters.stores.batch import BatchWriter
from models.operations import Operation, OperationStatus, OperationType
from models.records import RecordedScore
from models.settings import Settings
from models.tables.monitoring import ProbeRow
from tests.stores.values import ERROR

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
PAGE = 4096
TRACE = ["strace", "-f", "-y", "-xx", "-s", "1000000", "-e", "trace=pwrite64,write,fdatasync,fsync,ftruncate"]


# What the crashing process does


def parts(name: str):
    operation = Operation(
        deployment_id=name,
        operation_type=OperationType.START,
        environment="prod",
        status=OperationStatus.FAILED,
        started_at=NOON,
    )
    score = RecordedScore(environment="prod", service=name, score=0, grade="F", scored_at=NOON)
    # The error has one cause, so recording it counts up: doing it twice would show.
    return [
        lambda stores: stores.deployments.begin(operation),
        lambda stores: stores.errors.record(replace(ERROR, error_id=name)),
        lambda stores: stores.monitoring.record_score(score),
    ]


def transact(stores: Stores, name: str) -> None:
    stores.execute_cross_db_transaction(parts(name))


def one_after_another(stores: Stores, name: str) -> None:
    """What a program without transactions over stores does: the control that must fail."""
    for part in parts(name):
        part(stores)


WAYS = {"together": transact, "naive": one_after_another}


def run_until_killed(folder: str, way: str, count: int, small: bool) -> None:
    if small:
        database._CHECKPOINT_PAGES = 12
        transactions._KEPT_INTENTS = 4
    stores = Stores.open(Settings(data_dir=Path(folder)))
    acks = os.open(Path(folder) / "acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for place in range(count):
        WAYS[way](stores, f"t{place}")
        os.write(acks, b"x")
    os.kill(os.getpid(), signal.SIGKILL)


# Recording


@dataclass
class Event:
    """One thing that happened to a file: a write, a cut or a sync."""

    file: str
    kind: str
    at: int = 0
    data: bytes = b""


@dataclass
class Recording:
    """Files before, and all that happened to them."""

    before: dict[str, bytes]
    events: list[Event]
    acks: list[int] = field(default_factory=list)
    """How many transactions were acknowledged at each event."""


_CALL = re.compile(r'^\d+ +(pwrite64|write|fdatasync|fsync|ftruncate)\(\d+<([^>]*)>(?:, "([^"]*)")?(?:\.\.\.)?(.*)$')


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def record(way: str, count: int, *, small: bool, before: dict[str, bytes] | None = None) -> Recording:
    """Run the crashing process once and note what it did to its files."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "data"
        if before is None:
            with Stores.open(Settings(data_dir=folder)):
                pass
        else:
            put(folder, before)
        start = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
        trace = Path(scratch) / "trace"
        call = (
            f"from tests.stores.crash import run_until_killed as run; run({str(folder)!r}, {way!r}, {count}, {small})"
        )
        subprocess.run(
            [*TRACE, "-o", str(trace), sys.executable, "-c", call],
            check=False,
            cwd=Path(__file__).parents[2],
        )
        return _parse(trace, str(folder), start)


def _parse(trace: Path, folder: str, start: dict[str, bytes]) -> Recording:
    recording = Recording({name: data for name, data in start.items() if not name.endswith("-shm")}, [])
    acked = 0
    sizes = {name: len(data) for name, data in recording.before.items()}
    for line in trace.read_text().splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        kind, path, data, rest = match.groups()
        path = _bytes(path).decode() if path.startswith("\\x") else path
        if not path.startswith(folder + "/") or "failed" in rest or " = -1" in rest:
            continue
        name = path[len(folder) + 1 :].removesuffix(" (deleted)")
        if name == "acks":
            acked += 1
        elif kind == "pwrite64":
            at = int(rest.rsplit(")", 1)[0].split(", ")[-1])
            recording.events.append(Event(name, "write", at, _bytes(data)))
        elif kind == "write":
            at = sizes.get(name, 0)
            recording.events.append(Event(name, "write", at, _bytes(data)))
        elif kind == "ftruncate":
            recording.events.append(Event(name, "cut", int(rest.split(")")[0].strip(", "))))
        else:
            recording.events.append(Event(name, "sync"))
        recording.acks += [acked] * (len(recording.events) - len(recording.acks))
    if recording.acks:
        recording.acks[-1] = max(recording.acks[-1], acked)
    return recording


# Rebuilding


def state(recording: Recording, until: int, crash: str, rng: random.Random) -> dict[str, bytes]:
    """The files as a crash right after event number `until` leaves them."""
    files = {name: bytearray(data) for name, data in recording.before.items()}
    happened = recording.events[: until + 1]
    synced = {event.file: place for place, event in enumerate(happened) if event.kind == "sync"}
    for place, event in enumerate(happened):
        safe = crash == "kill" or place < synced.get(event.file, -1)
        if event.kind == "sync" or (crash == "lose" and not safe):
            continue
        content = files.setdefault(event.file, bytearray())
        if event.kind == "cut":
            if safe or rng.random() < 0.5:
                del content[event.at :]
                content.extend(bytes(event.at - len(content)))
            continue
        for at in range(0, len(event.data), PAGE):
            if safe or rng.random() < 0.5:
                piece = event.data[at : at + PAGE]
                content.extend(bytes(max(0, event.at + at - len(content))))
                content[event.at + at : event.at + at + len(piece)] = piece
    return {name: bytes(content) for name, content in files.items()}


def put(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


# Judging


def judge(folder: Path, acked: int, *, repair: bool = True) -> str:
    """What is wrong with the stores of a folder, in one word; `right` where nothing is."""
    if repair:
        with Stores.open(Settings(data_dir=folder)) as stores:
            if stores.set_aside:
                return "corrupt"
    answers: dict[str, list] = {}
    queries = {
        "deployment_logs": "SELECT deployment_id FROM deployment_operations",
        "monitoring": "SELECT service FROM service_health_scores",
        "errors": "SELECT coalesce(sum(count), 0) FROM deployment_errors",
    }
    for name, query in queries.items():
        with contextlib.closing(sqlite3.connect(folder / f"{name}.db")) as file:
            if file.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                return "corrupt"
            answers[name] = [row[0] for row in file.execute(query)]
    operations, scores, [errors] = answers["deployment_logs"], answers["monitoring"], answers["errors"]
    if len(set(operations)) != len(operations) or len(set(scores)) != len(scores):
        return "doubled"
    if set(operations) != set(scores) or errors != len(operations):
        return "torn"
    return "lost" if len(operations) < acked else "right"


def judge_point(recording: Recording, repair: bool, samples: int, until: int) -> Counter:
    rng = random.Random(until)
    found: Counter = Counter()
    crashes = ["kill", "lose"] + ["some"] * samples
    for crash in crashes:
        with tempfile.TemporaryDirectory(dir=_fast_folder()) as scratch:
            folder = Path(scratch)
            put(folder, state(recording, until, crash, rng))
            found[judge(folder, recording.acks[until], repair=repair)] += 1
    return found


def judge_all(recording: Recording, *, repair: bool = True, samples: int = 6, every: int = 1) -> Counter:
    """Count what crashes at every (or every so many) point leave behind."""
    points = range(0, len(recording.events), every)
    found: Counter = Counter()
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        for one in pool.map(partial(judge_point, recording, repair, samples), points, chunksize=8):
            found += one
    return found


def _fast_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


# Kills


def keep_transacting(folder: Path, way: str, worker: str) -> None:
    stores = Stores.open(Settings(data_dir=folder))
    acks = os.open(folder / f"acks-{worker}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for place in range(1_000_000):
        WAYS[way](stores, f"{worker}-{place}")
        os.write(acks, b"x")


def keep_putting(folder: Path, way: str, worker: str) -> None:
    writer = BatchWriter(Stores.open(Settings(data_dir=folder)), batch_size=25)
    acks = os.open(folder / f"acks-{worker}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for place in range(1_000_000):
        writer.put(
            ProbeRow,
            {
                "checked_at": NOON,
                "environment": "prod",
                "service": worker,
                "kind": "http",
                "target": "t",
                "ok": True,
                "detail": str(place),
            },
        )
        os.write(acks, b"x")


def kill_many(folder: Path, work, way: str, kills: int, seed: int = 0) -> int:
    """Let four processes work, kill one at random and replace it, many times; how many were acknowledged."""
    with Stores.open(Settings(data_dir=folder)):
        pass
    context = multiprocessing.get_context("fork")
    rng = random.Random(seed)
    born = 0

    def begin():
        nonlocal born
        born += 1
        process = context.Process(target=work, args=(folder, way, f"w{born}"), daemon=True)
        process.start()
        return process

    workers = [begin() for _ in range(4)]
    for _ in range(kills):
        time.sleep(rng.uniform(0.005, 0.06))
        victim = rng.randrange(4)
        workers[victim].kill()
        workers[victim].join()
        workers[victim] = begin()
    for worker in workers:
        worker.kill()
        worker.join()
    return sum(file.stat().st_size for file in folder.glob("acks-*"))


def judge_spools(folder: Path, acked: int) -> str:
    """Whether every accepted row is in the store once, after the spools of the dead are emptied."""
    with Stores.open(Settings(data_dir=folder)) as stores, BatchWriter(stores) as writer:
        writer.flush()
        with stores.databases["monitoring"].read() as connection:
            rows = connection.exec_driver_sql("SELECT service, detail FROM probe_results").all()
    found = Counter(row.service for row in rows)
    if len(set(rows)) != len(rows):
        return "doubled"
    for file in folder.glob("acks-*"):
        if found[file.name.removeprefix("acks-")] < file.stat().st_size:
            return "lost"
    return "right" if len(rows) >= acked else "lost"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder / "data"
    finally:
        shutil.rmtree(folder)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    quick = options.parse_args().quick
    failed = False

    def tell(what: str, found: Counter, *, must_fail: bool = False) -> None:
        nonlocal failed
        wrong = sum(count for word, count in found.items() if word != "right")
        failed |= (wrong > 0) != must_fail
        print(f"{what}: {sum(found.values())} states, {dict(found)}", flush=True)

    count = 4 if quick else 24
    every, samples = (7, 1) if quick else (1, 6)
    tell("redo log", judge_all(record("together", count, small=False), every=every, samples=samples))
    small = record("together", count, small=True)
    tell("redo log, early checkpoints and retirement", judge_all(small, every=every, samples=samples))
    begun = record("together", count, small=False)
    lost = state(begun, len(begun.events) - 1, "lose", random.Random(0))
    again = record("together", 0, small=False, before={k: v for k, v in lost.items() if k != "acks"})
    again.acks = [count] * len(again.events)
    tell("crash while repairing", judge_all(again, every=1 if not quick else 3, samples=samples))
    naive = record("naive", count, small=False)
    tell("control: one commit after another", judge_all(naive, every=every, samples=samples), must_fail=True)
    tell("control: no repair", judge_all(begun, repair=False, every=every, samples=samples), must_fail=True)
    kills = 30 if quick else 700
    with scratch_folder() as folder:
        acked = kill_many(folder, keep_transacting, "together", kills)
        tell(f"{kills} kills of four writers, {acked} acknowledged", Counter([judge(folder, acked)]))
    with scratch_folder() as folder:
        kill_many(folder, keep_transacting, "naive", kills)
        tell(f"control: {kills} kills, one commit after another", Counter([judge(folder, 0)]), must_fail=True)
    with scratch_folder() as folder:
        acked = kill_many(folder, keep_putting, "", kills)
        tell(f"{kills} kills of four batch writers, {acked} accepted", Counter([judge_spools(folder, acked)]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
