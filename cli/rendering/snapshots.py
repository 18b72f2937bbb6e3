"""Text output of snapshots of data."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from cli.rendering.console import ago, say, show_table
from core.storage.changes import size_in_words
from core.storage.snapshots import offered_snapshots, proof_of
from models.snapshots import DataSnapshot, SnapshotState, UnknownSnapshot, UnknownState


def show_snapshot(snapshot: DataSnapshot) -> None:
    """Print what one snapshot has."""
    rows = [
        (escape(part.name), part.kind, *map(size_in_words, (part.bytes, part.added_bytes)), f"{part.seconds:.1f} s")
        for part in snapshot.parts
    ]
    show_table(("part", "kind", "size", "added", "took"), rows)
    size = size_in_words(snapshot.bytes)
    say(f"\nsnapshot {snapshot.snapshot_id} is complete: {size} in {snapshot.seconds or 0:.1f} s")
    say(f"try a restore of it: roas snapshot rehearse {snapshot.environment} {snapshot.snapshot_id}")


def show_snapshots(snapshots: Sequence[DataSnapshot]) -> None:
    """Print the snapshots of an environment, newest first; one that is not whole with what went wrong."""
    if not snapshots:
        say("There is no snapshot yet; `roas snapshot create` takes one.")
        return
    rows = []
    for snapshot in snapshots:
        proof, what = "", f"[red]{snapshot.state}[/red]: {escape(snapshot.problem)}"
        if snapshot.state is SnapshotState.WHOLE:
            proof, what = escape(proof_of(snapshot)), ", ".join(escape(part.name) for part in snapshot.parts)
        age, size = ago(snapshot.begun_at), size_in_words(snapshot.bytes)
        rows.append((snapshot.snapshot_id, age, str(snapshot.reason), snapshot.release_id, size, proof, what))
    show_table(("snapshot", "taken", "reason", "release", "size", "proof", "what"), rows)
    if whole := offered_snapshots(snapshots):
        say(f"\nput one back: roas snapshot restore {whole[0].environment} SNAPSHOT")


def show_unknown(environment: str, snapshots: Sequence[UnknownSnapshot]) -> None:
    """Print the snapshots that the repository has and that are not recorded here."""
    if not snapshots:
        say(f"All snapshots of {environment} in the repository are recorded here.")
        return
    states = {
        UnknownState.WHOLE: "complete",
        UnknownState.INCOMPLETE: "[yellow]not complete: taken now, or killed[/yellow]",
        UnknownState.UNPROVEN: "no manifest: parts may be missing",
    }
    rows = [
        (snapshot.snapshot_id, ago(snapshot.begun_at), snapshot.installation, size_in_words(snapshot.bytes),
         states[snapshot.state], ", ".join(escape(path) for path in snapshot.paths))
        for snapshot in snapshots
    ]  # fmt: skip
    show_table(("snapshot", "taken", "installation", "size", "state", "what"), rows)
    say(f"\nrecord one here, so that it can be restored: roas snapshot adopt {environment} SNAPSHOT")


def show_rehearsal(snapshot: DataSnapshot) -> None:
    """Print what a rehearsed restore found."""
    rehearsal = snapshot.rehearsal
    if rehearsal is None:
        return
    show_table(("part", "what was restored"), [(escape(name), escape(what)) for name, what in rehearsal.found.items()])
    if rehearsal.ok:
        say(f"\nsnapshot {snapshot.snapshot_id} can be restored; that took {rehearsal.seconds:.1f} s")
    else:
        say(f"\n[red]snapshot {snapshot.snapshot_id} cannot be restored:[/red] {escape(rehearsal.problem)}")
