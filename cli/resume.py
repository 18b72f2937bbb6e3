"""`roas resume`: continue an operation whose process died."""

from __future__ import annotations

import sys

import click

from cli import completers
from cli.options import as_json
from cli.run_flow import ask_the_record, ended_run, opened_stores, run_flow, show_operation
from models.failures import BadInputError, EnvironmentBusyError


@click.command()
@click.argument("deployment_id", shell_complete=completers.operations)
@as_json
def resume(deployment_id: str, json_wanted: bool) -> None:
    """Continue an operation whose process died, after its last finished step. A prefix of its id is enough."""
    from models.operations import Operation
    from tasks.runtime.hosts import refuse_elsewhere_now, refuse_resume

    operation: Operation = opened_stores().operations.get(deployment_id)
    if operation.ended_at is not None and not operation.record.interrupted:
        raise BadInputError(
            f"Deployment {operation.deployment_id} was not interrupted, it has ended: {operation.status};",
            advice=f"start again: roas {operation.kind} {operation.environment}.",
        )
    request = operation.record.asked
    if request is None:
        raise BadInputError(
            f"The request of {operation.deployment_id} was not recorded, so it cannot continue;",
            advice=f"start again: roas {operation.kind} {operation.environment}.",
        )

    refuse_elsewhere_now(operation.environment)
    refuse_resume(operation)

    request_facts = {"asked_by": "roas resume", "deployment_id": operation.deployment_id}
    run = ended_run(request.flow, **request.parameters, **request_facts)
    with ask_the_record(operation.environment, json_wanted):
        state, result = run_flow(run, quiet=json_wanted)
    if isinstance(result, BadInputError | EnvironmentBusyError):
        raise result
    show_operation(operation.deployment_id, json_wanted)
    if not state.is_completed():
        sys.exit(1)
