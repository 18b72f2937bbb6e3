"""A crash harness: what is left of the stores after a crash at any instant, and after many kills.

`record` runs the real code under strace and notes what it does to its files and folders: writes, cuts, syncs, new
names, removals. From the notes the files are rebuilt as a crash at any point would leave them: a killed process
(all of it happened), a power failure (what was not synced did not), or one that kept some unsynced pages, names and
removals and lost others. Each state is opened, and must hold the same transactions in all three stores, every
acknowledged one, every accepted row once, audit logs that hold, and no damage. Controls do the same in the way that
everybody would write first; if the harness finds nothing wrong with one of them, it fails.

    python -m tests.integration.stores.crash            the whole, some minutes
    python -m tests.integration.stores.crash --quick    what the gate runs
"""

import argparse
import contextlib
import logging
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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from unittest import mock

import sqlalchemy as sa

from adapters.stores import Stores, batch, sqlite_file, transactions
from adapters.stores.audit_check import verify
from adapters.stores.batch import BatchWriter
from adapters.stores.database import SqliteDatabase
from adapters.stores.repositories import health
from models.health import ProbeResult, RecordedScore
from models.operations import Operation, OperationStatus, OperationType
from models.settings import Settings
from models.tables.monitoring import ProbeRow
from tests.integration.stores.values import ERROR
from tests.support.store_rows import all_or_none, put_score, set_aside

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
PAGE = 4096
CALLS = "pwrite64,write,fdatasync,fsync,ftruncate,rename,unlink,link"
TRACE = ["strace", "-f", "-y", "-xx", "-s", "1000000", "-e", f"trace={CALLS}"]

Step = Callable[[str], object]


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
        lambda stores: stores.operations.begin(operation),
        lambda stores: stores.errors.record(replace(ERROR, error_id=name)),
        lambda stores: put_score(stores, score),
        lambda stores: stores.pauses.pause("prod", name, None, "r", "b", NOON),
    ]


def transact(stores: Stores) -> Step:
    def step(name: str) -> None:
        all_or_none(stores, parts(name))
        # Of one store alone: the audit entry of the next transaction must still follow this one's.
        stores.pauses.pause("dev", name, None, "r", "b", NOON)

    return step


def one_after_another(stores: Stores) -> Step:
    """What a program without transactions over stores does: a control that must fail."""

    def step(name: str) -> None:
        for part in parts(name):
            part(stores)

    return step


def attached(stores: Stores) -> Step:
    """One transaction over three attached files, which SQLite does not keep whole in WAL mode: must fail."""
    files = {name: stores.folder / f"{name}.db" for name in ("monitoring", "errors")}
    connection = sqlite3.connect(stores.folder / "deployment_logs.db", isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    for name, file in files.items():
        connection.execute(f"ATTACH ? AS {name}", (str(file),))
        connection.execute(f"PRAGMA {name}.synchronous=FULL")

    def step(name: str) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO deployment_operations (deployment_id, operation_type, environment, status) "
            "VALUES (?, 'start', 'prod', 'failed')",
            (name,),
        )
        connection.execute(
            "INSERT INTO service_health_scores (timestamp, environment, service, score, grade) "
            "VALUES ('2026-07-01 12:00:00.000000', 'prod', ?, 0, 'F')",
            (name,),
        )
        connection.execute(
            "INSERT INTO deployment_errors (error_id, environment, text, category, severity, strategy, confidence, "
            "reason, fingerprint, source, first_seen, last_seen) VALUES (?, 'prod', '', '', 'low', '', 1, '', ?, '', "
            "'2026-07-01 12:00:00.000000', '2026-07-01 12:00:00.000000')",
            (name, name),
        )
        connection.execute("COMMIT")

    return step


def retire_at_once(stores: Stores) -> Step:
    """Intents go without the followers being synced: a control that must fail."""
    SqliteDatabase.sync = lambda _: None
    transactions._KEPT_INTENTS = 1
    return transact(stores)


WORKER = ["w"]
"""The name of the worker that puts rows in this process."""


def batch_up(stores: Stores, *, size: int = 3) -> Step:
    writer = BatchWriter(stores, batch_size=size)
    writer.flush()
    return lambda name: writer.put_probes([row(name)], "prod")


def batch_up_safely(stores: Stores) -> Step:
    """Each row is synced before it counts as accepted, so that what moves it must not lose it in a power failure."""
    writer = BatchWriter(stores, batch_size=3)
    writer.flush()

    def step(name: str) -> None:
        writer.put_probes([row(name)], "prod")
        if writer._journal._file is not None:
            os.fdatasync(writer._journal._file)

    return step


