"""Row-level security of stores in PostgreSQL: an enrolled host writes what is its own, and reads everything.

Its own are the rows of environments that belong to it or to no host, and what it keeps about itself. The owner of the
stores, and who is a member of the owner, is not restricted. The reasons are in docs/adr/0075-row-level-security.md.
"""

# ruff: noqa: S608 - the statements are made of names of ours

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from adapters.stores.postgresql import LOCKS, OPENING_LOCK
from core.storage.incidents import OWN_SYSTEM
from models.enrolment import USER_PREFIX
from models.hosts import SILENT_AFTER, SKEW_ALERTS_OVER

_BINDINGS, _HOSTS, _ROLES = (f"deployment_logs.{name}" for name in ("environment_hosts", "hosts", "host_roles"))

_SELF = f"(SELECT r.host_id FROM {_ROLES} r WHERE r.role = session_user::text)"
"""The id of the host whose role this is."""

_GRACE_SECONDS = 5
"""Between a host's look at the clock and the trigger's."""


def may_write(environment: str) -> str:
    """SQL that is true where an environment belongs to the host that asks, or to none."""
    return (
        f"NOT EXISTS (SELECT 1 FROM {_BINDINGS} b WHERE b.environment = {environment} "
        f"AND b.host_id IS DISTINCT FROM {_SELF})"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRule:
    """Which rows of a table a host may insert, change and delete, as SQL; None where it may not at all."""

    insert: str | None = None
    update: str | None = None
    delete: str | None = None
    check: str | None = None
    """What a changed row must be; as `update` by default."""
    columns: tuple[str, ...] = ()
    """The only columns that may be changed; all by default."""
    owned: bool = False
    """Each row notes the role that wrote it, in a column of its own."""

    @property
    def rights(self) -> str:
        """The table's privileges."""
        rights = ["SELECT"]
        rights += [f"UPDATE ({', '.join(self.columns)})"] if self.columns else []
        rights += ["DELETE"] if self.delete else []
        return ", ".join(rights)

    @property
    def rights_but_for_numbers(self) -> str:
        """The privileges on the columns that no sequence numbers: who chose its numbers could take those of others."""
        rights = ["INSERT (%1$s)"] if self.insert else []
        rights += ["UPDATE (%1$s)"] if self.update and not self.columns else []
        return ", ".join(rights)


def _whole(condition: str) -> TableRule:
    return TableRule(insert=condition, update=condition, delete=condition)


_BY_ENVIRONMENT = _whole(may_write("{table}.environment"))
_OWN = "written_by = session_user::text"
# Of no host are rows from before there was the column, and those of a role that a host had earlier.
_OWN_OR_FREE = (
    f"({_OWN} OR written_by IS NULL OR (written_by LIKE '{USER_PREFIX}%' "
    f"AND NOT EXISTS (SELECT 1 FROM {_ROLES} r WHERE r.role = {{table}}.written_by)))"
)
_OWNED = TableRule(insert=_OWN, update=_OWN_OR_FREE, delete=_OWN_OR_FREE, check=_OWN_OR_FREE, owned=True)
_ADDED = TableRule(insert=_OWN, owned=True)
_READ = TableRule()
_OF_DEPLOYMENT = _whole(
    "EXISTS (SELECT 1 FROM deployment_logs.deployment_operations o WHERE o.deployment_id = {table}.deployment_id "
    f"AND {may_write('o.environment')})"
)
_OF_SERIES = _whole(
    f"EXISTS (SELECT 1 FROM monitoring.metric_series o WHERE o.id = {{table}}.series AND {may_write('o.environment')})"
)
_OF_ERROR = _whole(
    "EXISTS (SELECT 1 FROM errors.deployment_errors o WHERE o.error_id = {table}.error_id AND "
    f"{may_write('o.environment')})"
)
_OF_SERVICE = _whole(
    f"{may_write('{table}.environment')} AND {may_write('split_part({table}.service_name, $$/$$, 1)')}"
)
_TAKES = (
    f"(host_id = {_SELF} OR NOT EXISTS (SELECT 1 FROM {_HOSTS} h WHERE h.host_id = {{table}}.host_id "
    "AND h.dismissed_at IS NULL AND h.last_contact > (clock_timestamp() AT TIME ZONE 'UTC') "
    f"- interval '{SILENT_AFTER.total_seconds():.0f} seconds'))"
)

RULES: dict[str, dict[str, TableRule]] = {
    "deployment_logs": {
        "deployment_operations": _BY_ENVIRONMENT,
        "service_state_changes": _OF_DEPLOYMENT,
        "environment_validations": _OF_DEPLOYMENT,
        "operation_steps": _OF_DEPLOYMENT,
        "releases": _BY_ENVIRONMENT,
        "snapshots": _BY_ENVIRONMENT,
        "scheduled_runs": _BY_ENVIRONMENT,
        "environment_leases": _BY_ENVIRONMENT,
        # A trigger says what of another host's row may change: that it is silent was noticed.
        "hosts": TableRule(insert=f"host_id = {_SELF}", update="true"),
        "environment_hosts": TableRule(
            insert=f"host_id = {_SELF} AND environment <> '{OWN_SYSTEM}'",
            update=_TAKES,
            check=f"host_id = {_SELF}",
            columns=("host_id", "since"),
            delete=f"host_id = {_SELF}",
        ),
        "cross_store_intents": _READ,
        "dead_letters": _ADDED,
        "archives": _READ,
        "audit_log": _ADDED,
        "spool_positions": _OWNED,
        "cross_store_version": _READ,
        "host_roles": _READ,
        "alembic_version": _READ,
    },
    "monitoring": {
        "deployment_health_history": _BY_ENVIRONMENT,
        "service_dependencies": _OF_SERVICE,
        "performance_baselines": _OF_SERVICE,
        "metric_series": _BY_ENVIRONMENT,
        "metric_samples": _OF_SERIES,
        "metric_hours": _OF_SERIES,
        "metric_days": _OF_SERIES,
        "metric_states": _BY_ENVIRONMENT,
        "alerts": _BY_ENVIRONMENT,
        "predictions": _BY_ENVIRONMENT,
        "reports": _BY_ENVIRONMENT,
        "service_health_scores": _BY_ENVIRONMENT,
        "probe_results": _BY_ENVIRONMENT,
        "heartbeats": _whole(may_write("substr({table}.name, strpos({table}.name, $$/$$) + 1)")),
        "archives": _READ,
        "dead_letters": _ADDED,
        "spool_positions": _OWNED,
        "cross_store_version": _READ,
        "alembic_version": _READ,
    },
    "errors": {
        "error_patterns": TableRule(update="true", columns=("match_count", "last_matched")),
        "deployment_errors": _BY_ENVIRONMENT,
        "error_impact_analysis": _OF_ERROR,
        "auto_recovery_executions": _OF_ERROR,
        "manual_intervention_tickets": _BY_ENVIRONMENT,
        "ticket_history": _whole(
            "EXISTS (SELECT 1 FROM errors.manual_intervention_tickets o WHERE o.ticket_id = {table}.ticket_id "
            f"AND {may_write('o.environment')})"
        ),
        "evidence_bundles": _BY_ENVIRONMENT,
        # An empty environment means all of them.
        "recovery_controls": _whole(f"{{table}}.environment <> '' AND {may_write('{table}.environment')}"),
        "archives": _READ,
        "dead_letters": _ADDED,
        "audit_log": _ADDED,
        "spool_positions": _OWNED,
        "cross_store_version": _READ,
        "alembic_version": _READ,
    },
}
"""By store and table."""


def group_of(database: str) -> str:
    """The role that all hosts of a database are members of; it cannot log in."""
    return f"{database[:50]}_hosts"


def restrict_hosts(connection: psycopg.Connection[Any]) -> None:
    """Let members of the database's group write only what `RULES` allow, unless that is so already.

    The connection is of the stores' owner, and commits each statement; the stores are at this program's revision.

    Raises:
        psycopg.Error: The owner may not do it, or the server is away.
    """
    row = connection.execute("SELECT current_database()").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    group = group_of(row[0])
    statements = list(_statements())
    mark = hashlib.sha256("\n".join([group, *statements]).encode()).hexdigest()
    with connection.transaction():
        # Two servers that start at once, and one that makes the schemas: the same lock.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [OPENING_LOCK])
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [group]).fetchone() is None:
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(group)))
        if _mark(connection) == mark:
            return
        # No writer is in a transaction then: it could hold one table and wait for another.
        for lock in LOCKS.values():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [lock])
        for statement in statements:
            connection.execute(statement.replace("ROAS_GROUP", f'"{group}"').encode())
        connection.execute(f"COMMENT ON TABLE {_ROLES} IS '{mark}'".encode())


