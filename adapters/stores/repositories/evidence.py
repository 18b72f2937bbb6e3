"""Evidence bundles: what containers, logs and probes showed at a replacement or failure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from adapters.stores.repositories.repository import Repository, Rows, newest
from adapters.stores.sql import insert_unless_there, table
from models.evidence import EvidenceBundle
from models.tables.errors import DeploymentError, EvidenceRow

_errors = table(DeploymentError)
_evidence = table(EvidenceRow)
_bundles = TypeAdapter(EvidenceBundle)
_rows = Rows(EvidenceRow, EvidenceBundle, service="service_name")
_PARTS = ("containers", "logs", "probes", "events", "host", "missing")
_BUNDLES_OF_AN_ERROR = 12
"""A cause that comes back every minute keeps its first evidence and the latest; the rest would fill the disk."""


class EvidenceBundles(Repository):
    """Evidence bundles."""

    def keep(self, bundle: EvidenceBundle) -> None:
        """Write a bundle; one that is there already stays as it is.

        Raises:
            StoreConstraintError: No error has the bundle's error id.
        """
        with self._database.write() as connection:
            insert_unless_there(connection, EvidenceRow, _from_bundle(bundle), keys=["bundle_id"])

    def find(
        self,
        *,
        deployment_id: str | None = None,
        error_id: str | None = None,
        environment: str | None = None,
        limit: int = 100,
    ) -> Sequence[EvidenceBundle]:
        """The newest bundles of an operation, an error or an environment, oldest first."""
        query = newest(
            _evidence, "taken_at", deployment_id=deployment_id, error_id=error_id, environment=environment
        ).limit(limit)
        return [_rows.to_value(row, **(row.parts or {})) for row in self._all(query)][::-1]

    def errors_by_operation(self, environment: str) -> dict[str, str]:
        """The error each operation failed of, by the evidence it left; also where an earlier one had it too."""
        query = sa.select(_evidence.c.deployment_id, _evidence.c.error_id).where(
            _evidence.c.environment == environment,
            _evidence.c.deployment_id.is_not(None),
            _evidence.c.error_id.is_not(None),
        )
        return {row.deployment_id: row.error_id for row in self._all(query.order_by(_evidence.c.id.desc()))}

    def link(self, bundle_ids: Sequence[str], error_id: str) -> None:
        """Say that bundles show an error, in their rows and in the error's own evidence.

        Of an error seen again and again the first bundle and the latest few stay.

        Raises:
            StoreConstraintError: No error has this id.
        """
        with self._database.write() as connection:
            connection.execute(
                sa.update(_evidence).where(_evidence.c.bundle_id.in_(bundle_ids)).values(error_id=error_id)
            )
            of_it = sa.select(_evidence.c.bundle_id).where(_evidence.c.error_id == error_id)
            known = list(connection.scalars(of_it.order_by(_evidence.c.taken_at, _evidence.c.id)))
            kept = [*known[:1], *known[1:][1 - _BUNDLES_OF_AN_ERROR :]]
            connection.execute(
                sa.delete(_evidence).where(_evidence.c.error_id == error_id, _evidence.c.bundle_id.not_in(kept))
            )
            before = connection.scalar(sa.select(_errors.c.evidence).where(_errors.c.error_id == error_id))
            connection.execute(
                sa.update(_errors)
                .where(_errors.c.error_id == error_id)
                .values(evidence={**(before or {}), "bundles": kept})
            )

    def error_of(self, bundle_id: str) -> str | None:
        """The id of the error that a bundle shows; None where the bundle is not kept, or shows none."""
        found = self._first(sa.select(_evidence.c.error_id).where(_evidence.c.bundle_id == bundle_id))
        return None if found is None else found.error_id


def _from_bundle(bundle: EvidenceBundle) -> dict[str, Any]:
    whole = _bundles.dump_python(bundle, mode="json")
    return _rows.to_row(bundle, parts={name: whole[name] for name in _PARTS})
