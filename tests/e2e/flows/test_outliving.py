"""A watch outlives its stores and its own defects: what is known, what is assumed, what is done once they are back."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from adapters.host.processes import this_process
from adapters.stores.recovery_writes import RecordError
from flows.recovery.watch import EnvironmentWatcher
from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.failures import EnvironmentBusyError
from models.operations import Runner
from tasks.deployment.lease import LEASE, hold_environment, who_holds
from tasks.monitoring.events import EventFeed
from tasks.recovery.records import record_error
from tasks.runtime.hosts import this_host
from tasks.runtime.project import open_project
from tasks.runtime.store_access import StoreAccess, outliving_stores
from tasks.runtime.stores import open_stores
from tests.e2e.faults.outages import HOLD_GATE, held_by_another_process
from tests.e2e.flows.conftest import Place

pytestmark = pytest.mark.flow

ME = this_process("run-1")
ELSEWHERE = Runner(host="beta", kernel="another", pid=9, process_started=1)
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
VERDICT = Verdict(
    category=Category.CONTAINER_EXITED, severity=Severity.HIGH, strategy=Strategy.RESTART_SERVICE, confidence=0.9,
    reason="It exited.", pattern_name="exited",
)  # fmt: skip
ERROR = RecordedError(
    error_id="err-1", environment="test", text="web exited", source="watch", verdict=VERDICT,
    first_seen=NOON, last_seen=NOON, service="web",
)  # fmt: skip


async def until_back(access: StoreAccess) -> None:
    def wait() -> None:
        deadline = time.monotonic() + 300
        while access.away:
            assert time.monotonic() < deadline, "the stores did not come back"
            time.sleep(0.02)

    await asyncio.to_thread(wait)


async def test_an_evaluation_that_fails_unexpectedly_is_made_up_for_by_a_sweep(place: Place, caplog) -> None:
    place.declare("web:\n  image: none\n")
    watch = EnvironmentWatcher(open_project("test"), (), StoreAccess("test"), EventFeed(), act=True)

    async def fail() -> None:
        raise ZeroDivisionError

    for _ in range(2):
        await watch.survive(fail())

    assert datetime.now(UTC) < watch.next_sweep < datetime.now(UTC) + timedelta(seconds=5)
    assert [record.exc_info is not None for record in caplog.records if record.name == "roas"].count(True) == 1


async def test_what_is_not_meant_to_run_is_said_once(place: Place, caplog) -> None:
    place.declare("web:\n  image: none\n")
    open_stores()
    caplog.set_level("INFO", "roas")
    access = StoreAccess("test")
    with outliving_stores(access):
        await access.begin()
        watch = EnvironmentWatcher(open_project("test"), (), access, EventFeed(), act=True)
        for _ in range(3):
            await watch.sweep()
    assert [record.getMessage() for record in caplog.records].count("test is not meant to run") == 1


async def test_an_error_seen_while_the_stores_are_held_is_on_record_once_they_are_free(place: Place) -> None:
    place.declare("web:\n  image: none\n")
    open_stores()
    access = StoreAccess("test")
    with outliving_stores(access):
        await access.begin()
        with held_by_another_process(HOLD_GATE, place.settings.data_dir / "gate.lock"):
            seen = await record_error.fn(RecordError(error=ERROR))
            again = await record_error.fn(RecordError(error=ERROR))
            assert access.away
        await until_back(access)

    assert (seen.error_id, again.count) == ("err-1", 2)
    assert open_stores().errors.get("err-1").first_seen == NOON
    assert list((place.settings.data_dir / "journal").iterdir()) == []


async def test_while_the_stores_are_held_one_holder_at_a_time_acts_on_this_machine(place: Place) -> None:
    place.declare("web:\n  image: none\n")
    open_stores()
    access = StoreAccess("test")
    with outliving_stores(access):
        await access.begin()
        with held_by_another_process(HOLD_GATE, place.settings.data_dir / "gate.lock"):
            async with hold_environment("test", owner="err-1#1", reason="recovery of web", runner=ME):
                assert str(await who_holds("test")).startswith("err-1#1 (recovery of web")
                with pytest.raises(EnvironmentBusyError, match="err-1#1"):
                    async with hold_environment("test", owner="err-2#1", reason="recovery of db", runner=ME):
                        pytest.fail("two hold it")
        await until_back(access)
        assert await who_holds("test") is None

    assert open_stores().leases.current("test", datetime.now(UTC)) is None


async def test_what_this_host_held_when_the_stores_were_read_last_is_free_once_its_lock_is(place: Place) -> None:
    place.declare("web:\n  image: none\n")
    now, mine = datetime.now(UTC), this_host().host_id
    assert open_stores().leases.acquire("test", "p-1", "start", now, LEASE, runner=ELSEWHERE, host_id=mine).acquired
    access = StoreAccess("test")
    with outliving_stores(access):
        await access.begin()
        assert str(await who_holds("test")).startswith("p-1 (start")
        with held_by_another_process(HOLD_GATE, place.settings.data_dir / "gate.lock"):
            await record_error.fn(RecordError(error=ERROR))
            assert access.away
            assert await who_holds("test") is None
        await until_back(access)


async def test_what_another_host_held_when_the_stores_were_read_last_is_left_alone(place: Place) -> None:
    place.declare("web:\n  image: none\n")
    now = datetime.now(UTC)
    assert open_stores().leases.acquire("test", "p-1", "start", now, LEASE, runner=ELSEWHERE).acquired
    access = StoreAccess("test")
    with outliving_stores(access):
        await access.begin()
        with held_by_another_process(HOLD_GATE, place.settings.data_dir / "gate.lock"):
            await record_error.fn(RecordError(error=ERROR))
            with pytest.raises(EnvironmentBusyError, match="p-1"):
                async with hold_environment("test", owner="err-1#1", reason="recovery of web", runner=ME):
                    pytest.fail("two hold it")
        await until_back(access)
