"""`roas sample`: the sample application, for trials."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from flows.common.terminal import echo


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def sample(folder: Path) -> None:
    """Write the sample application into a new FOLDER: a bot, Redis, a job and Prometheus.

    Its images are built from Debian at the first start. README.md there lists how to make each part fail.
    """
    from adapters.sample import write_sample

    file = write_sample(folder)
    echo(f"wrote {file} and the files of the sample application beside it")
    echo(f"next: cd {shlex.quote(str(folder))} && roas start")
