"""Stores from before the first release are stamped, or completed, and keep what they hold."""

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from adapters.stores import Stores
from adapters.stores.migrate import HEADS, LAST_BEFORE_RELEASE, revision_of
from models.failures import StoreError
from models.metrics import Metric
from models.operations import Operation, OperationStatus, OperationType
from models.settings import Settings
from tests.integration.stores.values import ERROR, NOON, TICKET
from tests.support.store_rows import series

MINUTE = timedelta(minutes=1)
OPERATION = Operation(
    deployment_id="prod-1",
    operation_type=OperationType.START,
    environment="prod",
    status=OperationStatus.RUNNING,
    started_at=NOON,
)
WHO = ("asked_uid", "asked_user", "login_uid", "claimed_by")

ADDED = {
    "deployment_logs": {
        "r0003": ["hosts", "environment_hosts", "deployment_operations.host_id", "environment_leases.host_id"],
        "0005": ["audit_log", *(f"deployment_operations.{column}" for column in WHO)],
        "0003": [
            *("operation_steps", "releases.images", "releases.files", "releases.variables", "releases.reason"),
            "environment_leases.runner",
        ],
        "0002": [
            *("archives", "cross_store_intents", "cross_store_version", "dead_letters", "environment_leases"),
            *("releases", "spool_positions"),
        ],
    },
    "monitoring": {
        "0006": [f"{table}.{column}" for table in ("metric_hours", "metric_days") for column in ("p50", "p95", "p99")],
        "0004": ["predictions", "reports", "alerts.explained_by", "alerts.note"],
        "0003": ["archives.deleted_to"],
        "0002": ["heartbeats", "performance_baselines.samples", "service_dependencies.service", "metric_states"],
    },
    "errors": {
        "r0002": ["error_patterns.shipped_version"],
        "0006": [
            "audit_log",
            *(f"{table}.{column}" for table in ("ticket_history", "recovery_controls") for column in WHO),
        ],
        "0005": ["auto_recovery_executions.details", "manual_intervention_tickets.since"],
        "0004": ["deployment_errors.notices", "deployment_errors.notified_at", "deployment_errors.notified_end"],
        "0003": ["evidence_bundles", "manual_intervention_tickets.evidence"],
        "0002": ["recovery_controls", "spool_positions", "error_patterns.priority", "error_patterns.shipped"],
    },
}
"""Tables and columns that revisions added; what triggers and views need stays."""

EARLIER = [(store, f"{at:04}") for store, last in LAST_BEFORE_RELEASE.items() for at in range(1, int(last) + 1)]
EARLIER += [("errors", "r0001"), ("deployment_logs", "r0002")]


def _is_between(store: str, revision: str) -> bool:
    """Whether a revision is neither the first of its store, nor the last before the release, nor of a release."""
    return revision.isdigit() and revision not in ("0001", LAST_BEFORE_RELEASE[store])


def schema(stores: Stores, store: str) -> dict[str, object]:
    with stores.databases[store].read() as connection:
        inspector = sa.inspect(connection)
        made: dict[str, object] = {
            table: (
                {
                    one["name"]: (str(one["type"]), one["nullable"], one["default"])
                    for one in inspector.get_columns(table)
                },
                sorted((one["name"], one["column_names"], one["unique"]) for one in inspector.get_indexes(table)),
                sorted(map(str, inspector.get_unique_constraints(table))),
                sorted(map(str, inspector.get_foreign_keys(table))),
                sorted(map(str, inspector.get_check_constraints(table))),
            )
            for table in inspector.get_table_names()
        }
        views = {view: inspector.get_view_definition(view) for view in inspector.get_view_names()}
        if connection.dialect.name == "sqlite":
            triggers = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        else:
            triggers = (
                "SELECT t.tgname, pg_get_triggerdef(t.oid) || pg_get_functiondef(t.tgfoid) FROM pg_trigger t "
                "WHERE NOT t.tgisinternal AND t.tgrelid::regclass::text = 'deployment_operations'"
            )
        return made | views | dict(connection.execute(sa.text(triggers)).all())


def drop_views_and_triggers(connection: sa.Connection) -> None:
    for view in sa.inspect(connection).get_view_names():
        connection.exec_driver_sql(f"DROP VIEW {view}")
    if connection.dialect.name == "sqlite":
        triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        for trigger in connection.exec_driver_sql(triggers).scalars().all():
            connection.exec_driver_sql(f"DROP TRIGGER {trigger}")


