"""Let hooks check a release that was gone back to."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import UTC, datetime

from core.deployment.hooks import AFTER_ROLLBACK, describe, last_lines
from flows.operation.recorder import OperationRecorder
from models.compose import Application
from models.failures import RoasError
from models.hooks import Hook
from models.operations.record import HookRun
from tasks.deployment.hooks import HookOrder, HookOutcome, kill_left_command, read_all_services, run_hook
from tasks.deployment.proxies import await_proxies
from tasks.errors.hook_evidence import keep_output

log = logging.getLogger("roas")


async def check_after_rollback(recorder: OperationRecorder, application: Application) -> tuple[HookRun, ...]:
    """Run the hooks that check a release which was gone back to. The record has each; one that fails raises nothing."""
    runs, environment = [], recorder.environment
    if environment.hooks.rollback_hooks:
        # One that still passes requests on to what was replaced would let good data look lost.
        await await_proxies(recorder.project, application)
    for hook in environment.hooks.rollback_hooks:
        does, began_at, began = recorder.redactor.text(describe(hook)), datetime.now(UTC), time.monotonic()
        # Its own name, so that it is not taken for a run that the update had left.
        order = HookOrder(hook=hook, deployment_id=f"{recorder.deployment_id}-rollback", application=application)
        log.info("hook %s checks the release that is back: %s", hook.name, does)
        try:
            await kill_left_command(environment, hook, order.deployment_id)
            if hook.service is not None:
                order = replace(order, application=await read_all_services(recorder.project))
            outcome = await run_hook(recorder.project, order)
        except RoasError as error:
            why = await recorder.without_secrets(error)
            outcome = HookOutcome(exit_code=None, output="", problem=f"could not be run: {why}", began=False)
        run = run_of_hook(hook, AFTER_ROLLBACK, does, began_at, began, outcome)
        run = await keep_output(environment, run, outcome, recorder.deployment_id)
        (log.info if run.ok else log.error)("%s", run.sentence)
        recorder.record.hooks = (*recorder.record.hooks, run)
        runs.append(run)
    return tuple(runs)


def run_of_hook(hook: Hook, when: str, does: str, began_at: datetime, began: float, outcome: HookOutcome) -> HookRun:
    """A hook's run for the record; `began` is a moment of the monotonic clock."""
    return HookRun(
        name=hook.name,
        when=when,
        does=does,
        service=hook.concerns,
        began_at=began_at,
        took_seconds=time.monotonic() - began,
        ok=outcome.exit_code == 0 and not outcome.problem,
        warns=hook.failure == "warn",
        exit_code=outcome.exit_code,
        problem=outcome.problem,
        lines=last_lines(outcome.output, stamped=outcome.container is not None),
        container=outcome.container.name if outcome.container is not None else "",
        evidence="",
        sentence="",
    )
