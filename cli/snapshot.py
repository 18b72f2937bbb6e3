"""`roas snapshot`: save an environment's data, list what is saved, restore it, and rehearse a restore."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from cli import completers
from cli.confirmation import confirm_loss
from cli.operations import Output, operate, with_live_output
from cli.options import as_json, leaves_environment_out, of_its_records, resolve_names, waiting
from cli.run_flow import ask_the_record, flow_run, run_flow, show_answer

if TYPE_CHECKING:
    from models.snapshots import DataSnapshot


def _snapshot_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ENV and SNAPSHOT."""
    which = click.argument("snapshot_id", required=False, metavar="[SNAPSHOT]", shell_complete=completers.snapshots)
    environment = click.argument("environment", required=False, metavar="[ENV]", shell_complete=completers.environments)
    return environment(which(command))


@click.group()
def snapshot() -> None:
    """Save databases and files, and restore them."""


@snapshot.command()
@click.argument("environment", required=False, metavar="[ENV]", shell_complete=completers.environments)
@waiting
@as_json
def create(environment: str | None, wait_seconds: float, json_wanted: bool) -> None:
    """Save all data that ENV names, while its services run."""
    from cli.rendering.snapshots import show_snapshot

    name, _ = resolve_names(environment, (), None)
    run = flow_run("snapshot", name, asked_by="roas snapshot create", wait_seconds=wait_seconds)
    with ask_the_record(name, json_wanted):
        result = run_flow(run, quiet=json_wanted)
    show_answer(result, json_wanted, show_snapshot)


@snapshot.command("list")
@of_its_records
@as_json
def list_snapshots(environment: str, json_wanted: bool) -> None:
    """List snapshots, newest first: which may be restored, and whether a restore was rehearsed."""
    from cli.rendering.snapshots import show_snapshots
    from tasks.reporting.snapshots import read_snapshots

    show_answer(read_snapshots(environment), json_wanted, show_snapshots)


@snapshot.command()
@click.argument("environment", metavar="ENV", shell_complete=completers.environments)
@click.argument("snapshot_ids", nargs=-1, metavar="[SNAPSHOT]...")
@click.option("--all", "everything", is_flag=True, help="Record all that are complete.")
@as_json
def adopt(environment: str, snapshot_ids: tuple[str, ...], everything: bool, json_wanted: bool) -> None:
    """List the snapshots in the repository that are not recorded here, or record SNAPSHOT.

    Another host took them, or the records were lost. They are never removed here, recorded or not; those that this
    installation took itself are kept as data.keep says again once they are recorded.
    """
    import asyncio

    from cli.rendering.snapshots import show_snapshots, show_unknown
    from tasks.runtime.clients import find_environment
    from tasks.storage.adoption import adopt_snapshots, unknown_snapshots

    declared = find_environment(environment)
    if snapshot_ids or everything:
        show_answer(asyncio.run(adopt_snapshots(declared, snapshot_ids)), json_wanted, show_snapshots)
    else:
        snapshots = asyncio.run(unknown_snapshots(declared))
        show_answer(snapshots, json_wanted, partial(show_unknown, environment))


@snapshot.command()
@_snapshot_options
@click.option("--yes", is_flag=True, help="Do not ask: what was written since the snapshot may be lost.")
@click.option("--dry-run", is_flag=True, help="Only show what would be lost.")
@waiting
@with_live_output
def restore(
    environment: str | None, snapshot_id: str | None, yes: bool, dry_run: bool, wait_seconds: float, output: Output
) -> None:
    """Put the data of SNAPSHOT back, by default of the newest one, with a safety snapshot of the present data first.

    What writes to the data is stopped meanwhile, and proven afterwards. One that fails is undone.
    """
    name, target = _choose(environment, snapshot_id)
    if dry_run:
        _preview(target, json_wanted=output.json)
        return
    confirm_loss(target, yes=yes)
    operate("restore", name, None, output, snapshot=target.snapshot_id, confirmed=True, wait_seconds=wait_seconds)


@snapshot.command()
@_snapshot_options
@waiting
@as_json
def rehearse(environment: str | None, snapshot_id: str | None, wait_seconds: float, json_wanted: bool) -> None:
    """Test a restore of SNAPSHOT apart from what runs, and check its data. Exit code 1 if it cannot be restored."""
    from cli.rendering.snapshots import show_rehearsal

    name, target = _choose(environment, snapshot_id)
    request_facts = {"asked_by": "roas snapshot rehearse", "wait_seconds": wait_seconds}
    run = flow_run("rehearse", name, snapshot=target.snapshot_id, **request_facts)
    result: DataSnapshot = run_flow(run, quiet=json_wanted)
    show_answer(result, json_wanted, show_rehearsal)
    if result.rehearsal is None or not result.rehearsal.ok:
        sys.exit(1)


def _preview(target: DataSnapshot, *, json_wanted: bool) -> None:
    import asyncio

    from cli.confirmation import show_restore_preview
    from tasks.runtime.project import open_project
    from tasks.storage.previews import preview_restore

    preview = asyncio.run(preview_restore(open_project(target.environment), target))
    show_answer(preview, json_wanted, show_restore_preview)


def _choose(environment: str | None, snapshot_id: str | None) -> tuple[str, DataSnapshot]:
    from core.storage.snapshots import choose_snapshot
    from tasks.reporting.snapshots import read_snapshots

    if snapshot_id is None and leaves_environment_out(environment):
        environment, snapshot_id = None, environment
    name, _ = resolve_names(environment, (), None)
    return name, choose_snapshot(read_snapshots(name), snapshot_id, name)
