"""Other programs read the stores: their indexes keep their names and columns."""

from __future__ import annotations

from typing import Any

import pytest

from models.tables.deployment_logs import DeploymentOperation, ServiceStateChange
from models.tables.monitoring import DeploymentHealth


@pytest.mark.parametrize(
    ("table", "index", "column"),
    [
        (DeploymentOperation, "idx_deployment_id", "deployment_id"),
        (DeploymentOperation, "idx_operation_type", "operation_type"),
        (DeploymentOperation, "idx_status", "status"),
        (DeploymentOperation, "idx_start_time", "start_time"),
        (ServiceStateChange, "idx_service_name", "service_name"),
        (ServiceStateChange, "idx_change_time", "change_time"),
        (DeploymentHealth, "idx_timestamp", "timestamp"),
        (DeploymentHealth, "idx_deployment_id", "deployment_id"),
    ],
)
def test_an_index_that_other_programs_know_has_its_name_and_column(table: Any, index: str, column: str) -> None:
    columns = {one.name: [part.name for part in one.columns] for one in table.__table__.indexes}
    assert columns[index] == [column]
