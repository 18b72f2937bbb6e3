"""Other programs read these files: every name, type, default, key and index they know must be there."""

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from adapters.stores import Stores
from adapters.stores.check import schema_differences
from adapters.stores.migrate import FOLDER, HEADS, revision_of
from models.failures import StoreTooNewError
from models.settings import Settings
from models.tables.deployment_logs import DeploymentLogsRow
from models.tables.errors import ErrorsRow
from models.tables.monitoring import MonitoringRow

NOW = "CURRENT_TIMESTAMP"
ID = ("id", "INTEGER", True, None)

COLUMNS = {
    ("deployment_logs", "deployment_operations"): [
        ID,
        ("deployment_id", "TEXT", True, None),
        ("operation_type", "TEXT", True, None),
        ("environment", "TEXT", True, None),
        ("status", "TEXT", True, None),
        ("start_time", "DATETIME", False, NOW),
        ("end_time", "DATETIME", False, None),
        ("duration_ms", "INTEGER", False, None),
        ("user_agent", "TEXT", False, None),
        ("metadata", "TEXT", False, None),
    ],
    ("deployment_logs", "service_state_changes"): [
        ID,
        ("deployment_id", "TEXT", True, None),
        ("service_name", "TEXT", True, None),
        ("previous_state", "TEXT", False, None),
        ("new_state", "TEXT", True, None),
        ("change_time", "DATETIME", False, NOW),
        ("change_reason", "TEXT", False, None),
        ("metadata", "TEXT", False, None),
    ],
    ("deployment_logs", "environment_validations"): [
        ID,
        ("deployment_id", "TEXT", True, None),
        ("validation_time", "DATETIME", False, NOW),
        ("overall_result", "BOOLEAN", True, None),
        ("failed_checks", "TEXT", False, None),
        ("validation_details", "TEXT", False, None),
        ("recommendations", "TEXT", False, None),
    ],
    ("monitoring", "deployment_health_history"): [
        ID,
        ("timestamp", "DATETIME", False, NOW),
        ("deployment_id", "TEXT", False, None),
        ("overall_health", "TEXT", True, None),
        ("services_total", "INTEGER", False, None),
        ("services_healthy", "INTEGER", False, None),
        ("services_degraded", "INTEGER", False, None),
        ("services_unhealthy", "INTEGER", False, None),
        ("system_load_avg", "REAL", False, None),
        ("critical_alerts_count", "INTEGER", False, None),
    ],
    ("monitoring", "service_dependencies"): [
        ID,
        ("service_name", "TEXT", True, None),
        ("depends_on_service", "TEXT", True, None),
        ("dependency_type", "TEXT", True, None),
        ("health_impact", "TEXT", True, None),
        ("last_check", "DATETIME", False, NOW),
        ("status", "TEXT", False, "'active'"),
    ],
    ("monitoring", "performance_baselines"): [
        ID,
        ("service_name", "TEXT", True, None),
        ("metric_name", "TEXT", True, None),
        ("baseline_value", "REAL", True, None),
        ("threshold_warning", "REAL", False, None),
        ("threshold_critical", "REAL", False, None),
        ("created_at", "DATETIME", False, NOW),
        ("updated_at", "DATETIME", False, NOW),
    ],
    ("errors", "error_patterns"): [
        ID,
        ("pattern_name", "TEXT", True, None),
        ("pattern_regex", "TEXT", True, None),
        ("category", "TEXT", True, None),
        ("severity", "TEXT", True, None),
        ("auto_recovery_possible", "BOOLEAN", False, "FALSE"),
        ("recovery_script_path", "TEXT", False, None),
        ("created_at", "DATETIME", False, NOW),
        ("last_matched", "DATETIME", False, None),
        ("match_count", "INTEGER", False, "0"),
    ],
    ("errors", "error_impact_analysis"): [
        ID,
        ("error_id", "TEXT", True, None),
        ("impact_type", "TEXT", True, None),
        ("affected_services", "TEXT", False, None),
        ("estimated_recovery_time", "INTEGER", False, None),
        ("business_impact", "TEXT", False, None),
        ("created_at", "DATETIME", False, NOW),
    ],
    ("errors", "auto_recovery_executions"): [
        ID,
        ("error_id", "TEXT", True, None),
        ("recovery_strategy", "TEXT", True, None),
        ("execution_start", "DATETIME", False, NOW),
        ("execution_end", "DATETIME", False, None),
        ("success", "BOOLEAN", False, None),
        ("steps_executed", "TEXT", False, None),
        ("final_status", "TEXT", False, None),
        ("manual_intervention_required", "BOOLEAN", False, "FALSE"),
    ],
    ("errors", "deployment_errors"): [ID, ("error_id", "TEXT", True, None)],
    ("errors", "manual_intervention_tickets"): [ID, ("ticket_id", "TEXT", True, None)],
}

