"""`roas why`: the root cause of a failure, on one screen."""

from __future__ import annotations

import click

from cli import completers
from cli.options import as_json
from cli.run_flow import show_answer
from flows.common.terminal import echo


@click.command()
@click.argument(
    "deployment_id", required=False, metavar="[ID|ENV]", shell_complete=completers.operations_or_environments
)
@click.option(
    "--evidence", is_flag=True, help="Print the stored evidence: containers, logs, probe results, events, host."
)
@as_json
def why(deployment_id: str | None, evidence: bool, json_wanted: bool) -> None:
    """Explain a failure: root cause, evidence, changes, attempts and next commands.

    A prefix of an operation's id is enough; an error's or ticket's id does too. Without one, the latest failure; with
    an environment's name, the latest failure there. A service that fails now is explained by its ticket.
    """
    from core.deployment.needs import down_words
    from tasks.reporting.needs import recorded_needs
    from tasks.reporting.read import read_evidence, read_explanation, read_open_failure

    if deployment_id and not json_wanted and (waits := down_words(recorded_needs(deployment_id))):
        echo(f"{deployment_id} waits: {waits}")
    if not evidence and (failure := read_open_failure(deployment_id)) is not None:
        from cli.rendering.tickets import show_ticket

        show_answer(failure, json_wanted, show_ticket)
        return
    explanation = read_explanation(deployment_id)
    if evidence:
        from core.errors.evidence_page import page

        evidence_bundles = read_evidence(explanation.deployment_id)
        none = f"No evidence is stored for {explanation.deployment_id}."
        show_answer(evidence_bundles, json_wanted, lambda bundles: echo(page(bundles) or none))
        return
    from cli.rendering.why import show_explanation

    show_answer(explanation, json_wanted, show_explanation)