def batch_up_much(stores: Stores) -> Step:
    return batch_up(stores, size=25)


def insert_blindly(stores: Stores) -> Step:
    """Rows of a journal go in although they may be there already: a control that must fail."""
    return batch_up(stores)


def remove_without_sync(stores: Stores) -> Step:
    """A journal goes although its rows are not safe from a power failure yet: a control that must fail."""
    SqliteDatabase.sync = lambda _: None
    return batch_up_safely(stores)


WAYS: dict[str, Callable[[Stores], Step]] = {
    made.__name__: made
    for made in (
        transact,
        one_after_another,
        attached,
        retire_at_once,
        batch_up,
        batch_up_safely,
        insert_blindly,
        remove_without_sync,
    )
}
ROWS = (batch_up, batch_up_safely, insert_blindly, remove_without_sync)
"""The ways that put rows, instead of carrying out transactions."""
FORGETS = (batch_up, insert_blindly)
"""The ways in which a power failure may take the last moments; but it must not tear or double."""


def row(name: str) -> ProbeResult:
    # Every other one at a moment of its own.
    at = NOON + timedelta(seconds=int(name) // 2)
    return ProbeResult(service=WORKER[0], kind="http", target="t", ok=True, detail=name, checked_at=at)


def run_until_killed(folder: str, way: str, count: int, small: bool) -> None:
    if small:
        sqlite_file._CHECKPOINT_PAGES = 12
        transactions._KEPT_INTENTS = 4
        batch._TURN_BYTES = 500
    stores = Stores.open(Settings(data_dir=Path(folder)))
    step = WAYS[way](stores)
    acks = os.open(Path(folder) / "acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for place in range(count):
        step(str(place))
        os.write(acks, b"x")
    os.kill(os.getpid(), signal.SIGKILL)


# Recording


@dataclass
class Event:
    """One thing that happened to a file: a write, a cut, a sync, a new name or its removal.

    A file is known by the name it had first.
    """

    file: str
    kind: str
    at: int = 0
    data: bytes = b""
    name: str = ""


@dataclass
class Recording:
    """Files before, and all that happened to them."""

    before: dict[str, bytes]
    events: list[Event]
    acks: list[int] = field(default_factory=list)
    """How many transactions were acknowledged, or rows accepted, at each event."""
    rows: bool = False
    """Whether it is rows that were put."""
    forgets: bool = False
    """Whether a power failure may take what was accepted last."""
    blind: bool = False
    """Whether rows go in although they may be there already."""


_CALL = re.compile(r'^\d+ +(pwrite64|write|fdatasync|fsync|ftruncate)\(\d+<([^>]*)>(?:, "([^"]*)")?(?:\.\.\.)?(.*)$')
_NAMES = re.compile(r'^\d+ +(rename|unlink)\("([^"]*)"(?:, "([^"]*)")?\) += 0')


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def record(
    way: Callable[[Stores], Step], count: int, *, small: bool, before: dict[str, bytes] | None = None
) -> Recording:
    """Run the crashing process once and note what it did to its files."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "data"
        if before is None:
            with Stores.open(Settings(data_dir=folder)):
                pass
        else:
            put(folder, before)
        start = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        trace = Path(scratch) / "trace"
        given = f"{str(folder)!r}, {way.__name__!r}, {count}, {small}"
        call = f"from tests.integration.stores.crash import run_until_killed as run; run({given})"
        subprocess.run(
            [*TRACE, "-o", str(trace), sys.executable, "-c", call],
            check=False,
            cwd=Path(__file__).parents[3],
        )
        recording = _parse(trace, str(folder), start)
        return replace(recording, rows=way in ROWS, forgets=way in FORGETS, blind=way is insert_blindly)


def _parse(trace: Path, folder: str, start: dict[str, bytes]) -> Recording:
    recording = Recording({name: data for name, data in start.items() if not name.endswith("-shm")}, [])
    acked = 0
    sizes = {name: len(data) for name, data in recording.before.items()}
    first = {name: name for name in recording.before}
    for line in trace.read_text().splitlines():
        if event := _names_event(line, folder, first):
            recording.events.append(event)
        elif match := _CALL.match(line):
            kind, path, data, rest = match.groups()
            path = _bytes(path).decode() if path.startswith("\\x") else path
            if not path.startswith(folder + "/") or "failed" in rest or " = -1" in rest:
                continue
            name = path[len(folder) + 1 :].removesuffix(" (deleted)")
            file = first.setdefault(name, name)
            if name == "acks":
                acked += 1
            elif kind == "pwrite64":
                at = int(rest.rsplit(")", 1)[0].split(", ")[-1])
                recording.events.append(Event(file, "write", at, _bytes(data)))
            elif kind == "write":
                at = sizes.get(file, 0)
                sizes[file] = at + len(_bytes(data))
                recording.events.append(Event(file, "write", at, _bytes(data)))
            elif kind == "ftruncate":
                sizes[file] = int(rest.split(")")[0].strip(", "))
                recording.events.append(Event(file, "cut", sizes[file]))
            else:
                recording.events.append(Event(file, "sync"))
        recording.acks += [acked] * (len(recording.events) - len(recording.acks))
    if recording.acks:
        recording.acks[-1] = max(recording.acks[-1], acked)
    return recording


def _names_event(line: str, folder: str, first: dict[str, str]) -> Event | None:
    match = _NAMES.match(line)
    if match is None:
        return None
    kind, *paths = match.groups()
    names = [_bytes(path).decode().removeprefix(folder + "/") for path in paths if path]
    if names[0].startswith("/"):
        return None
    file = first.pop(names[0], names[0])
    if kind == "rename":
        first[names[1]] = file
    return Event(file, kind, name=names[-1])


# Rebuilding


def state(recording: Recording, until: int, crash: str, rng: random.Random) -> dict[str, bytes]:
    """The files as a crash right after event number `until` leaves them."""
    files = {name: bytearray(data) for name, data in recording.before.items()}
    names = {name: name for name in recording.before}
    happened = recording.events[: until + 1]
    synced = {event.file: place for place, event in enumerate(happened) if event.kind == "sync"}
    for place, event in enumerate(happened):
        # A name is as safe as its folder, what is in a file as safe as the file.
        of = str(Path(event.name).parent) if event.name else event.file
        safe = crash == "kill" or place < synced.get(of, -1)
        if event.kind == "sync" or (crash == "lose" and not safe):
            continue
        if event.kind in ("rename", "unlink"):
            if safe or rng.random() < 0.5:
                names[event.file] = event.name if event.kind == "rename" else ""
            continue
        content = files.setdefault(event.file, bytearray())
        names.setdefault(event.file, event.file)
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
    return {names[file]: bytes(content) for file, content in files.items() if names[file]}


def put(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


# Judging


def judge(folder: Path, acked: int, *, repair: bool = True) -> str:
    """What is wrong with the stores of a folder, in one word; `right` where nothing is."""
    unchained = False
    if repair:
        with Stores.open(Settings(data_dir=folder)) as stores:
            if set_aside(stores):
                return "corrupt"
            unchained = any(report.findings for report in verify(stores))
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
    if len(operations) < acked:
        return "lost"
    return "unchained" if unchained else "right"


def judge_rows(folder: Path, accepted: Mapping[str, int]) -> str:
    """What is wrong with the rows that workers put, after the journals of the dead are written."""
    with Stores.open(Settings(data_dir=folder)) as stores, BatchWriter(stores) as writer:
        if set_aside(stores):
            return "corrupt"
        writer.flush()
        with stores.databases["monitoring"].read() as connection:
            if connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() != "ok":
                return "corrupt"
            rows = [tuple(one) for one in connection.exec_driver_sql("SELECT service, detail FROM probe_results")]
            buried = connection.exec_driver_sql("SELECT count(*) FROM dead_letters").scalar_one()
    if len(set(rows)) != len(rows):
        return "doubled"
    expected = {(worker, str(place)) for worker, count in accepted.items() for place in range(count)}
    return "lost" if buried or not expected <= set(rows) else "right"


def insert(connection: sa.Connection, row: type[ProbeRow], rows: list[dict]) -> None:
    connection.execute(sa.insert(row), rows)


def judge_point(recording: Recording, repair: bool, samples: int, until: int) -> Counter:
    rng = random.Random(until)
    found: Counter = Counter()
    crashes = ["kill", "lose"] + ["some"] * samples
    for crash in crashes:
        with tempfile.TemporaryDirectory(dir=_fast_folder()) as scratch:
            folder = Path(scratch)
            put(folder, state(recording, until, crash, rng))
            acked = 0 if recording.forgets and crash != "kill" else recording.acks[until]
            with mock.patch.object(health, "insert_missing", insert) if recording.blind else contextlib.nullcontext():
                found[judge_rows(folder, {"w": acked}) if recording.rows else judge(folder, acked, repair=repair)] += 1
    return found


def judge_all(
    recording: Recording, *, repair: bool = True, samples: int = 6, every: int = 1, until: str = ""
) -> Counter:
    """Count what crashes at every (or every so many) point leave behind; of a control, until that is found once."""
    points = range(0, len(recording.events), every)
    found: Counter = Counter()
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        judged = pool.map(partial(judge_point, recording, repair, samples), points, chunksize=2 if until else 8)
        for one in judged:
            found += one
            if found[until]:
                pool.shutdown(wait=True, cancel_futures=True)
                break
    return found


def _fast_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


# Kills


def keep_transacting(folder: Path, way: Callable[[Stores], Step], worker: str) -> None:
    step = way(Stores.open(Settings(data_dir=folder)))
    acks = os.open(folder / f"acks-{worker}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for place in range(1_000_000):
        step(f"{worker}-{place}")
        os.write(acks, b"x")


def keep_putting(folder: Path, way: Callable[[Stores], Step], worker: str) -> None:
    WORKER[0] = worker
    step = way(Stores.open(Settings(data_dir=folder)))
    acks = os.open(folder / f"acks-{worker}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for place in range(1_000_000):
        step(str(place))
        os.write(acks, b"x")


def kill_many(folder: Path, work, way: Callable[[Stores], Step], kills: int, seed: int = 0) -> dict[str, int]:
    """Let four processes work, kill one at random and replace it, many times; what of each was acknowledged."""
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
    return {file.name.removeprefix("acks-"): file.stat().st_size for file in folder.glob("acks-*")}


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder / "data"
    finally:
        shutil.rmtree(folder)


class Campaign:
    """Tells what was found, and remembers whether anything was wrong."""

    def __init__(self) -> None:
        self.failed = False
        self.states = 0

    def tell(self, what: str, found: Counter, *, must_fail: bool = False) -> None:
        wrong = found.total() - found["right"]
        self.failed |= (wrong > 0) != must_fail
        if not must_fail:
            self.states += found.total()
        print(f"{'control, ' if must_fail else ''}{what}: {found.total()} states, {dict(found)}", flush=True)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    quick = options.parse_args().quick
    # A crash may leave something to report, thousands of times.
    logging.getLogger("roas").setLevel(logging.CRITICAL)
    campaign = Campaign()
    count, rows, every, samples = (4, 7, 7, 1) if quick else (12, 60, 1, 6)
    look = partial(judge_all, every=every, samples=samples)

    def and_again(done: Recording, way: Callable[[Stores], Step], acked: int) -> Recording:
        """What happens to the files while somebody repairs what a power failure left of `done`."""
        crash = "kill" if done.forgets else "lose"
        lost = state(done, len(done.events) - 1, crash, random.Random(0))
        again = record(way, 0, small=False, before={name: data for name, data in lost.items() if name != "acks"})
        again.acks = [acked] * len(again.events)
        return again

    whole = record(transact, count, small=False)
    campaign.tell("transactions", look(whole))
    campaign.tell("transactions, early checkpoints and retirement", look(record(transact, count, small=True)))
    campaign.tell("transactions, crash while repairing", look(and_again(whole, transact, count), every=1))
    for way in (batch_up, batch_up_safely):
        put_rows = record(way, rows, small=True)
        campaign.tell(f"rows, {way.__name__}, journals of few rows", look(put_rows))
        campaign.tell(f"rows, {way.__name__}", look(record(way, rows, small=False)))
        campaign.tell(f"rows, {way.__name__}, crash while repairing", look(and_again(put_rows, way, rows), every=1))
    less = partial(judge_all, every=max(every, 3), samples=1)
    campaign.tell("no repair", less(whole, repair=False), must_fail=True)
    for way in (one_after_another, attached):
        campaign.tell(way.__name__, less(record(way, count, small=False)), must_fail=True)
    campaign.tell("retire_at_once", look(record(retire_at_once, count, small=False), every=1), must_fail=True)
    for way in (insert_blindly, remove_without_sync):
        campaign.tell(way.__name__, judge_all(record(way, rows, small=True), samples=1), must_fail=True)

    kills = 30 if quick else 700
    with scratch_folder() as folder:
        acked = sum(kill_many(folder, keep_transacting, transact, kills).values())
        campaign.tell(f"{kills} kills of four writers, {acked} acknowledged", Counter([judge(folder, acked)]))
    with scratch_folder() as folder:
        kill_many(folder, keep_transacting, one_after_another, kills)
        campaign.tell(f"{kills} kills, one_after_another", Counter([judge(folder, 0)]), must_fail=True)
    with scratch_folder() as folder:
        accepted = kill_many(folder, keep_putting, batch_up_much, kills)
        said = f"{kills} kills of four batch writers, {sum(accepted.values())} accepted"
        campaign.tell(said, Counter([judge_rows(folder, accepted)]))
    print(f"{campaign.states} crash states and {2 * kills} kills: {'WRONG' if campaign.failed else 'as it must be'}")
    return int(campaign.failed)


if __name__ == "__main__":
    sys.exit(main())
