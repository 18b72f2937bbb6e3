"""Releases: the Compose application, images and files that ran in an environment."""

from __future__ import annotations

import sqlalchemy as sa

from adapters.stores.repositories.repository import Repository, Rows, newest
from adapters.stores.sql import table, upsert
from models.records import Release
from models.tables.deployment_logs import ReleaseRow

_releases = table(ReleaseRow)
_rows = Rows(ReleaseRow, Release)


class Releases(Repository):
    """Releases."""

    def keep(self, release: Release) -> None:
        """Keep what ran; given again under the same id it is kept as last given."""
        with self._database.write() as connection:
            upsert(connection, ReleaseRow, _rows.to_row(release), keys=["release_id"])

    def latest(self, environment: str, limit: int = 50) -> list[Release]:
        """The latest releases of an environment, newest first."""
        query = newest(_releases, "created_at", environment=environment)
        return [_to_release(row) for row in self._all(query.limit(limit))]

    def last(self, environment: str, *, proven: bool = False) -> Release | None:
        """The latest release, or the latest proven one."""
        found = self._first(newest(_releases, "created_at", environment=environment, proven=proven or None))
        return None if found is None else _to_release(found)

    def get(self, release_id: str) -> Release:
        """The release of this id, or the only one whose id begins like this.

        Raises:
            NotFoundError: There is none.
            BadInputError: Several ids begin like this.
        """
        return _to_release(self._named(_releases.c.release_id, release_id, "release", "`roas releases` lists them."))

    def images(self) -> set[str]:
        """The ids of all images that a kept release of any environment ran with."""
        found = self._all(sa.select(_releases.c.images))
        return {image for row in found for image in (row.images or {}).values()}


def _to_release(row: sa.Row[object]) -> Release:
    return _rows.to_value(row, compose=row.compose or {})
