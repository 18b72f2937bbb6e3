"""`roas` commands for the stores themselves: check, back up, restore, look into archives."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from flows.cli_options import as_json
from models.failures import BadInputError
from models.settings import Settings
from models.upkeep import ArchiveFile


def register(group: click.Group) -> None:
    """Add the commands of this module to `roas`."""
    for command in (backup, restore, stores, archive):
        group.add_command(command)


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def backup(folder: Path) -> None:
    """Copy the three stores and the archives into FOLDER, consistent with each other, while all runs."""
    from adapters.stores.backup import backup as copy
    from tasks.stores import open_stores

    made = copy(open_stores(), folder, datetime.now(UTC))
    click.echo(f"{made.folder}: {', '.join(f'{name} {size:,} bytes' for name, size in made.files.items())}")


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def restore(folder: Path) -> None:
    """Verify the backup in FOLDER and put it in the stores' place; what was there is kept beside it."""
    from adapters.stores.backup import restore as put_back

    made = put_back(Settings(), folder)
    click.echo(f"the stores are those of {made.made_at:%Y-%m-%d %H:%M:%S} UTC again")


@click.group()
def stores() -> None:
    """How the three stores are."""


@stores.command()
@as_json
def check(json_wanted: bool) -> None:
    """Integrity, schema, sizes, oldest rows, growth. Exit code 1 where something is wrong."""
    from adapters.stores.check import check as look
    from flows.rendering import print_json, show_store_reports
    from tasks.stores import open_stores

    reports = look(open_stores(), datetime.now(UTC))
    if json_wanted:
        print_json(reports)
    else:
        show_store_reports(reports)
    if any(report.faults for report in reports):
        sys.exit(1)


@click.group()
def archive() -> None:
    """What the life cycle took out of the stores."""


@archive.command("list")
@as_json
def list_archives(json_wanted: bool) -> None:
    """Every archive file: Parquet, readable by DuckDB or pandas directly."""
    from adapters.stores.archives import archives
    from flows.rendering import print_json, show_archives
    from tasks.stores import open_stores

    found = archives(open_stores())
    if json_wanted:
        print_json(found)
    else:
        show_archives(found)


@archive.command("query")
@click.argument("file")
def query_archive(file: str) -> None:
    """The rows of one archive as JSON lines."""
    from adapters.stores.archives import archived_rows
    from tasks.stores import open_stores

    for row in archived_rows(open_stores(), _archive(file)):
        click.echo(json.dumps(row, default=str))


@archive.command("restore")
@click.argument("file")
def restore_archive(file: str) -> None:
    """Put the rows of one archive back into their store."""
    from adapters.stores.archives import restore_archive as put_back
    from tasks.stores import open_stores

    click.echo(f"{put_back(open_stores(), _archive(file))} rows are back")


def _archive(file: str) -> ArchiveFile:
    from adapters.stores.archives import archives
    from tasks.stores import open_stores

    found = {str(one.path): one for one in archives(open_stores())}
    found |= {one.path.name: one for one in found.values()}
    if file not in found:
        raise BadInputError(f"There is no archive {file};", advice="roas archive list shows them all.")
    return found[file]