INDEXES = {
    ("deployment_logs", "idx_deployment_id"): ("deployment_operations", ["deployment_id"]),
    ("deployment_logs", "idx_operation_type"): ("deployment_operations", ["operation_type"]),
    ("deployment_logs", "idx_status"): ("deployment_operations", ["status"]),
    ("deployment_logs", "idx_start_time"): ("deployment_operations", ["start_time"]),
    ("deployment_logs", "idx_service_name"): ("service_state_changes", ["service_name"]),
    ("deployment_logs", "idx_change_time"): ("service_state_changes", ["change_time"]),
    ("monitoring", "idx_timestamp"): ("deployment_health_history", ["timestamp"]),
    ("monitoring", "idx_deployment_id"): ("deployment_health_history", ["deployment_id"]),
}

UNIQUE = {
    ("deployment_logs", "deployment_operations"): ["deployment_id"],
    ("deployment_logs", "operation_steps"): ["deployment_id", "step", "service"],
    ("monitoring", "service_dependencies"): ["service_name", "depends_on_service"],
    ("monitoring", "performance_baselines"): ["service_name", "metric_name"],
    ("errors", "error_patterns"): ["pattern_name"],
    ("errors", "deployment_errors"): ["error_id"],
}

FOREIGN_KEYS = {
    ("deployment_logs", "service_state_changes"): ("deployment_operations", "deployment_id", "deployment_id"),
    ("deployment_logs", "environment_validations"): ("deployment_operations", "deployment_id", "deployment_id"),
    ("deployment_logs", "operation_steps"): ("deployment_operations", "deployment_id", "deployment_id"),
    ("errors", "error_impact_analysis"): ("deployment_errors", "error_id", "error_id"),
    ("errors", "auto_recovery_executions"): ("deployment_errors", "error_id", "error_id"),
}

BASES = {"deployment_logs": DeploymentLogsRow, "monitoring": MonitoringRow, "errors": ErrorsRow}


def rows(data: Path, store: str, query: str) -> list[tuple]:
    with sqlite3.connect(data / f"{store}.db") as file:
        return file.execute(query).fetchall()


@pytest.mark.files
@pytest.mark.parametrize(("store", "table"), COLUMNS)
def test_a_table_has_the_columns_other_programs_know(stores: Stores, settings: Settings, store, table) -> None:
    found = {
        name: (name, kind, bool(needed), default)
        for _, name, kind, needed, default, _ in rows(settings.data_dir, store, f"PRAGMA table_info({table})")
    }
    for column in COLUMNS[store, table]:
        assert found[column[0]] == column


@pytest.mark.files
@pytest.mark.parametrize(("store", "table"), COLUMNS)
def test_an_id_is_never_used_twice(stores: Stores, settings: Settings, store, table) -> None:
    [(sql,)] = rows(settings.data_dir, store, f"SELECT sql FROM sqlite_master WHERE name = '{table}'")
    assert "PRIMARY KEY AUTOINCREMENT" in sql


@pytest.mark.files
@pytest.mark.parametrize(("store", "index"), INDEXES)
def test_an_index_has_its_name_and_columns(stores: Stores, settings: Settings, store, index) -> None:
    table, columns = INDEXES[store, index]
    [(owner,)] = rows(settings.data_dir, store, f"SELECT tbl_name FROM sqlite_master WHERE name = '{index}'")
    assert owner == table
    assert [row[2] for row in rows(settings.data_dir, store, f"PRAGMA index_info({index})")] == columns


@pytest.mark.files
@pytest.mark.parametrize(("store", "table"), UNIQUE)
def test_what_must_be_unique_is(stores: Stores, settings: Settings, store, table) -> None:
    unique = [row[1] for row in rows(settings.data_dir, store, f"PRAGMA index_list({table})") if row[2]]
    columns = [[row[2] for row in rows(settings.data_dir, store, f"PRAGMA index_info({name})")] for name in unique]
    assert UNIQUE[store, table] in columns


@pytest.mark.files
@pytest.mark.parametrize(("store", "table"), FOREIGN_KEYS)
def test_a_row_refers_to_its_owner(stores: Stores, settings: Settings, store, table) -> None:
    found = rows(settings.data_dir, store, f"PRAGMA foreign_key_list({table})")
    assert FOREIGN_KEYS[store, table] in [(row[2], row[3], row[4]) for row in found]


