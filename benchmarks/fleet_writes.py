"""What one agent asks of the stores and of its engine: transactions and rows an hour, requests a minute.

    python -m benchmarks.fleet_writes --environments 20 --seconds 180

Each environment is one container that sleeps. The stores are in a PostgreSQL server of this run, which the agent
reaches as an enrolled host; the engine is asked through a socket that counts. It takes the time until all are watched,
a minute of settling, and `--seconds`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from adapters.host.identity import host_identity
from adapters.server.store_roles import make_role
from benchmarks.fleet import _applications, _until
from benchmarks.measure import report
from models.settings import Settings
from tests.support.postgresql_server import postgresql

_ENGINE = "/var/run/docker.sock"
_SETTLE_SECONDS = 60.0
_HOUR = 3600.0
_REQUEST = re.compile(rb"^(GET|POST|DELETE|HEAD|PUT) (\S+) HTTP/1\.1\r$", re.MULTILINE)


def main() -> None:
    """Measure one agent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--tables", action="store_true", help="Also rows by table, and requests by path.")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roas-fleet-")))
        names = stack.enter_context(_applications(folder, given))
        server = stack.enter_context(postgresql())
        url = stack.enter_context(server.database())
        asked = stack.enter_context(counting(folder / "engine.sock"))
        for file in (folder / "environments").glob("*.yaml"):
            file.write_text(f"{file.read_text()}engine: unix://{folder}/engine.sock\n")
        here = host_identity(folder / "data")
        make_role(Settings(data_dir=folder / "plane", stores_url=url), "host-bench", here.host_id)
        log = folder / "log"
        with agent(folder, url.replace("roas@", "host-bench@"), log):
            _until(lambda: all(f"watching {name}\n" in log.read_text() for name in names), 300, log)
            time.sleep(_SETTLE_SECONDS)
            before, requests = statistics_of(url), Counter(asked)
            time.sleep(given.seconds)
            after = statistics_of(url)
            requests = Counter(asked) - requests
        show(after - before, requests, given)


@contextmanager
def agent(folder: Path, stores: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The agent of a host with these stores, ended at the end."""
    variables = {
        "ROAS_DATA_DIR": str(folder / "data"),
        "ROAS_ENVIRONMENTS_DIR": str(folder / "environments"),
        "ROAS_STORES_URL": stores,
        "PREFECT_HOME": str(folder / "prefect"),
    }
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", "from cli.entry import main; main()", "worker"],
            env=os.environ | variables,
            stdout=said,
            stderr=said,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def statistics_of(url: str) -> Counter[str]:
    """Transactions, and rows inserted and changed by table, since the database was made."""
    with psycopg.connect(url) as connection:
        # What sessions have counted is shown once it is a second old.
        time.sleep(2)
        found = Counter[str]()
        committed = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        found["transactions"] = connection.execute(committed).fetchall()[0][0]
        rows = "SELECT schemaname || '.' || relname, n_tup_ins, n_tup_upd FROM pg_stat_user_tables"
        for name, inserted, updated in connection.execute(rows.encode()):
            found[f"rows inserted into {name}"], found[f"rows changed in {name}"] = inserted, updated
        # It changes with the writes that took an id alone: reads take none.
        found["writing transactions"] = connection.execute("SELECT txid_current()::bigint").fetchall()[0][0]
        return found


def show(counted: Counter[str], requests: Counter[str], given: argparse.Namespace) -> None:
    """Report what was counted, for each environment."""
    each = _HOUR / given.seconds
    report("transactions an hour", counted["transactions"] * each)
    report("of these writing, an hour", counted["writing transactions"] * each)
    rows = sum(count for name, count in counted.items() if name.startswith("rows"))
    report("rows written an hour", rows * each)
    report("rows written an hour, each environment", rows * each / given.environments)
    report("requests to the engine a minute", sum(requests.values()) * 60 / given.seconds)
    if given.tables:
        for name, count in sorted(counted.items(), key=lambda one: -one[1]):
            if name.startswith("rows") and count:
                report(f"  {name}, an hour", count * each)
        for path, count in requests.most_common():
            report(f"  {path}, a minute", count * 60 / given.seconds)


@contextmanager
def counting(socket: Path) -> Iterator[Counter[str]]:
    """A socket that passes everything to the engine; how often each path was asked for."""
    counted: Counter[str] = Counter()
    loop = asyncio.new_event_loop()

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to = await asyncio.open_unix_connection(_ENGINE)
        await asyncio.gather(_copy(reader, to, counted), _copy(there, writer, None), return_exceptions=True)

    async def begin() -> None:
        await asyncio.start_unix_server(passed, socket)

    loop.run_until_complete(begin())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield counted
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_rest(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _cancel_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for one in rest:
        one.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counted: Counter[str] | None) -> None:
    try:
        while data := await reader.read(65536):
            if counted is not None:
                for verb, path in _REQUEST.findall(data):
                    plain = re.sub(rb"/[0-9a-f]{12,64}", b"/ID", path.partition(b"?")[0])
                    counted[f"{verb.decode()} {re.sub(rb'^/v[0-9.]+', b'', plain).decode()}"] += 1
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


if __name__ == "__main__":
    main()
