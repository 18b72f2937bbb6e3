"""Dependencies between services."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from adapters.stores.repositories.repository import Repository
from adapters.stores.sql import table, upsert
from models.metrics import Dependency, DependencyStatus, DependencyType, HealthImpact
from models.tables.monitoring import ServiceDependency

_dependencies = table(ServiceDependency)


class Dependencies(Repository):
    """Dependencies between services."""

    def put(self, environment: str, dependencies: Sequence[Dependency]) -> None:
        """Record the dependencies of an environment's services; those no longer named become inactive."""
        with self._database.write() as connection:
            put_dependencies(connection, environment, dependencies)

    def all(self, environment: str) -> list[Dependency]:
        """What an environment's services need, or once needed (inactive)."""
        query = sa.select(_dependencies).where(_dependencies.c.environment == environment)
        ordered = query.order_by(_dependencies.c.service_name, _dependencies.c.depends_on_service)
        with self._database.read() as connection:
            return [
                Dependency(
                    service=row.service,
                    depends_on=row.depends_on_service,
                    dependency_type=DependencyType(row.dependency_type),
                    health_impact=HealthImpact(row.health_impact),
                    status=DependencyStatus(row.status),
                    last_check=row.last_check,
                )
                for row in connection.execute(ordered)
            ]


def put_dependencies(connection: sa.Connection, environment: str, dependencies: Sequence[Dependency]) -> None:
    """Insert or update dependencies; those not named become inactive."""
    rows = [
        {
            "service_name": f"{environment}/{one.service}",
            "depends_on_service": one.depends_on,
            "dependency_type": one.dependency_type.value,
            "health_impact": one.health_impact.value,
            "last_check": one.last_check,
            "status": one.status.value,
            "environment": environment,
            "service": one.service,
        }
        for one in dependencies
    ]
    connection.execute(
        sa.update(_dependencies)
        .where(_dependencies.c.environment == environment)
        .values(status=DependencyStatus.INACTIVE.value)
    )
    upsert(connection, ServiceDependency, rows, keys=["service_name", "depends_on_service"])
