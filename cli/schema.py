"""`roas schema`: the JSON Schema of an environment file."""

from __future__ import annotations

import click

from flows.common.terminal import echo


@click.command()
def schema() -> None:
    """Print the JSON Schema of an environment file, for editors and other programs."""
    from adapters.config.environment_schema import schema_text

    echo(schema_text().rstrip("\n"))
