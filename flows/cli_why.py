"""`roas why`: the first cause of a failure, on one screen."""

from __future__ import annotations

import click

from flows.cli_options import as_json


def register(group: click.Group) -> None:
    """Add the command of this module to `roas`."""
    group.add_command(why)


@click.command()
@click.argument("deployment_id", required=False)
@as_json
def why(deployment_id: str | None, json_wanted: bool) -> None:
    """What failed first, the lines that show it, what changed, what was tried, what to type.

    The first letters of an operation's id are enough; without one, the latest that failed.
    """
    from tasks.reading import read_explanation

    explanation = read_explanation(deployment_id)
    if json_wanted:
        from flows.rendering import print_json

        print_json(explanation)
    else:
        from flows.rendering_why import show_explanation

        show_explanation(explanation)
