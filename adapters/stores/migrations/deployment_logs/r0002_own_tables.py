"""What the program itself needs.

Revision ID: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make what this revision adds."""
    op.create_table(
        "archives",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("first", sa.Text(), nullable=False),
        sa.Column("last", sa.Text(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("archived_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("file"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "cross_store_intents",
        sa.Column("seq", BIG, autoincrement=False, nullable=False),
        sa.Column("statements", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_table(
        "cross_store_version",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("INSERT INTO cross_store_version (id, seq) VALUES (1, 0)")
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("buried_at", sa.DateTime(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    _add_day_and_ok()
    op.create_index("idx_deployment_operations_day", "deployment_operations", ["day", "ok"], unique=False)
    op.create_table(
        "environment_leases",
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("acquired_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("environment"),
    )
    op.create_table(
        "operation_days",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("operation_type", sa.Text(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("successes", sa.Integer(), nullable=False),
        sa.Column("timed", sa.Integer(), nullable=False),
        sa.Column("duration_ms", BIG, nullable=False),
        sa.PrimaryKeyConstraint("day", "environment", "operation_type"),
    )
    op.create_table(
        "releases",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("release_id", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("compose", sa.Text(), nullable=True),
        sa.Column("digests", sa.Text(), nullable=True),
        sa.Column("hashes", sa.Text(), nullable=True),
        sa.Column("proven", sa.Boolean(), server_default=sa.text("FALSE"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("release_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_releases_environment", "releases", ["environment", "created_at"], unique=False)
    op.create_table(
        "spool_positions",
        sa.Column("spool", sa.Text(), nullable=False),
        sa.Column("position", BIG, nullable=False),
        sa.PrimaryKeyConstraint("spool"),
    )
    op.execute(_DAYS_FROM_ROWS)
    for statement in _TRIGGERS_POSTGRESQL if _on_postgresql() else _TRIGGERS_SQLITE:
        op.execute(statement)


def _on_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _add_day_and_ok() -> None:
    if _on_postgresql():
        # PostgreSQL knows no virtual columns and calls no text of a time immutable: a trigger fills them.
        op.add_column("deployment_operations", sa.Column("day", sa.Text()))
        op.add_column("deployment_operations", sa.Column("ok", sa.Integer()))
        op.execute(
            "UPDATE deployment_operations SET day = to_char(start_time, 'YYYY-MM-DD'), "
            "ok = CASE status WHEN 'success' THEN 1 WHEN 'failed' THEN 0 END"
        )
        return
    day = sa.Computed("substr(start_time, 1, 10)", persisted=False)
    ok = sa.Computed("CASE status WHEN 'success' THEN 1 WHEN 'failed' THEN 0 END", persisted=False)
    op.add_column("deployment_operations", sa.Column("day", sa.Text(), day))
    op.add_column("deployment_operations", sa.Column("ok", sa.Integer(), ok))


_DAYS_FROM_ROWS = """
INSERT INTO operation_days (day, environment, operation_type, total, successes, timed, duration_ms)
SELECT day, environment, operation_type, count(*), sum(ok), count(duration_ms), coalesce(sum(duration_ms), 0)
FROM deployment_operations WHERE ok IS NOT NULL AND day IS NOT NULL
GROUP BY day, environment, operation_type
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

_TRIGGERS_SQLITE = (
    f"""
CREATE TRIGGER operation_days_insert AFTER INSERT ON deployment_operations
WHEN NEW.status IN ('success', 'failed')
BEGIN {_COUNT.format(day="substr(NEW.start_time, 1, 10)")} END
""",
    f"""
CREATE TRIGGER operation_days_update AFTER UPDATE OF status ON deployment_operations
WHEN NEW.status IN ('success', 'failed') AND OLD.status NOT IN ('success', 'failed')
BEGIN {_COUNT.format(day="substr(NEW.start_time, 1, 10)")} END
""",
)

_TRIGGERS_POSTGRESQL = (
    f"""
CREATE FUNCTION count_operation() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    NEW.day := to_char(NEW.start_time, 'YYYY-MM-DD');
    NEW.ok := CASE NEW.status WHEN 'success' THEN 1 WHEN 'failed' THEN 0 END;
    IF NEW.ok IS NOT NULL AND (TG_OP = 'INSERT' OR OLD.ok IS NULL) THEN
        {_COUNT.format(day="NEW.day")}
    END IF;
    RETURN NEW;
END $body$
""",
    """
CREATE TRIGGER operation_days BEFORE INSERT OR UPDATE ON deployment_operations
FOR EACH ROW EXECUTE FUNCTION count_operation()
""",
)
