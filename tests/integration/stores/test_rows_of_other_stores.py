"""Samples that wait say what they mean and for which stores: a host may have files, and then a control plane."""

import os
import shutil
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.stores import Stores
from models.metrics import Metric
from models.settings import Settings
from tests.support.forked import OWN
from tests.support.store_rows import series

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def sample(environment: str, service: str, value: float) -> Metric:
    return Metric(environment=environment, service=service, name="cpu", value=value, sampled_at=NOON)


def put_and_die(settings: Settings, metrics: list[Metric]) -> None:
    Stores.open(settings).writer.put_metrics(metrics)
    os.kill(os.getpid(), signal.SIGKILL)


def put_then_die(settings: Settings, *metrics: Metric) -> None:
    dying = OWN.Process(target=put_and_die, args=(settings, list(metrics)))
    dying.start()
    dying.join()
    assert dying.exitcode == -9


def values(stores: Stores, environment: str, service: str) -> list[float]:
    return [value for _, value in series(stores, environment, service, "cpu", NOON)]


@pytest.mark.shared
def test_samples_from_before_enrolment_are_in_no_series_of_another_environment(settings: Settings) -> None:
    files = settings.model_copy(update={"stores_url": None})
    with Stores.open(settings) as stores:
        stores.metrics.add([sample("others", "db", 1.0)])
    put_then_die(files, sample("mine", "web", 99.0))

    with Stores.open(settings) as stores:
        stores.writer.flush()
        assert values(stores, "others", "db") == [1.0]
        assert values(stores, "mine", "web") == []

    with Stores.open(files) as stores:
        stores.writer.flush()
        assert values(stores, "mine", "web") == [99.0]


@pytest.mark.shared
def test_samples_for_one_control_plane_do_not_go_to_another(settings: Settings, server) -> None:
    put_then_die(settings, sample("mine", "web", 99.0))
    with server.database() as url:
        another = settings.model_copy(update={"stores_url": url})
        with Stores.open(another) as stores:
            stores.writer.flush()
            assert values(stores, "mine", "web") == []
    with Stores.open(settings) as stores:
        stores.writer.flush()
        assert values(stores, "mine", "web") == [99.0]


@pytest.mark.files
def test_a_writer_keeps_no_ids_of_the_file_that_another_replaced(
    made: Settings, made_files: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(made_files, other)
    with Stores.open(Settings(data_dir=other)) as stores:
        stores.metrics.add([sample("others", "db", 1.0)])
    with Stores.open(made) as stores:
        stores.writer.put_metrics([sample("mine", "web", 1.0)])
        stores.writer.flush()
        stores.databases["monitoring"].close()
        (other / "monitoring.db").rename(made.store_path("monitoring"))
        stores.writer.put_metrics([sample("mine", "web", 99.0)])
        stores.writer.flush()
        assert values(stores, "others", "db") == [1.0]
        assert values(stores, "mine", "web") == [99.0]
