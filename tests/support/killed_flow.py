"""Run a flow in a process that is killed with SIGKILL right before, or right after, it records a step.

A step is that of an operation or of a recovery, or the state of a snapshot. Such a process is a fork of one that has
imported the flows and holds nothing open: importing them takes seconds.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import cache
from typing import Any

import sqlalchemy as sa

from tests.support.prefect_server import server_variables


def killed_flow(
    flow: str, parameters: dict[str, object], *moment: str, when: Callable[[], bool] | None = None, pool: str = ""
) -> None:
    """Run a flow that must be killed at the moment, or once `when` is true; with a pool as a run of it."""
    variables = server_variables()
    with tempfile.NamedTemporaryFile("r") as said:
        request = {
            "flow": flow,
            "parameters": parameters,
            "moment": moment,
            "pool": pool,
            "variables": variables,
            "said": said.name,
        }
        ended = _parent(_of_prefect(variables)).run(request, when)
        assert ended == -signal.SIGKILL, said.read()


def _of_prefect(variables: dict[str, str]) -> frozenset[tuple[str, str]]:
    """Prefect reads its variables as it is imported."""
    return frozenset((name, value) for name, value in variables.items() if name.startswith("PREFECT_"))


class _Parent:
    """The process that forks for each flow."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.killed_flow"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | variables,
        )

    def run(self, request: dict[str, Any], when: Callable[[], bool] | None) -> int:
        """Run one flow, and kill it once `when` is true; its exit code, negative where a signal ended it."""
        self._say(json.dumps(request))
        handle = os.pidfd_open(self._answer())
        try:
            self._say("")
            while when is not None and not select.select([handle], [], [], 0.005)[0]:
                if when():
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    break
        finally:
            os.close(handle)
        return self._answer()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


@cache
def _parent(of_prefect: frozenset[tuple[str, str]]) -> _Parent:
    made = _Parent(dict(of_prefect))
    atexit.register(made.close)
    return made


def _kill_at(how: str, step: str, service: str = "") -> None:
    reached = False

    def is_it(statement: str, parameters: Any) -> bool:
        values = list(parameters.values() if isinstance(parameters, dict) else parameters)
        if "operation_steps" in statement:
            return "INSERT INTO" in statement and {step, service} <= set(values)
        if "auto_recovery_executions" in statement:
            return any(isinstance(one, str) and f'"name":"{step}"' in one for one in values)
        return not statement.startswith("SELECT") and " snapshots " in statement and step in values

    def before(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        nonlocal reached
        if is_it(statement, parameters):
            if how == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            reached = True

    def after(*_: object) -> None:
        if reached:
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(sa.Engine, "before_cursor_execute", before)
    # The connection comes back once the transaction is committed.
    sa.event.listen(sa.pool.Pool, "checkin", after)


def main() -> None:
    """Fork for each request on standard input; print the fork's number, and its exit code once it has ended."""
    # Also imports what each flow needs.
    from flows.registry import FLOWS

    named = {one.name: one for one in FLOWS.values()}
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _be_the_flow(named[request["flow"]], request)
        print(child, flush=True)
        # Until it is waited for its number is its own, so the caller may open a handle of it.
        sys.stdin.readline()
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _be_the_flow(flow: Any, request: dict[str, Any]) -> None:
    code = 1
    try:
        os.environ.clear()
        os.environ.update(request["variables"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for stream in (1, 2):
            os.dup2(os.open(request["said"], os.O_WRONLY | os.O_APPEND), stream)
        if request["moment"]:
            _kill_at(*request["moment"])
        parameters, pool = request["parameters"], request["pool"]
        asyncio.run(_run_of_pool(flow, parameters, pool) if pool else flow(**parameters))
        code = 0
    except BaseException:  # noqa: BLE001 - the test that fails shows it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


async def _run_of_pool(flow: Any, parameters: dict[str, Any], pool: str) -> None:
    """Run a flow as a run of a deployment in a work pool, as a worker does."""
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.flow_engine import run_flow

    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        made = await client.create_deployment(await client.create_flow(flow), name=pool, work_pool_name=pool)
        run = await client.create_flow_run_from_deployment(made, parameters=parameters)
    await run_flow(flow, flow_run=run)


if __name__ == "__main__":
    main()
