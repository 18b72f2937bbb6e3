"""`roas secret`: rotate a server's password."""

from __future__ import annotations

import click

from cli import completers
from cli.operations import Output, confirmed, confirming, operate, with_output
from cli.options import resolve_names, waiting


@click.group()
def secret() -> None:
    """Secrets of an environment."""


@secret.command()
@click.argument("environment", metavar="[ENV]", required=False, shell_complete=completers.environments)
@click.argument("name", metavar="NAME", required=False)
@confirming
@waiting
@with_output
def rotate(environment: str | None, name: str | None, confirm: str, wait_seconds: float, output: Output) -> None:
    """Give the server whose password NAME is, and all that use it, a new random one, and prove it.

    Services that get NAME are stopped, replaced and started in dependency order. One that fails is undone; one that was
    interrupted goes on with the same values.
    """
    if name is None:
        environment, name = None, environment
    if name is None:
        raise click.UsageError("Missing argument 'NAME'.")
    of, compose = resolve_names(environment, (), None)
    operate("rotate", of, compose, output, secret=name, wait_seconds=wait_seconds, **confirmed(of, "rotate", confirm))
