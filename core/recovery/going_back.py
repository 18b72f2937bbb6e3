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
    changes = [
        step
        for step in steps
        if step.deployment_id != release.deployment_id
        and step.finished_at > release.created_at
        and not (step.step == HOOK_BEGUN and step.service in canaries)
    ]
    return tuple(sorted(changes, key=lambda step: step.finished_at))


def ways_back(release: Release, changed: Sequence[OperationStep]) -> tuple[str, ...]:
    """Return the two ways back to a release that a person may choose, with what each loses; none where all is safe."""
    if not changed:
        return ()
    environment, name = release.environment, release.release_id
    hooks = ", ".join(dict.fromkeys(f"hook {step.service}" for step in changed if step.step == HOOK_BEGUN))
    saved = next((step for step in reversed(changed) if step.step == DATA_SAVED), None)
    risk = f"{hooks} may have changed data that the old version cannot read" if hooks else (
        "the old version may not read what the new one has made of the data"
    )  # fmt: skip
    code = f"Go back without the data (what was written since stays, but {risk}): roas rollback {environment} {name}"
    if saved is None:
        return (code, "No snapshot was taken by the update, so the data cannot go back with it.")
    loss = f"all that was written since snapshot {saved.detail} of {saved.finished_at:%Y-%m-%d %H:%M:%S} UTC is lost"
    return (code, f"Go back with the data ({loss}): roas rollback {environment} {name} --with-data")


def why_not_alone(changed: Sequence[OperationStep]) -> str:
    """Return why no recovery goes back by itself, as a sentence."""
    what = [
        f"hook {step.service} ran" if step.step == HOOK_BEGUN else f"snapshot {step.detail} was taken"
        for step in changed
    ]
    return f"Going back to the release before is left to a person, since {' and '.join(dict.fromkeys(what))} after it."