def _mark(connection: psycopg.Connection[Any]) -> str | None:
    row = connection.execute("SELECT obj_description(to_regclass(%s), 'pg_class')", [_ROLES]).fetchone()
    return None if row is None else row[0]


def _statements() -> Iterator[str]:
    yield f"CREATE TABLE IF NOT EXISTS {_ROLES} (host_id text PRIMARY KEY, role text NOT NULL UNIQUE)"
    for store, rules in RULES.items():
        yield f"REVOKE ALL ON ALL TABLES IN SCHEMA {store} FROM ROAS_GROUP"
        yield f"GRANT USAGE ON SCHEMA {store} TO ROAS_GROUP"
        yield f"GRANT SELECT ON ALL TABLES IN SCHEMA {store} TO ROAS_GROUP"
        yield f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {store} TO ROAS_GROUP"
        for name, rule in rules.items():
            yield from _statements_of_table(f"{store}.{name}", name, rule)
    yield from _TRIGGERS
    for store in ("deployment_logs", "errors"):
        yield f"DROP TRIGGER IF EXISTS audit_log_chain ON {store}.audit_log"
        yield (
            f"CREATE TRIGGER audit_log_chain BEFORE INSERT ON {store}.audit_log FOR EACH ROW "
            "EXECUTE FUNCTION deployment_logs.refuse_broken_chain()"
        )


