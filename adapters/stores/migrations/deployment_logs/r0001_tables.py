"""Make the tables of deployment_logs.db, and triggers that count the operations of each day.

Revision ID: r0001
"""

import sqlalchemy as sa
from alembic import op

from adapters.stores.audit import begin_log
from adapters.stores.migrate import add_missing
from models.tables.deployment_logs import DeploymentLogsRow

revision = "r0001"
down_revision = None


def upgrade() -> None:
    """Make what the store lacks, and the triggers."""
    connection = op.get_bind()
    postgresql = connection.dialect.name == "postgresql"
    made = add_missing(connection, _without_computed() if postgresql else DeploymentLogsRow.metadata)
    for name in ("operation_day_and_ok", "operation_days", "operation_days_again") if postgresql else _TRIGGERS_SQLITE:
        op.execute(f"DROP TRIGGER IF EXISTS {name}{' ON deployment_operations' if postgresql else ''}")
    if postgresql:
        op.execute(_FILL_DAY_AND_OK)
    if "cross_store_version" in made:
        op.execute("INSERT INTO cross_store_version (id, seq) VALUES (1, 0)")
    if "operation_days" in made:
        op.execute(_DAYS_FROM_ROWS)
    for statement in _TRIGGERS_POSTGRESQL if postgresql else _TRIGGERS_SQLITE.values():
        op.execute(statement)
    if "audit_log" in made:
        begin_log(connection, "deployment_logs")


def _without_computed() -> sa.MetaData:
    """PostgreSQL has no virtual columns before version 18 and calls no text of a time immutable: triggers fill them."""
    tables = sa.MetaData()
    for table in DeploymentLogsRow.metadata.sorted_tables:
        for column in table.to_metadata(tables).columns:
            if column.computed is not None:
                column.computed = column.server_default = column.server_onupdate = None
    return tables


_DAYS_FROM_ROWS = """
INSERT INTO operation_days (day, environment, operation_type, total, successes, timed, duration_ms)
SELECT day, environment, operation_type, count(*), sum(ok), count(duration_ms), coalesce(sum(duration_ms), 0)
FROM deployment_operations WHERE ok IS NOT NULL AND day IS NOT NULL
GROUP BY day, environment, operation_type
"""

_FILL_DAY_AND_OK = """
UPDATE deployment_operations SET day = to_char(start_time, 'YYYY-MM-DD'),
    ok = CASE status WHEN 'success' THEN 1 WHEN 'failed' THEN 0 END
WHERE day IS NULL
"""

_COUNT = """
INSERT INTO operation_days (day, environment, operation_type, total, successes, timed, duration_ms)
VALUES ({day}, NEW.environment, NEW.operation_type, 1, CASE NEW.status WHEN 'success' THEN 1 ELSE 0 END,
    CASE WHEN NEW.duration_ms IS NULL THEN 0 ELSE 1 END, coalesce(NEW.duration_ms, 0))
ON CONFLICT (day, environment, operation_type) DO UPDATE SET
    total = operation_days.total + 1,
    successes = operation_days.successes + excluded.successes,
    timed = operation_days.timed + excluded.timed,
    duration_ms = operation_days.duration_ms + excluded.duration_ms;
"""

# A resumed operation has not ended after all: it is counted once, when it ends.
_UNCOUNT = """
UPDATE operation_days SET
    total = total - 1,
    successes = successes - CASE OLD.status WHEN 'success' THEN 1 ELSE 0 END,
    timed = timed - CASE WHEN OLD.duration_ms IS NULL THEN 0 ELSE 1 END,
    duration_ms = duration_ms - coalesce(OLD.duration_ms, 0)
WHERE day = {day} AND environment = OLD.environment AND operation_type = OLD.operation_type;
"""

_TRIGGERS_SQLITE = {
    "operation_days_insert": f"""
CREATE TRIGGER operation_days_insert AFTER INSERT ON deployment_operations
WHEN NEW.status IN ('success', 'failed')
BEGIN {_COUNT.format(day="substr(NEW.start_time, 1, 10)")} END
""",
    "operation_days_update": f"""
CREATE TRIGGER operation_days_update AFTER UPDATE OF status ON deployment_operations
WHEN NEW.status IN ('success', 'failed') AND OLD.status NOT IN ('success', 'failed')
BEGIN {_COUNT.format(day="substr(NEW.start_time, 1, 10)")} END
""",
    "operation_days_again": f"""
CREATE TRIGGER operation_days_again AFTER UPDATE OF status ON deployment_operations
WHEN OLD.status IN ('success', 'failed') AND NEW.status NOT IN ('success', 'failed')
BEGIN {_UNCOUNT.format(day="substr(OLD.start_time, 1, 10)")} END
""",
}

# The days count an operation after it is inserted: one that conflicts with another never gets there.
_TRIGGERS_POSTGRESQL = (
    """
CREATE OR REPLACE FUNCTION fill_day_and_ok() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    NEW.day := to_char(NEW.start_time, 'YYYY-MM-DD');
    NEW.ok := CASE NEW.status WHEN 'success' THEN 1 WHEN 'failed' THEN 0 END;
    RETURN NEW;
END $body$
""",
    """
CREATE TRIGGER operation_day_and_ok BEFORE INSERT OR UPDATE ON deployment_operations
FOR EACH ROW EXECUTE FUNCTION fill_day_and_ok()
""",
    f"""
CREATE OR REPLACE FUNCTION count_operation() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF NEW.ok IS NOT NULL AND (TG_OP = 'INSERT' OR OLD.ok IS NULL) THEN
        {_COUNT.format(day="NEW.day")}
    END IF;
    RETURN NULL;
END $body$
""",
    """
CREATE TRIGGER operation_days AFTER INSERT OR UPDATE ON deployment_operations
FOR EACH ROW EXECUTE FUNCTION count_operation()
""",
    f"""
CREATE OR REPLACE FUNCTION uncount_operation() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF OLD.status IN ('success', 'failed') AND NEW.status NOT IN ('success', 'failed') THEN
        {_UNCOUNT.format(day="to_char(OLD.start_time, 'YYYY-MM-DD')")}
    END IF;
    RETURN NULL;
END $body$
""",
    """
CREATE TRIGGER operation_days_again AFTER UPDATE ON deployment_operations
FOR EACH ROW EXECUTE FUNCTION uncount_operation()
""",
)
