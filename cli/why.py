"""`roas why`: the root cause of a failure, on one screen."""

from __future__ import annotations

import click

from cli.options import as_json
from flows.runtime.terminal import echo


def register(group: click.Group) -> None:
    """Add the command of this module to `roas`."""
    group.add_command(why)


@click.command()
@click.argument("deployment_id", required=False, metavar="[ID|ENV]")
@click.option(
    "--evidence", is_flag=True, help="Print the stored evidence: containers, logs, probe results, events, host."
)
@as_json
def why(deployment_id: str | None, evidence: bool, json_wanted: bool) -> None:
    """Explain a failure: root cause, evidence, changes, attempts and next commands.

    A prefix of an operation's id is enough. Without one, the latest failure; with an environment's name, the latest
    failure there.
    """
    from tasks.reporting.read import read_evidence, read_explanation

    explanation = read_explanation(deployment_id)
    if evidence:
        from cli.rendering.results import print_json
        from core.errors.evidence_page import page

        kept = read_evidence(explanation.deployment_id)
        if json_wanted:
            print_json(kept)
        else:
            echo(page(kept) or f"No evidence is stored for {explanation.deployment_id}.")
    elif json_wanted:
        from cli.rendering.results import print_json

        print_json(explanation)
    else:
        from cli.rendering.why import show_explanation

        show_explanation(explanation)
