"""`roas` commands for the stores: check, back up, restore, query archives."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cli.options import as_json
from cli.run_flow import flow_run, opened_stores, run_flow, show_answer
from core.common.safe_text import printable
from flows.common.terminal import echo, echo_json
from models.failures import BadInputError, RoasError
from models.settings import current_settings
from models.storage import ArchiveFile


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@as_json
def backup(folder: Path, json_wanted: bool) -> None:
    """Back up the three stores and the archives into FOLDER as one consistent snapshot."""
    from adapters.stores.backup import backup as copy

    try:
        made = copy(opened_stores(), folder, datetime.now(UTC), _print_progress)
    except OSError as error:
        raise RoasError(
            f"No backup can be written to {folder}: {error.strerror};", advice="give a folder this user may write to."
        ) from error
    sizes = ", ".join(f"{name} {size:,} bytes" for name, size in made.files.items())
    summary = f"{made.folder} holds a verified backup: {sizes}; restore it with: roas restore {folder}"
    show_answer(made, json_wanted, lambda _: echo(summary))


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def restore(folder: Path) -> None:
    """Verify the backup in FOLDER and restore it; the replaced stores are kept beside it."""
    from adapters.stores.backup import restore as put_back

    try:
        made = put_back(current_settings(), folder, _print_progress)
    except OSError as error:
        raise RoasError(
            f"The backup in {folder} cannot be restored: {error.strerror};", advice="check both folders."
        ) from error
    echo(f"the stores are restored to {made.made_at:%Y-%m-%d %H:%M:%S} UTC")


def _print_progress(step: str) -> None:
    """Print progress on standard error, so that standard output holds the result alone."""
    echo(step, err=True)


@click.group()
def db() -> None:
    """Check and clean up the three stores."""


@db.command()
@as_json
def check(json_wanted: bool) -> None:
    """Check integrity, schema, sizes, oldest rows, growth. Exit code 1 if a check fails."""
    from adapters.stores.check import check as check_stores
    from cli.rendering.results import show_store_reports

    reports = check_stores(opened_stores(), datetime.now(UTC), current_settings().retention)
    show_answer(reports, json_wanted, show_store_reports)
    if any(report.faults for report in reports):
        sys.exit(1)


@db.command()
@click.option("--dry-run", is_flag=True, help="Show what would be removed; change nothing.")
@as_json
def clean(dry_run: bool, json_wanted: bool) -> None:
    """Compress, archive and delete old rows of the stores, and give their room back."""
    from cli.rendering.results import show_lifecycle

    show_answer(run_flow(flow_run("lifecycle", dry_run=dry_run)), json_wanted, show_lifecycle)


@click.group()
def archive() -> None:
    """List, query and restore archived rows."""


_OF_STORE = click.option(
    "--store", type=click.Choice(["deployment_logs", "monitoring", "errors"]), help="Only of this store."
)


@archive.command("list")
@click.argument("names", nargs=-1, metavar="[TABLE]...")
@_OF_STORE
@as_json
def list_archives(names: tuple[str, ...], store: str | None, json_wanted: bool) -> None:
    """List archive files, all or of a TABLE: Parquet, readable by DuckDB or pandas directly."""
    from cli.rendering.results import show_archives

    files = _archives(names, store)
    show_answer(files, json_wanted, show_archives)
    if any(not file.there for file in files):
        sys.exit(1)


@archive.command("query")
@click.argument("name", metavar="TABLE|FILE")
@click.option(
    "--where", "conditions", multiple=True, help="Such as status=failed, value>90 or reason~memory; all must hold."
)
@click.option("--column", "columns", multiple=True, help="Only this column; may be given several times.")
@click.option("--since", help="Only rows from this moment on (UTC), such as 2026-01-31 or 2026-01-31T12:00.")
@click.option("--until", help="Only rows before this moment.")
@click.option("--limit", type=click.IntRange(1, 1_000_000_000), help="So many rows at most.")
@click.option("--format", "shape", type=click.Choice(["json", "csv"]), default="json", show_default=True)
def query_archive(
    name: str,
    conditions: tuple[str, ...],
    columns: tuple[str, ...],
    since: str | None,
    until: str | None,
    limit: int | None,
    shape: str,
) -> None:
    """Print the rows of one archive file, or of all archives of a TABLE, as JSON lines or CSV."""
    from itertools import chain, islice

    from adapters.stores.archives import archived_rows
    from adapters.stores.check import MOMENTS

    files = _archives((name,), None)
    dated = MOMENTS.get(files[0].table)
    bounds = [f"{dated}{sign}{moment}" for sign, moment in ((">=", since), ("<", until)) if moment is not None]
    if bounds and dated is None:
        raise BadInputError(f"Rows of {files[0].table} have no moment;", advice="leave --since and --until out.")
    stores = opened_stores()
    rows = chain.from_iterable(
        archived_rows(stores, file, conditions=[*conditions, *bounds], columns=columns) for file in files
    )
    _print_rows(islice(rows, limit), shape)


def _print_rows(rows: Iterable[dict[str, Any]], shape: str) -> None:
    writer = None
    for row in rows:
        if shape == "json":
            echo_json(row, default=_plain)
            continue
        if writer is None:
            writer = csv.DictWriter(sys.stdout, fieldnames=list(row))
            writer.writeheader()
        writer.writerow(
            {name: value if isinstance(value, int | float) else _plain(value) for name, value in row.items()}
        )


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else printable("" if value is None else str(value))


@archive.command("restore")
@click.argument("names", nargs=-1, required=True, metavar="TABLE|FILE...")
def restore_archive(names: tuple[str, ...]) -> None:
    """Restore archived rows into their stores; existing rows stay unchanged."""
    from adapters.stores.archives import owners_first
    from adapters.stores.archives import restore_archive as put_back

    stores = opened_stores()
    for file in owners_first(_archives(names, None)):
        back = put_back(stores, file)
        echo(f"{file.path.name}: {back:,} rows restored into {file.table}, {file.rows - back:,} were there already")
    echo("The next life cycle archives them again, since they are old; ROAS_KEEP_..._DAYS sets how long rows stay.")


def _archives(names: Sequence[str], store: str | None) -> list[ArchiveFile]:
    """The archives of these tables and files, or all."""
    from adapters.stores.archives import archives

    every = archives(opened_stores(), store)
    if not names:
        return every
    files_by_path: dict[Path, ArchiveFile] = {}
    for name in names:
        matches = [file for file in every if name in (file.table, file.path.name, str(file.path))]
        if not matches:
            tables = sorted({file.table for file in every})
            raise BadInputError(
                f"There is no archive of {name};",
                advice=f"there are archives of {', '.join(tables)}." if tables else "nothing has been archived yet.",
            )
        files_by_path |= {file.path: file for file in matches}
    return list(files_by_path.values())