def make_earlier(stores: Stores, store: str, revision: str) -> None:
    """Take away what later revisions added, and views and triggers that refer to it."""
    with stores.databases[store].write() as connection:
        if revision < LAST_BEFORE_RELEASE[store]:
            drop_views_and_triggers(connection)
        for added, things in ADDED[store].items():
            for thing in things if added > revision else ():
                table, _, column = thing.partition(".")
                if column:
                    connection.exec_driver_sql(f"ALTER TABLE {table} DROP COLUMN {column}")
                else:
                    connection.exec_driver_sql(f"DROP TABLE {table}")
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")


@pytest.mark.parametrize(
    ("store", "revision"),
    [pytest.param(*one, marks=pytest.mark.campaign) if _is_between(*one) else one for one in EARLIER],
)
def test_a_store_from_before_the_first_release_gets_the_schema_of_a_new_one(
    stores: Stores, settings: Settings, store, revision
) -> None:
    stores.operations.begin(OPERATION)
    stores.operations.finish(OPERATION.deployment_id, OperationStatus.SUCCESS, NOON + MINUTE)
    stores.errors.record(ERROR)
    stores.tickets.open(TICKET)
    stores.metrics.add([Metric(environment="prod", service="bot", name="cpu_usage", value=5, sampled_at=NOON)])
    new = schema(stores, store)
    make_earlier(stores, store, revision)
    with Stores.open(settings) as upgraded:
        assert schema(upgraded, store) == new
        with upgraded.databases[store].read() as connection:
            assert revision_of(connection) == HEADS[store]
        assert [one.deployment_id for one in upgraded.operations.history()] == [OPERATION.deployment_id]
        assert [one.ticket_id for one in upgraded.tickets.find()] == [TICKET.ticket_id]
        assert series(upgraded, "prod", "bot", "cpu_usage", NOON) == [(NOON, 5)]
        upgraded.operations.begin(replace(OPERATION, deployment_id="prod-2", status=OperationStatus.FAILED))
        assert upgraded.databases[store].faults() == []


def test_counts_of_operations_leave_with_the_upgrade_and_the_operations_stay(
    stores: Stores, settings: Settings
) -> None:
    stores.operations.begin(OPERATION)
    new = schema(stores, "deployment_logs")
    with stores.databases["deployment_logs"].write() as connection:
        connection.exec_driver_sql("CREATE TABLE operation_days (day TEXT PRIMARY KEY, total INTEGER)")
        computed = "TEXT" if connection.dialect.name == "postgresql" else "TEXT AS (substr(start_time, 1, 10))"
        connection.exec_driver_sql(f"ALTER TABLE deployment_operations ADD COLUMN day {computed}")
        connection.exec_driver_sql("CREATE INDEX idx_deployment_operations_day ON deployment_operations (day)")
        for statement in COUNTING[connection.dialect.name]:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'r0003'")
    with Stores.open(settings) as upgraded:
        assert schema(upgraded, "deployment_logs") == new
        assert upgraded.operations.finish("prod-1", OperationStatus.SUCCESS, NOON + MINUTE)


COUNTING = {
    "sqlite": [
        (
            "CREATE TRIGGER operation_days_update AFTER UPDATE OF status ON deployment_operations "
            "BEGIN INSERT INTO operation_days (day, total) VALUES (NEW.day, 1); END"
        )
    ],
    "postgresql": [
        (
            "CREATE FUNCTION count_operation() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN INSERT INTO operation_days (day, total) VALUES (NEW.day, 1); RETURN NULL; END$$"
        ),
        (
            "CREATE TRIGGER operation_days AFTER INSERT OR UPDATE ON deployment_operations "
            "FOR EACH ROW EXECUTE FUNCTION count_operation()"
        ),
    ],
}


def test_an_upgrade_that_fails_leaves_the_store_as_it_was(stores: Stores, settings: Settings) -> None:
    make_earlier(stores, "errors", "0002")
    with stores.databases["errors"].write() as connection:
        connection.exec_driver_sql("CREATE VIEW evidence_bundles AS SELECT 1 AS id")
    before = schema(stores, "errors")
    with pytest.raises(StoreError):
        Stores.open(settings)
    assert schema(stores, "errors") == before
    with stores.databases["errors"].read() as connection:
        assert revision_of(connection) == "0002"
