"""One operation at a time: who may hold an environment, who loses it, and the message to the others."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from adapters.host.processes import this_process
from models.failures import EnvironmentBusyError, LeaseLostError
from models.operations import Runner
from tasks.deployment import lease
from tasks.deployment.lease import LEASE, hold_environment, holder_of
from tasks.runtime.stores import open_stores

ME = this_process("run-1")
ELSEWHERE = Runner(host="beta", kernel="another", pid=9, process_started=1)
LONG = timedelta(seconds=30)


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(lease, "HEARTBEAT", timedelta(milliseconds=20))
    monkeypatch.setattr(lease, "_ASK_AGAIN", timedelta(milliseconds=20))


@pytest.fixture(scope="module")
def dead() -> Runner:
    """A process of this machine that has ended."""
    say = "from adapters.host.processes import this_process as t; print(t().pid, t().process_started)"
    said = subprocess.run([sys.executable, "-c", say], capture_output=True, text=True, check=True).stdout
    pid, started = map(int, said.split())
    return replace(ME, pid=pid, process_started=started)


def take(owner: str, runner: Runner, **more):
    now = datetime.now(UTC)
    return open_stores().leases.acquire("prod", owner, "start by Ada", now, LEASE, runner=runner, **more)


async def test_who_is_refused_is_reported_who_holds_it_why_and_since_when() -> None:
    held = take("prod-1", ELSEWHERE)

    with pytest.raises(EnvironmentBusyError) as refused:
        async with hold_environment("prod", owner="prod-2", reason="stop", runner=ME):
            pytest.fail("two hold it")

    since = f"{held.acquired_at:%H:%M:%S} UTC"
    assert f"held by prod-1 (start by Ada, pid 9 on beta) since {since}" in refused.value.what
    assert holder_of("prod") == f"prod-1 (start by Ada, pid 9 on beta) since {since}"


async def test_a_lease_is_released_when_the_body_ends_or_fails() -> None:
    async with hold_environment("prod", owner="prod-1", reason="start", runner=ME):
        assert holder_of("prod") is not None
    assert holder_of("prod") is None

    with pytest.raises(ZeroDivisionError):
        async with hold_environment("prod", owner="prod-1", reason="start", runner=ME):
            raise ZeroDivisionError
    assert holder_of("prod") is None


async def test_a_holder_that_is_dead_on_this_machine_loses_it_at_once(dead: Runner) -> None:
    take("prod-1", dead)
    assert holder_of("prod") is None

    async with hold_environment("prod", owner="prod-2", reason="start", runner=ME):
        said = holder_of("prod")

    assert said is not None
    assert said.startswith("prod-2 ")


async def test_two_runners_of_one_operation_do_not_both_hold_it() -> None:
    take("prod-1", replace(ME, flow_run_id="run-2"))

    with pytest.raises(EnvironmentBusyError, match="prod-1"):
        async with hold_environment("prod", owner="prod-1", reason="start", runner=ME):
            pytest.fail("two hold it")


class Said(logging.Handler):
    """Keeps the log, and signals when a caller waits."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.waits = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        if "waiting until" in self.lines[-1]:
            self.waits.set()


async def test_who_waits_follows_when_the_holder_lets_go_and_says_once_for_whom(caplog, monkeypatch) -> None:
    said = Said()
    caplog.set_level(logging.INFO, "roas")
    monkeypatch.setattr(lease.log, "handlers", [said])
    order, held = [], asyncio.Event()

    async def first() -> None:
        async with hold_environment("prod", owner="prod-1", reason="start", runner=ME):
            held.set()
            await said.waits.wait()
            order.append("first ends")

    async def second() -> None:
        await held.wait()
        async with hold_environment("prod", owner="prod-2", reason="stop", runner=ME, wait=LONG):
            order.append("second begins")

    await asyncio.gather(first(), second())

    assert order == ["first ends", "second begins"]
    assert sum("waiting until" in line and "prod-1" in line for line in said.lines) == 1


