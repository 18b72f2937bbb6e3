"""Decide what a sync does with the revision that a branch or tag refers to, and what it says of the result."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase

from models.compose import Application, MountKind
from models.failures import BadInputError, PlanChangedError, SourceError
from models.sources import FailedRevision, FetchedSource, SourceRevision, SourceState

MOST_ATTEMPTS = 3
"""So often a revision is taken whose update failed before a service had: a registry may be back the next time."""

LONGEST_DESCRIPTION = 140
"""Of a commit status, in characters; GitHub refuses more."""

_VERSION = re.compile(r"(\d+(?:\.\d+)*)(?:[-.+_]?([0-9A-Za-z].*))?$")
_PART = re.compile(r"\d+|[^\d.\-_+]+")
_REVISION = re.compile(r"[0-9a-fA-F]{7,64}")
_SHOWN_FILES = 10


class SyncAction(StrEnum):
    """What a sync does."""

    NOTHING = "nothing new"
    STOPPED = "stopped"
    PINNED = "pinned"
    HELD_BACK = "held back"
    WAITING = "waiting"
    TAKE = "take"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncDecision:
    """What a sync does with a revision, and why."""

    action: SyncAction
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOptions:
    """What a user allows a sync: history that was rewritten, and the loss of changed files in the checkout."""

    allow_rewritten: bool = False
    discard_changes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPlan:
    """What a sync would do with the revision that the environment's source refers to now, and why."""

    action: SyncAction
    reason: str
    revision: SourceRevision
    running: SourceRevision | None


def decide(
    environment: str,
    fetched: FetchedSource,
    running: SourceRevision | None,
    state: SourceState,
    options: SyncOptions,
    *,
    meant_to_run: bool,
) -> SyncDecision:
    """Decide whether a sync takes the fetched revision; `running` is that of the last proven release.

    An environment that was stopped on request stays stopped.

    Raises:
        SourceError: It may not be taken without a user's word: history was rewritten, or files in the checkout changed.
    """
    target = fetched.target
    if running is not None and target.revision == running.revision:
        return SyncDecision(action=SyncAction.NOTHING, reason=f"nothing new: {target} runs already")
    if not meant_to_run:
        reason = f"{environment} was stopped on request; after `roas start {environment}` a sync takes {target}"
        return SyncDecision(action=SyncAction.STOPPED, reason=reason)
    if state.pin is not None:
        stays = f"revision {state.pin.revision[:12]}" if state.pin.revision else "the release before the source"
        return SyncDecision(
            action=SyncAction.PINNED,
            reason=f"{environment} stays at {stays}, to which {state.pin.by} rolled it back at "
            f"{state.pin.at:%Y-%m-%d %H:%M} UTC; `roas sync --unpin {environment}` takes {target}",
        )
    failed = state.failed.get(target.revision)
    if failed is not None and failed.held_back:
        return SyncDecision(
            action=SyncAction.HELD_BACK,
            reason=f"{target} is held back, because it failed in {failed.deployment_id}: {failed.reason}; push "
            f"one that repairs it, or `roas sync --lift {target.brief} {environment}` tries it again",
        )
    if running is not None and not fetched.follows_running and not options.allow_rewritten:
        raise SourceError(
            f"{target} does not follow {running}, which runs: history was rewritten, a tag moved, or it is older;",
            advice=f"look at the repository; `roas sync --allow-rewritten {environment}` takes it all the same.",
        )
    if fetched.changed_files and not options.discard_changes:
        shown = ", ".join(fetched.changed_files[:_SHOWN_FILES])
        more = len(fetched.changed_files) - _SHOWN_FILES
        shown += f" and {more} more" if more > 0 else ""
        raise SourceError(
            f"Files in the checkout of {environment} were changed here: {shown};",
            advice=f"commit what is needed; `roas sync --discard-changes {environment}` goes on without these changes.",
        )
    return SyncDecision(action=SyncAction.TAKE, reason=f"takes {target}")


def newest_tag(names: Iterable[str], pattern: str) -> str | None:
    """Return the tag of the highest version among those that match a pattern; None where no tag has a version.

    A version with a suffix such as -rc1 is older than the same one without. A name without a pattern is itself.
    """
    matching = [name for name in names if fnmatchcase(name, pattern)]
    if pattern in matching:
        return pattern
    versions = {name: key for name in matching if (key := _version(name)) is not None}
    return max(versions, key=lambda name: versions[name]) if versions else None


