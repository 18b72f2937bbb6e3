"""Run a flow in a process that is killed with SIGKILL right before, or right after, it records a step.

python -m tests.support.killed_flow FLOW PARAMETERS [before|after STEP [SERVICE]]
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from tests.support.prefect_server import server_variables

_POOL = "KILLED_FLOW_POOL"


def killed_flow(
    flow: str, parameters: dict[str, object], *moment: str, when: Callable[[], bool] | None = None, pool: str = ""
) -> None:
    """Run a flow that must be killed at the moment, or once `when` is true; with a pool as a run of it."""
    command = [sys.executable, "-m", "tests.support.killed_flow", flow, json.dumps(parameters), *moment]
    with subprocess.Popen(
        command,
        env=os.environ | server_variables() | {_POOL: pool},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        while when is not None and process.poll() is None:
            if when():
                process.kill()
        said, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, said


def _kill_at(how: str, step: str, service: str = "") -> None:
    reached = False

    def is_it(statement: str, parameters: Any) -> bool:
        values = list(parameters.values() if isinstance(parameters, dict) else parameters)
        return "INSERT INTO" in statement and "operation_steps" in statement and {step, service} <= set(values)

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
    """Run the flow."""
    from flows.runtime.registry import FLOWS

    name, parameters, *moment = sys.argv[1:]
    if moment:
        _kill_at(*moment)
    flow = next(one for one in FLOWS.values() if one.name == name)
    pool = os.environ[_POOL]
    asyncio.run(_run_of_pool(flow, json.loads(parameters), pool) if pool else flow(**json.loads(parameters)))


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