def _statements_of_table(table: str, name: str, rule: TableRule) -> Iterator[str]:
    if rule.owned:
        # Without a default at first: rows that are there have no writer.
        yield f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS written_by text"
        yield f"ALTER TABLE {table} ALTER COLUMN written_by SET DEFAULT session_user::text"
    yield f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
    for policy in ("hosts_read", "hosts_insert", "hosts_update", "hosts_delete"):
        yield f"DROP POLICY IF EXISTS {policy} ON {table}"
    yield f"CREATE POLICY hosts_read ON {table} FOR SELECT USING (true)"
    if rule.insert:
        yield f"CREATE POLICY hosts_insert ON {table} FOR INSERT WITH CHECK ({_is_in(rule.insert, name)})"
    if rule.update:
        using, check = _is_in(rule.update, name), _is_in(rule.check or rule.update, name)
        yield f"CREATE POLICY hosts_update ON {table} FOR UPDATE USING ({using}) WITH CHECK ({check})"
    if rule.delete:
        yield f"CREATE POLICY hosts_delete ON {table} FOR DELETE USING ({_is_in(rule.delete, name)})"
    yield f"GRANT {rule.rights} ON {table} TO ROAS_GROUP"
    if rule.rights_but_for_numbers:
        yield f"""
DO $body$ BEGIN
    EXECUTE (SELECT format('GRANT {rule.rights_but_for_numbers} ON {table} TO ROAS_GROUP',
            string_agg(quote_ident(attname), ', '))
        FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped
            AND pg_get_serial_sequence('{table}', attname) IS NULL);
END $body$
"""


def _is_in(condition: str, table: str) -> str:
    return condition.replace("{table}", table)


# A host's session may make temporary tables, which a name without its schema means first unless that is said.
_FUNCTION = "RETURNS trigger LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp AS"
_NO_HOST = "pg_has_role(session_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER')"

_TRIGGERS = (
    f"""
CREATE OR REPLACE FUNCTION deployment_logs.refuse_other_hosts() {_FUNCTION} $body$
DECLARE silent boolean; skewed boolean;
BEGIN
    IF {_NO_HOST} OR (OLD.host_id = {_SELF} AND NEW.host_id = OLD.host_id) THEN
        RETURN NEW;
    END IF;
    silent := (clock_timestamp() AT TIME ZONE 'UTC') - OLD.last_contact
        >= make_interval(secs => {SILENT_AFTER.total_seconds():.0f}
            + CASE WHEN NEW.silent_since IS NULL THEN {_GRACE_SECONDS} ELSE 0 END);
    skewed := abs(OLD.clock_skew_seconds) > {SKEW_ALERTS_OVER.total_seconds():.0f};
    IF to_jsonb(NEW) - 'silent_since' - 'skewed_since' <> to_jsonb(OLD) - 'silent_since' - 'skewed_since'
        OR (NEW.silent_since IS DISTINCT FROM OLD.silent_since
            AND NEW.silent_since IS DISTINCT FROM CASE WHEN silent THEN OLD.last_contact END)
        OR (NEW.skewed_since IS DISTINCT FROM OLD.skewed_since AND (NEW.skewed_since IS NOT NULL) <> skewed)
    THEN
        RAISE EXCEPTION 'host % may not change the record of host %', session_user, OLD.host_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $body$
""",
    "DROP TRIGGER IF EXISTS hosts_of_others ON deployment_logs.hosts",
    """
CREATE TRIGGER hosts_of_others BEFORE UPDATE ON deployment_logs.hosts
FOR EACH ROW EXECUTE FUNCTION deployment_logs.refuse_other_hosts()
""",
    f"""
CREATE OR REPLACE FUNCTION deployment_logs.refuse_broken_chain() {_FUNCTION} $body$
DECLARE last record;
BEGIN
    IF {_NO_HOST} THEN
        RETURN NEW;
    END IF;
    EXECUTE format('SELECT seq, hash FROM %I.audit_log ORDER BY seq DESC LIMIT 1', TG_TABLE_SCHEMA) INTO last;
    IF NEW.seq IS DISTINCT FROM last.seq + 1 OR NEW.previous_hash IS DISTINCT FROM last.hash THEN
        RAISE EXCEPTION 'the entry does not follow the last one of the audit log'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $body$
""",
)
