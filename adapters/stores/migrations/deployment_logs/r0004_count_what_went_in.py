"""In PostgreSQL the days count an operation once it is in: one that conflicts with another never gets there.

In SQLite they always did.

Revision ID: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Change what this revision changes."""
    if op.get_bind().dialect.name == "postgresql":
        for statement in _POSTGRESQL:
            op.execute(statement)


_POSTGRESQL = (
    "DROP TRIGGER operation_days ON deployment_operations",
    """
CREATE FUNCTION fill_day_and_ok() RETURNS trigger LANGUAGE plpgsql AS $body$
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
    """
CREATE OR REPLACE FUNCTION count_operation() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF NEW.ok IS NOT NULL AND (TG_OP = 'INSERT' OR OLD.ok IS NULL) THEN
        INSERT INTO operation_days (day, environment, operation_type, total, successes, timed, duration_ms)
        VALUES (NEW.day, NEW.environment, NEW.operation_type, 1, NEW.ok,
            CASE WHEN NEW.duration_ms IS NULL THEN 0 ELSE 1 END, coalesce(NEW.duration_ms, 0))
        ON CONFLICT (day, environment, operation_type) DO UPDATE SET
            total = operation_days.total + 1,
            successes = operation_days.successes + excluded.successes,
            timed = operation_days.timed + excluded.timed,
            duration_ms = operation_days.duration_ms + excluded.duration_ms;
    END IF;
    RETURN NULL;
END $body$
""",
    """
CREATE TRIGGER operation_days AFTER INSERT OR UPDATE ON deployment_operations
FOR EACH ROW EXECUTE FUNCTION count_operation()
""",
)