async def test_what_a_user_asks_for_waits_for_a_recovery_which_another_recovery_does_not(monkeypatch) -> None:
    said = Said()
    monkeypatch.setattr(lease.log, "handlers", [said])
    held = asyncio.Event()

    async def recovering() -> None:
        async with hold_environment("prod", owner="err-1#1", reason="recovery of web", runner=ME):
            held.set()
            await said.waits.wait()

    async def asked() -> str | None:
        await held.wait()
        with pytest.raises(EnvironmentBusyError):
            async with hold_environment("prod", owner="err-2#1", reason="recovery of db", runner=ME):
                pytest.fail("two hold it")
        async with hold_environment("prod", owner="prod-2", reason="update", runner=ME):
            return holder_of("prod")

    _, holder = await asyncio.gather(recovering(), asked())

    assert holder is not None
    assert holder.startswith("prod-2 ")


async def test_who_waited_long_enough_is_refused() -> None:
    take("prod-1", ELSEWHERE)

    with pytest.raises(EnvironmentBusyError):
        async with hold_environment("prod", owner="prod-2", reason="stop", runner=ME, wait=timedelta(milliseconds=50)):
            pytest.fail("two hold it")


async def test_a_holder_whose_lease_was_taken_is_stopped_with_the_name_of_who_has_it() -> None:
    stopped = False

    async def act() -> None:
        nonlocal stopped
        async with hold_environment("prod", owner="prod-1", reason="start", runner=ME) as hold:
            mine = open_stores().leases.current("prod", datetime.now(UTC))
            assert take("prod-2", ELSEWHERE, instead_of=mine).acquired
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                stopped = hold.lost is not None
                raise

    with pytest.raises(LeaseLostError, match="prod-1 lost environment prod to prod-2"):
        await act()

    assert stopped
    said = holder_of("prod")
    assert said is not None
    assert said.startswith("prod-2 ")
    # The task itself goes on: nothing of the cancellation is left over.
    await asyncio.sleep(0)


async def test_a_body_that_is_cancelled_from_outside_is_not_reported_of_a_lost_lease() -> None:
    held = asyncio.Event()

    async def body() -> None:
        async with hold_environment("prod", owner="prod-1", reason="start", runner=ME):
            held.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await held.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert holder_of("prod") is None


def change(statement: str, **values: object) -> None:
    with open_stores().databases["deployment_logs"].write() as connection:
        connection.execute(sa.text(statement), values)


def put(**values: object) -> None:
    """Change the row of the lease, as a damaged or foreign program would."""
    change(f"UPDATE environment_leases SET {', '.join(f'{name} = :{name}' for name in values)}", **values)


async def test_a_holder_whose_lease_cannot_be_renewed_until_it_expires_is_stopped(monkeypatch) -> None:
    monkeypatch.setattr(lease, "LEASE", timedelta(milliseconds=200))
    stopped = False

    async def act() -> None:
        nonlocal stopped
        async with hold_environment("prod", owner="prod-1", reason="start", runner=ME):
            # Its row is no longer ours, and names no owner.
            put(owner="prod-2", runner='{"unreadable": 1}', expires_at="2999-01-01 00:00:00.000000")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                stopped = True
                raise

    async with asyncio.timeout(300):
        with pytest.raises(LeaseLostError, match="holds environment prod no longer, because it could not be renewed"):
            await act()

    assert stopped


async def test_a_holder_renews_again_once_what_kept_it_from_that_is_over(monkeypatch) -> None:
    said = Said()
    monkeypatch.setattr(lease.log, "handlers", [said])
    async with hold_environment("prod", owner="prod-1", reason="start", runner=ME):
        put(expires_at="2999-01-01 00:00:00.000000")
        change("CREATE TRIGGER refused BEFORE UPDATE ON environment_leases BEGIN SELECT RAISE(ABORT, 'no'); END")
        await until(lambda: any("not renewed" in line for line in said.lines))
        change("DROP TRIGGER refused")
        await until(lambda: open_stores().leases.list_held(datetime.now(UTC))[0].expires_at.year < 2999)


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(300):
        while not reached():  # noqa: ASYNC110 - the store and the log send no event
            await asyncio.sleep(0.01)
