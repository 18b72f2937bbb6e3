"""A disk without room: a clear error, nothing lost that was accepted, and all goes on once there is room."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.stores import Stores
from adapters.stores.batch import BatchWriter
from models.failures import StoreFullError
from models.metrics import Metric
from models.settings import Settings
from tests.integration.stores.test_batch import METRIC, details, numbers, put, values
from tests.integration.stores.test_transactions import contents, failed_start
from tests.support.small_disk import fill, small_disk
from tests.support.store_rows import all_or_none, series

__all__ = ["small_disk"]

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def put_until_refused(writer: BatchWriter, first: int, accepted: list[int]) -> None:
    for place in range(first, 10_000):
        put(writer, place)
        accepted.append(place)


def transact_until_refused(stores: Stores) -> None:
    for place in range(1, 10_000):
        all_or_none(stores, failed_start(place))


def test_a_store_without_room_says_so_and_goes_on_once_there_is(small_disk: Path) -> None:
    with Stores.open(Settings(data_dir=small_disk / "data")) as stores:
        stores.heartbeats.beat("before", NOON)
        ballast = fill(small_disk)
        many = [
            Metric(environment="prod", service="s", name="m", value=1.0, sampled_at=NOON + timedelta(seconds=place))
            for place in range(200_000)
        ]
        with pytest.raises(StoreFullError, match="monitoring"):
            stores.metrics.add(many)
        assert stores.heartbeats.all() == {"before": NOON}
        ballast.unlink()
        stores.heartbeats.beat("after", NOON)
        assert series(stores, "prod", "s", "m", NOON) == []


def test_rows_the_batch_writer_accepted_wait_for_room(small_disk: Path) -> None:
    with Stores.open(Settings(data_dir=small_disk / "data")) as stores, BatchWriter(stores, batch_size=10**9) as writer:
        put(writer, 0)
        ballast = fill(small_disk, leave=65536)
        accepted = [0]
        with pytest.raises(StoreFullError, match="not accepted"):
            put_until_refused(writer, 1, accepted)
        with pytest.raises(StoreFullError):
            writer.flush()
        ballast.unlink()
        writer.flush()
        assert details(stores) == numbers(len(accepted))
        put(writer, len(accepted))
        writer.flush()
        assert details(stores) == numbers(len(accepted) + 1)


def test_a_kind_of_row_first_refused_for_want_of_room_is_accepted_once_there_is(small_disk: Path) -> None:
    with Stores.open(Settings(data_dir=small_disk / "data")) as stores, BatchWriter(stores, batch_size=10**9) as writer:
        put(writer, 0)
        ballast = fill(small_disk)
        accepted = [0]
        with pytest.raises(StoreFullError):
            put_until_refused(writer, 1, accepted)
        with pytest.raises(StoreFullError):
            writer.put_metrics([METRIC])
        ballast.unlink()
        writer.put_metrics([METRIC])
        writer.flush()
        assert details(stores) == numbers(len(accepted))
        assert values(stores) == [METRIC.value]


def test_a_transaction_over_three_stores_without_room_happens_whole_or_not_at_all(small_disk: Path) -> None:
    with Stores.open(Settings(data_dir=small_disk / "data")) as stores:
        all_or_none(stores, failed_start(0))
        ballast = fill(small_disk, leave=131_072)
        with pytest.raises(StoreFullError):
            transact_until_refused(stores)
        ballast.unlink()
        all_or_none(stores, failed_start(20_000))
        assert len(set(contents(stores))) == 1


def test_the_command_says_that_the_disk_is_full_and_works_once_there_is_room(small_disk: Path) -> None:
    def pause() -> subprocess.CompletedProcess[str]:
        words = [Path(sys.executable).with_name("roas"), "pause", "bot", "--reason", "x"]
        context_of_step = os.environ | {"ROAS_DATA_DIR": str(small_disk / "data")}
        return subprocess.run(words, capture_output=True, text=True, check=False, env=context_of_step)

    with Stores.open(Settings(data_dir=small_disk / "data")) as stores:
        stores.heartbeats.beat("before", NOON)
    ballast = fill(small_disk)
    done = pause()
    assert done.returncode == 1
    assert "free room on its disk" in done.stderr
    assert done.stderr.count("\n") == 1
    ballast.unlink()
    assert pause().returncode == 0
    with Stores.open(Settings(data_dir=small_disk / "data")) as stores:
        assert stores.heartbeats.all() == {"before": NOON}
