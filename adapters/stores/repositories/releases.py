"""Releases: the Compose application, images and files that ran in an environment."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from adapters.stores.repositories.repository import Repository
from adapters.stores.sql import table, upsert
from models.failures import BadInputError, NotFoundError
from models.records import Release
from models.tables.deployment_logs import ReleaseRow

_releases = table(ReleaseRow)


class Releases(Repository):
    """Releases."""

    def keep(self, release: Release) -> None:
        """Keep what ran; given again under the same id it is kept as last given."""
        values = {
            "release_id": release.release_id,
            "environment": release.environment,
            "deployment_id": release.deployment_id,
            "created_at": release.created_at,
            "compose": release.compose,
            "digests": release.digests,
            "hashes": release.hashes,
            "images": release.images,
            "files": release.files,
            "variables": release.variables,
            "reason": release.reason,
            "proven": release.proven,
        }
        with self._database.write() as connection:
            upsert(connection, ReleaseRow, values, keys=["release_id"])

    def latest(self, environment: str, limit: int = 50) -> list[Release]:
        """The latest releases of an environment, newest first."""
        query = sa.select(_releases).where(_releases.c.environment == environment)
        newest = query.order_by(_releases.c.created_at.desc(), _releases.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [_to_release(row) for row in connection.execute(newest)]

    def last(self, environment: str, *, proven: bool = False) -> Release | None:
        """The latest release, or the latest proven one."""
        query = sa.select(_releases).where(_releases.c.environment == environment)
        if proven:
            query = query.where(_releases.c.proven.is_(True))
        newest = query.order_by(_releases.c.created_at.desc(), _releases.c.id.desc()).limit(1)
        with self._database.read() as connection:
            found = connection.execute(newest).one_or_none()
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
        with self._database.read() as connection:
            return {
                image
                for row in connection.execute(sa.select(_releases.c.images))
                for image in (row.images or {}).values()
            }

    def _named(self, key: sa.Column[Any], name: str, what: str, advice: str) -> sa.Row[Any]:
        """The row whose key is this name, or the only one whose key begins like it."""
        end = name + chr(0x10FFFF)
        with self._database.read() as connection:
            found = connection.execute(
                sa.select(key.table).where(sa.or_(key == name, sa.and_(key > name, key < end))).order_by(key).limit(6)
            ).all()
        names = [str(row._mapping[key.name]) for row in found]
        if not names or not name:
            raise NotFoundError(f"No {what} has the id {name!r};", advice=advice)
        if len(names) > 1 and names[0] != name:
            raise BadInputError(f"{name!r} begins several ids ({', '.join(names)});", advice="give more of it.")
        return found[0]


def _to_release(row: sa.Row[Any]) -> Release:
    return Release(
        release_id=row.release_id,
        environment=row.environment,
        deployment_id=row.deployment_id,
        created_at=row.created_at,
        compose=row.compose or {},
        digests=row.digests or {},
        hashes=row.hashes or {},
        images=row.images or {},
        files=row.files or {},
        variables=row.variables or {},
        reason=row.reason or "",
        proven=row.proven,
    )
