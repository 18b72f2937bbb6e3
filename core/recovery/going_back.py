"""Decide whether a recovery may go back to an earlier release without a person, and what going back costs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from models.operations import DATA_SAVED, HOOK_BEGUN, OperationStep
from models.records import Release


def data_changed_since(
    release: Release, steps: Sequence[OperationStep], canaries: Collection[str]
) -> tuple[OperationStep, ...]:
    """Return the hooks that ran and the snapshots that were taken since a release was kept, oldest first.

    `steps` are of all operations of its environment; `canaries` are hooks that only observe.
    """
    mine = [
        one
        for one in steps
        if one.deployment_id != release.deployment_id
        and one.finished_at > release.created_at
        and not (one.step == HOOK_BEGUN and one.service in canaries)
    ]
    return tuple(sorted(mine, key=lambda one: one.finished_at))


def ways_back(release: Release, changed: Sequence[OperationStep]) -> tuple[str, ...]:
    """Return the two ways back to a release that a person may choose, with what each loses; none where all is safe."""
    if not changed:
        return ()
    environment, name = release.environment, release.release_id
    hooks = ", ".join(dict.fromkeys(f"hook {one.service}" for one in changed if one.step == HOOK_BEGUN))
    saved = next((one for one in reversed(changed) if one.step == DATA_SAVED), None)
    risk = f"{hooks} may have changed data that the old version cannot read" if hooks else (
        "the old version may not read what the new one has made of the data"
    )  # fmt: skip
    code = f"Go back without the data (what was written since stays, but {risk}): roas rollback {environment} {name}"
    if saved is None:
        return (code, "No snapshot was taken by the update, so the data cannot go back with it.")
    lost = f"all that was written since snapshot {saved.detail} of {saved.finished_at:%Y-%m-%d %H:%M:%S} UTC is lost"
    return (code, f"Go back with the data ({lost}): roas rollback {environment} {name} --with-data")


def why_not_alone(changed: Sequence[OperationStep]) -> str:
    """Return why no recovery goes back by itself, as a sentence."""
    what = [
        f"hook {one.service} ran" if one.step == HOOK_BEGUN else f"snapshot {one.detail} was taken" for one in changed
    ]
    return f"Going back to the release before is left to a person, since {' and '.join(dict.fromkeys(what))} after it."
