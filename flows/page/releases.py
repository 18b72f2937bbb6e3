"""The pages of releases, two of which are compared, and of snapshots."""

from __future__ import annotations

from datetime import UTC, datetime
from difflib import unified_diff
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response

from core.storage.snapshots import offered_snapshots, proof_of
from flows.page.rendering import render
from models.failures import NotFoundError
from models.records import Release
from tasks.reporting.read import read_releases
from tasks.reporting.snapshots import read_snapshots
from tasks.runtime.stores import open_stores, stores_exist

_MOST_LINES = 400


def releases(request: Request) -> Response:
    """The releases of an environment; `from` and `to` are two of them to compare."""
    name = operated(request.path_params["environment"])
    listed = read_releases(name)
    before, after = (
        _chosen(listed_id, name) for listed_id in (request.query_params.get("from"), request.query_params.get("to"))
    )
    if before is not None and after is not None and before.created_at > after.created_at:
        before, after = after, before
    return render(
        request,
        "releases.html.j2",
        name=name,
        releases=listed,
        before=before,
        after=after,
        differences=_differences(before, after),
        document=_document_changes(before, after),
    )


def snapshots(request: Request) -> Response:
    """The snapshots of an environment's data, also those that failed."""
    name = operated(request.path_params["environment"])
    listed = read_snapshots(name)
    whole = {snapshot.snapshot_id for snapshot in offered_snapshots(listed)}
    return render(
        request,
        "snapshots.html.j2",
        name=name,
        snapshots=[
            (snapshot, proof_of(snapshot) if snapshot.snapshot_id in whole else "", snapshot.snapshot_id in whole)
            for snapshot in listed
        ],
        read_at=datetime.now(UTC),
    )


def operated(environment: str) -> str:
    """The name of an environment that is on record.

    Raises:
        NotFoundError: It was never operated.
    """
    if not (stores_exist() and open_stores().operations.history(environment=environment, limit=1)):
        raise NotFoundError(
            f"Environment {environment} was never operated here;", advice="`roas status` lists those that were."
        )
    return environment


def _chosen(release_id: str | None, environment: str) -> Release | None:
    if not release_id:
        return None
    release = open_stores().releases.get(release_id)
    if release.environment != environment:
        raise NotFoundError(f"{environment} has no release {release_id};", advice="choose two of its list.")
    return release


def _differences(before: Release | None, after: Release | None) -> tuple[str, ...]:
    if before is None or after is None:
        return ()
    from core.deployment.release import differences

    return differences(before, after)


def _document_changes(before: Release | None, after: Release | None) -> list[str]:
    """What changed in the Compose application, which holds names of variables and no values."""
    if before is None or after is None:
        return []
    import yaml

    old, new = (yaml.safe_dump(release.compose, allow_unicode=True).splitlines() for release in (before, after))
    lines = unified_diff(old, new, before.release_id, after.release_id, lineterm="")
    return list(islice(lines, _MOST_LINES))
