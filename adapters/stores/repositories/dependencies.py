"""Dependencies between services."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from adapters.stores.repositories.repository import Repository, Rows
from adapters.stores.sql import table, upsert
from models.metrics import Dependency, DependencyStatus
from models.tables.monitoring import ServiceDependency

_dependencies = table(ServiceDependency)
_rows = Rows(ServiceDependency, Dependency, depends_on="depends_on_service")


class Dependencies(Repository):
    """Dependencies between services."""

    def all(self, environment: str) -> list[Dependency]:
        """What an environment's services need, or once needed (inactive)."""
        query = sa.select(_dependencies).where(_dependencies.c.environment == environment)
        ordered = query.order_by(_dependencies.c.service_name, _dependencies.c.depends_on_service)
        return [_rows.to_value(row) for row in self._all(ordered)]


def put_dependencies(connection: sa.Connection, environment: str, dependencies: Sequence[Dependency]) -> None:
    """Insert or update dependencies; those not named become inactive."""
    rows = [
        _rows.to_row(one, service_name=f"{environment}/{one.service}", environment=environment) for one in dependencies
    ]
    here = _dependencies.c.environment == environment
    connection.execute(sa.update(_dependencies).where(here).values(status=DependencyStatus.INACTIVE.value))
    upsert(connection, ServiceDependency, rows, keys=["service_name", "depends_on_service"])
