"""Finished steps, the process behind a lease, all it takes to apply a release again.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make what this revision adds."""
    op.create_table(
        "operation_steps",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("finished_at", sa.DateTime(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment_operations.deployment_id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("deployment_id", "step", "service"),
        sqlite_autoincrement=True,
    )
    for column in ("images", "files", "variables", "reason"):
        op.add_column("releases", sa.Column(column, sa.Text(), nullable=True))
    op.add_column("environment_leases", sa.Column("runner", sa.Text(), nullable=True))
    for statement in _UNCOUNT_POSTGRESQL if op.get_bind().dialect.name == "postgresql" else _UNCOUNT_SQLITE:
        op.execute(statement)


# An operation that is taken up again has not ended after all, so it is counted when it ends, and once.
_UNCOUNT = """
UPDATE operation_days SET
    total = total - 1,
    successes = successes - CASE OLD.status WHEN 'success' THEN 1 ELSE 0 END,
    timed = timed - CASE WHEN OLD.duration_ms IS NULL THEN 0 ELSE 1 END,
    duration_ms = duration_ms - coalesce(OLD.duration_ms, 0)
WHERE day = {day} AND environment = OLD.environment AND operation_type = OLD.operation_type;
"""

_UNCOUNT_SQLITE = (
    f"""
CREATE TRIGGER operation_days_again AFTER UPDATE OF status ON deployment_operations
WHEN OLD.status IN ('success', 'failed') AND NEW.status NOT IN ('success', 'failed')
BEGIN {_UNCOUNT.format(day="substr(OLD.start_time, 1, 10)")} END
""",
)

_UNCOUNT_POSTGRESQL = (
    f"""
CREATE FUNCTION uncount_operation() RETURNS trigger LANGUAGE plpgsql AS $body$
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