def refuse_another_revision(environment: str, target: SourceRevision, revision: str) -> None:
    """Refuse a sync of a given revision, or its first digits, where the source refers to another one.

    Raises:
        BadInputError: It is no revision.
        PlanChangedError: It refers to another one.
    """
    revision = revision.removeprefix("sha256:")
    if not _REVISION.fullmatch(revision):
        raise BadInputError(
            f"{revision[:80]!r} is no revision;", advice="give at least 7 of its digits, as `git log` prints them."
        )
    if not target.revision.startswith(revision.lower()):
        raise PlanChangedError(
            f"The source of {environment} refers to {target} now, not to {revision};",
            advice="look at what changed, then give that revision.",
        )


def is_recorded(failure: str, last_failure: str, *, by_person: bool) -> bool:
    """Whether a failure to fetch a source is recorded; `last_failure` is that of the sync before, or empty."""
    return by_person or failure != last_failure


def state_after_failure(
    state: SourceState, target: SourceRevision, reason: str, deployment_id: str, at: datetime, *, hold_back: bool
) -> SourceState:
    """Return the state after an update to a revision failed; `hold_back` where a service of it failed."""
    before = state.failed.get(target.revision)
    if before is not None and before.deployment_id == deployment_id:
        return state
    attempts = 1 if before is None else before.attempts + 1
    is_held = hold_back or attempts >= MOST_ATTEMPTS
    failed = FailedRevision(reason=reason, deployment_id=deployment_id, at=at, attempts=attempts, held_back=is_held)
    return replace(state, failed={**state.failed, target.revision: failed})


def lift_revisions(state: SourceState, environment: str, revision: str) -> tuple[SourceState, tuple[str, ...]]:
    """Return the state in which revisions that begin like this may be taken again, and these revisions.

    Raises:
        SourceError: No such revision is held back.
    """
    revision = revision.removeprefix("sha256:")
    revisions = tuple(name for name in state.failed if len(revision) >= 4 and name.startswith(revision.lower()))
    if not revisions:
        raise SourceError(
            f"No revision of {environment} that begins with {revision!r} is held back;",
            advice=f"held back are: {', '.join(name[:12] for name in state.failed) or 'none'}.",
        )
    return replace(
        state, failed={name: failed for name, failed in state.failed.items() if name not in revisions}
    ), revisions


def checkouts_to_remove(
    there: Iterable[str], state: SourceState, *, needed: Iterable[str], oldest_start: datetime | None, now: datetime
) -> tuple[str, ...]:
    """Return the checked out revisions that nothing needs any more.

    `needed` are those of the current checkout and of kept releases. A container mounts files of the revision that was
    current when it started, so those that were left after `oldest_start`, the start of the oldest container, stay.
    """
    keep = set(needed)
    since = oldest_start or now - timedelta(days=1)
    return tuple(
        revision
        for revision in there
        if revision not in keep and (left_at := state.left.get(revision)) is not None and left_at < since
    )


def leaving_links(links: Mapping[str, str]) -> tuple[str, ...]:
    """Return the symbolic links that lead out of the checkout; `links` are their targets by path."""
    paths = []
    for path, target in links.items():
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if target.startswith("/") or inside == ".." or inside.startswith("../"):
            paths.append(path)
    return tuple(sorted(paths))


def refuse_data_in_checkout(application: Application, checkout: str, tracked: Iterable[str]) -> None:
    """Refuse services that write to a folder of the checkout that git does not have: each revision has a new one.

    `checkout` is its absolute path, `tracked` are its files and folders, relative to it.

    Raises:
        SourceError: One does.
    """
    tracked_paths = set(tracked)
    for name, service in application.services.items():
        for mount in service.mounts:
            inside = posixpath.relpath(mount.source, checkout) if mount.source.startswith("/") else ".."
            if mount.kind is not MountKind.BIND or inside == ".." or inside.startswith("../"):
                continue
            if inside not in tracked_paths:
                raise SourceError(
                    f"{name} mounts {inside}, which is not in the repository, so each revision would have a new, "
                    "empty one;",
                    advice="use a named volume, or an absolute path outside of the checkout.",
                )


def status_description(text: str) -> str:
    """Return a text as the description of a commit status: one line of at most 140 characters."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_DESCRIPTION else line[: LONGEST_DESCRIPTION - 1].rstrip() + "…"


def _version(name: str) -> tuple[tuple[int, ...], bool, tuple[tuple[bool, int, str], ...]] | None:
    match = _VERSION.search(name)
    if match is None:
        return None
    numbers = [int(part) for part in match[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    suffix = tuple(
        (not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in _PART.findall(match[2] or "")
    )
    return tuple(numbers), not suffix, suffix
