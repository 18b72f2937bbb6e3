"""Say what an operation loses or harms, and ask whether it may."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from flows.common.terminal import echo
from models.failures import BadInputError

if TYPE_CHECKING:
    from models.previews import RestorePreview, RollbackPreview
    from models.snapshots import DataSnapshot


def confirm_loss(snapshot: DataSnapshot, *, yes: bool) -> None:
    """Say what a restore of a snapshot loses, and ask whether it may unless that is settled; then with figures.

    Raises:
        BadInputError: It may not, or no user is there to be asked.
    """
    from core.storage.snapshots import proof_of, what_would_be_lost
    from tasks.storage.restores import count_later_deployments

    loss = what_would_be_lost(snapshot, datetime.now(UTC), count_later_deployments(snapshot))
    echo(f"snapshot {snapshot.snapshot_id} of {snapshot.environment}, {proof_of(snapshot)}. {loss}", err=True)
    if yes:
        return
    _show_changes(snapshot)
    ask("Restore it?", refused="Nothing was restored", advice="give --yes if it may be lost.")


def ask(question: str, *, refused: str, advice: str, name: str = "") -> None:
    """Ask a person a question to which the answer is yes, or the name that they have to type.

    Raises:
        BadInputError: It was not answered so, or no user is there to be asked.
    """
    if not sys.stdin or not sys.stdin.isatty():
        raise BadInputError(f"{refused}, since no user confirmed it;", advice=advice)
    if name:
        agreed = click.prompt(question, default="", show_default=False, err=True).strip() == name
    else:
        agreed = click.confirm(question, err=True)
    if not agreed:
        raise BadInputError(f"{refused}.")


def confirm_by_name(name: str, verb: str, confirm: str, services: Sequence[str] = ()) -> str:
    """Ask for the name of an environment where it has to be typed; what was typed, or was given.

    Raises:
        BadInputError: Another name was given or typed, or no user is there to be asked.
    """
    from tasks.reporting.consent import refuse_without_consent, why_consent

    if confirm or not sys.stdin or not sys.stdin.isatty():
        refuse_without_consent(name, verb, confirm, services)
    elif why := why_consent(name, verb, services):
        ask(f"{name}: {why}. Type its name to {verb} it", refused=f"{name} was not touched", advice="", name=name)
        return name
    return confirm


def _show_changes(snapshot: DataSnapshot) -> None:
    import asyncio

    from tasks.runtime.project import open_project
    from tasks.storage.changes import changes_since

    for part, text in asyncio.run(changes_since(open_project(snapshot.environment), snapshot)).items():
        echo(f"  {part}: {text}", err=True)


def show_restore_preview(preview: RestorePreview) -> None:
    """Print what a restore loses."""
    echo(f"snapshot {preview.snapshot_id} of {preview.environment}, {preview.proof}. {preview.loss}")
    for part, text in preview.changes.items():
        echo(f"  {part}: {text}")
    if preview.other_release:
        echo(preview.other_release)


def show_rollback_preview(preview: RollbackPreview) -> None:
    """Print what a rollback brings back, undoes and loses."""
    echo(
        f"{preview.environment} would be release {preview.release_id} again, "
        f"proven {preview.proven_at:%Y-%m-%d %H:%M} UTC"
    )
    for release in preview.later_releases:
        echo(f"  without {release}")
    if preview.data is not None:
        show_restore_preview(preview.data)


def confirm_rollback(name: str, release: str | None, *, yes: bool) -> str:
    """Say what a rollback with data loses, and ask whether it may; the id of the release it would bring back.

    Raises:
        NotFoundError: There is no such release, or no snapshot was taken when it was replaced.
        BadInputError: It may not, or no user is there to be asked.
    """
    import asyncio

    from core.storage.snapshots import snapshot_of_release
    from tasks.deployment.release import choose_release
    from tasks.reporting.snapshots import read_snapshots
    from tasks.runtime.project import open_project

    target = asyncio.run(choose_release(open_project(name), release, with_data=True))
    confirm_loss(snapshot_of_release(read_snapshots(name), target), yes=yes)
    return target.release_id
