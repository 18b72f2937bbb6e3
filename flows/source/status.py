"""Report the result of a sync to the repository's server. A server that does not take it fails no update."""

from __future__ import annotations

import logging
from dataclasses import replace

from prefect.runtime import flow_run

from flows.operation.recorder import OperationRecorder
from models.environments import Environment
from models.failures import RoasError
from models.settings import current_settings
from models.sources import CommitStatus, SourceRevision
from tasks.deployment.source import change_state, report_status, running_revision, source_state

log = logging.getLogger("roas")


async def report_result(
    environment: Environment,
    target: SourceRevision | None,
    recorder: OperationRecorder | None,
    error: BaseException | None,
    *,
    pending: bool = False,
) -> None:
    """Report that an update to a revision runs, or how it ended; nothing where the environment reports none.

    A result that the server did not take is kept, and reported by the next sync.
    """
    source = environment.source
    if source is None or source.status == "none" or target is None or recorder is None:
        return
    if pending:
        state, text = "pending", f"{environment.name} is being updated to {target.brief}"
    elif error is None:
        state, text = "success", f"{environment.name} runs {target.brief}, proven as release {recorder.record.release}"
    else:
        reason, summary = recorder.record.reason or type(error).__name__, recorder.record.undone
        state, text = "failure", f"{reason}{f'; {summary}' if summary else ''}"
    link = current_settings().ui_url
    run = flow_run.get_id()
    status = CommitStatus(
        revision=target.revision,
        state=state,  # type: ignore[arg-type]
        description=recorder.redactor.text(text),
        link=f"{link.rstrip('/')}/runs/flow-run/{run}" if link and run else "",
    )
    await _report(environment, status)


async def report_unreported(environment: Environment) -> None:
    """Report the last result that the server has not got yet."""
    if environment.source is None or environment.source.status == "none":
        return
    state = await source_state(environment)
    status = state.unreported
    if status is not None and status.state == "pending":
        # Its process was killed before it had said how the update ended.
        failed, running = state.failed.get(status.revision), await running_revision(environment)
        if running is not None and running.revision == status.revision:
            text = f"{environment.name} runs {status.revision[:12]}, which is proven"
            status = replace(status, state="success", description=text)
        elif failed is not None:
            status = replace(status, state="failure", description=failed.reason)
    if status is not None:
        await _report(environment, status)


async def _report(environment: Environment, status: CommitStatus) -> None:
    try:
        # Kept first: a process that is killed now has reported nothing.
        await change_state(environment, lambda state: replace(state, unreported=status))
        why = await report_status(environment, status)
        if why is None:
            if status.state != "pending":
                await change_state(environment, lambda state: replace(state, unreported=None))
            return
    except RoasError as error:
        why = error.what
    except Exception as error:  # noqa: BLE001 - whatever fails here must not fail the update
        why = type(error).__name__
    log.warning("commit status %s of %s was not reported: %s", status.state, status.revision[:12], why)