@pytest.mark.parametrize("store", BASES)
def test_migrations_make_what_the_rows_say(stores: Stores, store) -> None:
    with stores.databases[store].read() as connection:
        assert schema_differences(connection, store) == []


@pytest.mark.parametrize("store", BASES)
def test_the_newest_revision_is_the_one_the_opener_knows(store) -> None:
    scripts = ScriptDirectory(str(FOLDER), version_locations=[str(FOLDER / store)])
    assert scripts.get_heads() == [HEADS[store]]


SPEC_DDL = {
    "deployment_logs": """
CREATE TABLE deployment_operations (id INTEGER PRIMARY KEY AUTOINCREMENT, deployment_id TEXT NOT NULL UNIQUE,
  operation_type TEXT NOT NULL, environment TEXT NOT NULL, status TEXT NOT NULL,
  start_time DATETIME DEFAULT CURRENT_TIMESTAMP, end_time DATETIME, duration_ms INTEGER, user_agent TEXT,
  metadata TEXT);
CREATE INDEX idx_deployment_id ON deployment_operations(deployment_id);
CREATE TABLE service_state_changes (id INTEGER PRIMARY KEY AUTOINCREMENT, deployment_id TEXT NOT NULL,
  service_name TEXT NOT NULL, previous_state TEXT, new_state TEXT NOT NULL,
  change_time DATETIME DEFAULT CURRENT_TIMESTAMP, change_reason TEXT, metadata TEXT,
  FOREIGN KEY (deployment_id) REFERENCES deployment_operations(deployment_id));
INSERT INTO deployment_operations (deployment_id, operation_type, environment, status, start_time, duration_ms)
  VALUES ('old-1', 'start', 'prod', 'success', '2026-01-02 03:04:05', 1200),
         ('old-2', 'start', 'prod', 'failed', '2026-01-02 04:04:05', 800);
INSERT INTO service_state_changes (deployment_id, service_name, new_state) VALUES ('old-1', 'bot', 'running');
""",
    "monitoring": """
CREATE TABLE service_dependencies (id INTEGER PRIMARY KEY AUTOINCREMENT, service_name TEXT NOT NULL,
  depends_on_service TEXT NOT NULL, dependency_type TEXT NOT NULL, health_impact TEXT NOT NULL,
  last_check DATETIME DEFAULT CURRENT_TIMESTAMP, status TEXT DEFAULT 'active',
  UNIQUE(service_name, depends_on_service));
INSERT INTO service_dependencies (service_name, depends_on_service, dependency_type, health_impact)
  VALUES ('bot', 'redis', 'required', 'critical');
""",
    "errors": """
CREATE TABLE error_patterns (id INTEGER PRIMARY KEY AUTOINCREMENT, pattern_name TEXT NOT NULL UNIQUE,
  pattern_regex TEXT NOT NULL, category TEXT NOT NULL, severity TEXT NOT NULL,
  auto_recovery_possible BOOLEAN DEFAULT FALSE, recovery_script_path TEXT,
  created_at DATETIME DEFAULT CURRENT_TIMESTAMP, last_matched DATETIME, match_count INTEGER DEFAULT 0);
INSERT INTO error_patterns (pattern_name, pattern_regex, category, severity)
  VALUES ('mine', 'boom', 'unknown', 'low');
""",
}


@pytest.mark.files
def test_files_made_by_another_program_are_adopted_without_loss(settings: Settings) -> None:
    settings.data_dir.mkdir()
    for store, ddl in SPEC_DDL.items():
        with sqlite3.connect(settings.data_dir / f"{store}.db") as file:
            file.executescript(ddl)
    with Stores.open(settings) as stores:
        assert stores.operations.get("old-1").environment == "prod"
        assert [change.service for change in stores.progress.changes("old-1")] == ["bot"]
        assert [pattern.name for pattern in stores.patterns.all() if not pattern.shipped] == ["mine"]
    assert rows(settings.data_dir, "monitoring", "SELECT service_name, status FROM service_dependencies") == [
        ("bot", "active")
    ]


def test_a_store_of_a_later_version_is_refused_and_left_alone(stores: Stores, settings: Settings) -> None:
    with stores.databases["errors"].write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreTooNewError, match="9999"):
        Stores.open(settings)
    with stores.databases["errors"].read() as connection:
        assert revision_of(connection) == "9999"
