"""How much the control plane takes of what hosts ship: entries a second of processor, and the time that a batch takes.

    python -m benchmarks.fleet_ingest --hosts 20 --batches 10

Batches of all hosts are applied as fast as they are taken, four at once, as the control plane does it. A batch
is what 25 containers record in five seconds and one operation that begins and ends; PostgreSQL is a server of this run.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from adapters.stores import Stores
from adapters.stores.ingest import Ingest
from adapters.stores.outbox import Outbox
from benchmarks.measure import report
from models.metrics import Metric
from models.operations import OperationStatus
from models.settings import Settings
from models.shipping import Batch
from tests.integration.stores.values import operation
from tests.support.postgresql_server import postgresql

_AT_ONCE = 4
_CONTAINERS, _METRICS = 25, 8


def main() -> None:
    """Measure the ingest of one process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--batches", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="roas-ingest-") as name, postgresql() as server, server.database() as url:
        folder = Path(name)
        texts = {f"host-{n}": _batches(folder, n, given.batches) for n in range(given.hosts)}
        with Stores.open(Settings(data_dir=folder / "centre", stores_url=url)) as centre:
            ingest = Ingest(centre)
            ingest.prepare()

            def send(host: str, text: bytes) -> tuple[float, int, int]:
                began = time.monotonic()
                receipt = ingest.apply(host, Batch.model_validate_json(text))
                return time.monotonic() - began, receipt.rows, len(receipt.refused)

            began, used = time.monotonic(), _processor()
            with ThreadPoolExecutor(_AT_ONCE) as threads:
                ordered = [(host, texts[host][n]) for n in range(given.batches) for host in texts]
                done = list(threads.map(lambda one: send(*one), ordered))
            seconds, used = time.monotonic() - began, _processor() - used
    rows, times = sum(one[1] for one in done), sorted(one[0] for one in done)
    report("entries applied", rows, "")
    report("refusals", sum(one[2] for one in done), "")
    report("entries a second", rows / seconds, "/s")
    report("entries a second of this process's processor", rows / used, "/s")
    report("a batch, 95th percentile", 1000 * times[int(0.95 * (len(times) - 1))], "ms")


def _batches(folder: Path, host: int, batches: int) -> list[bytes]:
    texts = []
    with Stores.open(Settings(data_dir=folder / f"host-{host}", stores_url=None)) as stores:
        outbox = Outbox(stores)
        outbox.begin()
        for number in range(1, batches + 1):
            now = datetime.now(UTC) + timedelta(seconds=5 * number)
            name = f"env-{host}"
            stores.metrics.add(
                [
                    Metric(environment=name, service=f"s{service}", name=f"m{metric}", value=number, sampled_at=now)
                    for service in range(_CONTAINERS)
                    for metric in range(_METRICS)
                ]
            )
            stores.operations.begin(operation(f"{name}-{number}", environment=name, started_at=now))
            stores.operations.finish(f"{name}-{number}", OperationStatus.SUCCESS, now)
            taken = outbox.take(5_000)
            assert taken is not None
            outbox.drop(taken.up_to)
            made = Batch(number=number, sent_at=now, oldest_at=now, name=name, version="1", parts=taken.parts)
            texts.append(made.model_dump_json().encode())
    return texts


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
