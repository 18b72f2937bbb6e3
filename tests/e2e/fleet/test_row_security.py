"""An enrolled host's role reads the stores of the fleet, and writes nothing of another host, whatever the table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from adapters.server.store_roles import make_role, restrict_roles
from adapters.stores import Stores
from adapters.stores.migrate import STORES
from adapters.stores.row_security import RULES
from adapters.stores.sql import tables_of
from models.failures import RoasError, StoreConstraintError, StoreError
from models.health import Health, HealthReport, ProbeResult
from models.hosts import HostIdentity
from models.metrics import Metric
from models.operations import Operation, OperationStatus, OperationType
from models.settings import Settings
from models.tables.columns import JsonText, UtcDateTime
from tests.support.postgresql_server import PostgresqlForTests, postgresql

pytestmark = pytest.mark.campaign

ALPHA, BETA = HostIdentity(host_id="h-alpha", name="alpha"), HostIdentity(host_id="h-beta", name="beta")
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SHARED = {
    *("deployment_logs.cross_store_intents", "deployment_logs.cross_store_version", "deployment_logs.alembic_version"),
    *("monitoring.cross_store_version", "monitoring.alembic_version"),
    *("errors.cross_store_version", "errors.alembic_version", "errors.error_patterns", "deployment_logs.host_roles"),
    *(f"{store}.archives" for store in STORES),
}
"""Of all hosts: none writes them, but for how often a pattern matched."""

BY_TABLE: dict[str, dict[str, Any]] = {
    "deployment_operations": {"status": "running", "operation_type": "start"},
    "snapshots": {"state": "whole"},
    "scheduled_runs": {"state": "running"},
    "deployment_health_history": {"overall_health": "healthy"},
    "service_dependencies": {"dependency_type": "required", "health_impact": "low", "status": "active"},
    "alerts": {"severity": "info", "state": "open"},
    "predictions": {"outcome": "open"},
    "deployment_errors": {"severity": "low"},
    "error_impact_analysis": {"impact_type": "data_loss", "business_impact": "low"},
    "manual_intervention_tickets": {"state": "open"},
    "evidence_bundles": {"occasion": "failure"},
}
SERIES = {"alpha": 901, "beta": 902}
_numbers = itertools.count(1000)


@dataclass(frozen=True)
class RowFleet:
    """Two hosts with an environment each, whose rows stand in every table."""

    server: PostgresqlForTests
    url: str
    folder: Path

    @property
    def database(self) -> str:
        return str(sa.make_url(self.url).database)

    def settings(self, role: str | None = None) -> Settings:
        url = self.url if role is None else self.url.replace("roas@", f"{role}@")
        return Settings(data_dir=self.folder / (role or "plane"), stores_url=url)

    def stores(self, role: str | None = None) -> Stores:
        return Stores.open(self.settings(role))

    @contextmanager
    def connected(self, role: str, store: str) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self.server.url(self.database, role), autocommit=True) as connection:
            connection.execute(f"SET search_path TO {store}".encode())
            yield connection


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlForTests]:
    with postgresql() as started:
        yield started


@pytest.fixture
def fleet(server: PostgresqlForTests, tmp_path: Path) -> Iterator[RowFleet]:
    with server.database() as url:
        made = RowFleet(server, url, tmp_path)
        for host in (ALPHA, BETA):
            role = f"host-{host.name}"
            make_role(made.settings(), role, host.host_id)
            with made.stores(role) as stores:
                stores.hosts.report(host, version="1", engine="", backlog=0)
                stores.hosts.bind(host.name, host)
        yield made


def values_of(name: str, target: sa.Table, environment: str) -> dict[str, Any]:
    """A row of an environment that the table takes; its keys are new."""
    row: dict[str, Any] = {}
    for column in target.columns:
        if column.primary_key and column.name == "id" and column.autoincrement is True:
            continue
        number = next(_numbers)
        if isinstance(column.type, UtcDateTime):
            row[column.name] = NOW + timedelta(seconds=number)
        elif isinstance(column.type, JsonText):
            row[column.name] = None
        elif isinstance(column.type, sa.Boolean):
            row[column.name] = False
        elif isinstance(column.type, sa.LargeBinary):
            row[column.name] = b"x"
        elif isinstance(column.type, sa.Text):
            row[column.name] = f"{column.name}-{number}"
        else:
            row[column.name] = number
    row |= {key: environment for key in ("environment",) if key in row}
    if name in ("service_dependencies", "performance_baselines"):
        row["service_name"] = f"{environment}/web-{next(_numbers)}"
    if name == "heartbeats":
        row["name"] = f"beat{next(_numbers)}/{environment}"
    for key, owner in (("deployment_id", f"d-{environment}"), ("error_id", f"e-{environment}")):
        if key in row and name not in ("deployment_operations", "deployment_errors"):
            row[key] = owner
    if name == "ticket_history":
        row["ticket_id"] = f"t-{environment}"
    if "series" in row:
        row["series"] = SERIES[environment]
    return row | BY_TABLE.get(name, {})


def seed(fleet: RowFleet) -> None:
    """The rows that others refer to, and one row of each host in every table that goes by the environment."""
    with fleet.stores() as stores:
        for host in ("alpha", "beta"):
            keys = {
                "deployment_operations": {"deployment_id": f"d-{host}"},
                "deployment_errors": {"error_id": f"e-{host}"},
                "manual_intervention_tickets": {"ticket_id": f"t-{host}"},
                "metric_series": {"id": SERIES[host]},
            }
            for store in STORES:
                with stores.databases[store].write() as connection:
                    for target in tables_of(store).values():
                        if by_environment(store, target):
                            row = values_of(target.name, target, host) | keys.get(target.name, {})
                            connection.execute(sa.insert(plain_table(target)).values(row))


def by_environment(store: str, target: sa.Table) -> bool:
    others = ("hosts", "environment_hosts", "audit_log", "dead_letters", "spool_positions")
    return f"{store}.{target.name}" not in SHARED and target.name not in others


def plain_table(target: sa.Table) -> sa.TableClause:
    return sa.table(target.name, *(sa.column(one.name, one.type) for one in target.columns))


def statements(store: str, target: sa.Table, host: str) -> dict[str, tuple[str, list[Any]]]:
    """What would insert, change and delete a row of a host in a table."""
    where, key = where_of(target.name, host)
    row = values_of(target.name, target, host)
    column = next(one.name for one in target.columns if not one.primary_key)
    listed = ", ".join(f'"{name}"' for name in row)
    return {
        "INSERT": (
            f"INSERT INTO {target.name} ({listed}) VALUES ({', '.join(['%s'] * len(row))})",
            [one.replace(tzinfo=None) if isinstance(one, datetime) else one for one in row.values()],
        ),
        "UPDATE": (f'UPDATE {target.name} SET "{column}" = "{column}" WHERE {where}', [key]),
        "DELETE": (f"DELETE FROM {target.name} WHERE {where}", [key]),
    }


def where_of(name: str, host: str) -> tuple[str, Any]:
    if name in ("metric_samples", "metric_hours", "metric_days"):
        return "series = %s", SERIES[host]
    if name == "heartbeats":
        return "name LIKE '%%/' || %s", host
    if name in ("service_state_changes", "environment_validations", "operation_steps"):
        return "deployment_id = %s", f"d-{host}"
    if name in ("error_impact_analysis", "auto_recovery_executions"):
        return "error_id = %s", f"e-{host}"
    return ("ticket_id = %s", f"t-{host}") if name == "ticket_history" else ("environment = %s", host)


def refused(run: Callable[[], int]) -> bool:
    """Whether a statement changed nothing, or PostgreSQL refused it for whose role it was."""
    try:
        return run() == 0
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.CheckViolation):
        return True


def test_every_table_has_a_rule(fleet: RowFleet) -> None:
    with psycopg.connect(fleet.url) as connection:
        there = connection.execute(
            "SELECT schemaname || '.' || tablename, rowsecurity FROM pg_tables WHERE schemaname = ANY(%s)",
            [list(STORES)],
        ).fetchall()
    assert {name for name, _ in there} == {f"{store}.{name}" for store, rules in RULES.items() for name in rules}
    assert all(secured for _, secured in there)


def test_a_host_writes_its_own_rows_and_none_of_another_in_every_table(fleet: RowFleet) -> None:
    seed(fleet)
    tried = 0
    for store in STORES:
        for target in tables_of(store).values():
            if not by_environment(store, target):
                continue
            with fleet.connected("host-alpha", store) as alpha, psycopg.connect(fleet.url) as owner:
                owner.execute(f"SET search_path TO {store}".encode())
                where, key = where_of(target.name, "beta")
                count = f"SELECT count(*) FROM {target.name} WHERE {where}".encode()
                before = owner.execute(count, [key]).fetchone()
                owner.rollback()
                for verb, (said, given) in statements(store, target, "beta").items():
                    run = lambda: alpha.execute(said.encode(), given).rowcount  # noqa: B023, E731
                    assert refused(run), f"{verb} of beta's row in {store}.{target.name}"
                    tried += 1
                owner.execute(f"SET search_path TO {store}".encode())
                assert owner.execute(count, [key]).fetchone() == before
                assert before is not None
                assert alpha.execute(count, [key]).fetchone() == before, "every host reads all"
                with alpha.transaction(force_rollback=True):
                    mine = statements(store, target, "alpha")
                    assert alpha.execute(mine["UPDATE"][0].encode(), mine["UPDATE"][1]).rowcount > 0
                    if target.name == "environment_leases":
                        # An environment has one.
                        assert alpha.execute(mine["DELETE"][0].encode(), mine["DELETE"][1]).rowcount == 1
                    assert alpha.execute(mine["INSERT"][0].encode(), mine["INSERT"][1]).rowcount == 1
    assert tried > 60


def test_a_row_cannot_be_given_to_another_host(fleet: RowFleet) -> None:
    seed(fleet)
    with fleet.connected("host-alpha", "errors") as alpha:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            alpha.execute("UPDATE deployment_errors SET environment = 'beta' WHERE environment = 'alpha'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            alpha.execute("UPDATE error_impact_analysis SET error_id = 'e-beta' WHERE error_id = 'e-alpha'")


def test_shared_tables_are_read_and_not_written(fleet: RowFleet) -> None:
    for name in sorted(SHARED):
        store, _, table = name.partition(".")
        with fleet.connected("host-alpha", store) as alpha:
            alpha.execute(f"SELECT * FROM {table}".encode())
            for said in (f"DELETE FROM {table}", f"INSERT INTO {table} DEFAULT VALUES", f"TRUNCATE {table}"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    alpha.execute(said.encode())
    with fleet.connected("host-alpha", "errors") as alpha:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            alpha.execute("UPDATE error_patterns SET enabled = false")
        assert alpha.execute("UPDATE error_patterns SET match_count = 1").rowcount > 0


def test_a_host_cannot_lift_what_restricts_it(fleet: RowFleet) -> None:
    with fleet.connected("host-alpha", "errors") as alpha:
        for said in (
            "SET ROLE roas",
            'SET ROLE "host-beta"',
            "SET SESSION AUTHORIZATION roas",
            "ALTER TABLE deployment_errors DISABLE ROW LEVEL SECURITY",
            "DROP POLICY hosts_insert ON deployment_errors",
            "CREATE TABLE mine (x int)",
            "INSERT INTO deployment_logs.host_roles VALUES ('h-beta', 'host-alpha')",
            "UPDATE deployment_logs.host_roles SET role = 'host-alpha' WHERE host_id = 'h-beta'",
            "CREATE OR REPLACE FUNCTION deployment_logs.refuse_other_hosts() RETURNS trigger AS '' LANGUAGE sql",
        ):
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidFunctionDefinition)):
                alpha.execute(said.encode())


def test_what_the_program_does_as_another_host_is_refused_and_what_it_does_as_its_own_is_not(fleet: RowFleet) -> None:
    with fleet.stores("host-alpha") as stores:
        assert stores.is_restricted
        for environment, works in (("alpha", True), ("of nobody", True), ("beta", False)):
            begun = Operation(
                deployment_id=f"d-{environment}",
                operation_type=OperationType.START,
                environment=environment,
                status=OperationStatus.RUNNING,
                started_at=NOW,
            )
            report = HealthReport(environment=environment, overall=Health.HEALTHY, checked_at=NOW, services=())
            metric = Metric(environment=environment, service="web", name="cpu_usage", value=1.0, sampled_at=NOW)
            for write in (
                lambda: stores.operations.begin(begun),  # noqa: B023
                lambda: stores.health.record(report),  # noqa: B023
                lambda: stores.metrics.add([metric]),  # noqa: B023
                lambda: stores.heartbeats.beat(f"watch/{environment}", NOW),  # noqa: B023
            ):
                if works:
                    write()
                else:
                    with pytest.raises(StoreConstraintError, match="row-level security"):
                        write()
        with pytest.raises(StoreConstraintError, match="host host-alpha may not change the record of host h-beta"):
            stores.hosts.dismiss("h-beta")
        assert {one.name for one in stores.hosts.all()} == {"alpha", "beta"}


def test_a_host_claims_what_is_free_and_takes_what_is_of_a_silent_host_alone(fleet: RowFleet) -> None:
    with fleet.stores("host-alpha") as stores:
        assert stores.hosts.bind("new", ALPHA) == ALPHA.host_id
        assert stores.hosts.bind("beta", ALPHA) == BETA.host_id
        assert stores.hosts.let_go("new", ALPHA)
        with pytest.raises(StoreConstraintError):
            stores.hosts.bind("new", BETA)
        with pytest.raises(StoreConstraintError):
            stores.hosts.bind("roas", ALPHA)
        # Beta is in contact.
        assert not stores.hosts.move("beta", ALPHA, instead_of=BETA.host_id)
        fleet.server.run(
            "UPDATE deployment_logs.hosts SET last_contact = last_contact - interval '2 minutes' "
            "WHERE host_id = 'h-beta'",
            fleet.database,
        )
        assert [(one.host.name, one.kind) for one in stores.hosts.notice()] == [("beta", "silent")]
        assert stores.hosts.move("beta", ALPHA, instead_of=BETA.host_id)
        stores.heartbeats.beat("watch/beta", NOW)
    with fleet.stores("host-beta") as stores:
        with pytest.raises(StoreConstraintError):
            stores.heartbeats.beat("watch/beta", NOW)
        stores.hosts.report(BETA, version="1", engine="", backlog=0)
        assert [one.ended for one in stores.hosts.notice()] == [True]


def test_a_host_says_of_another_only_what_is_true(fleet: RowFleet) -> None:
    with fleet.connected("host-alpha", "deployment_logs") as alpha:
        for change in ("silent_since = now()", "skewed_since = now()", "last_contact = now()", "host_id = 'h-x'"):
            with pytest.raises(psycopg.errors.CheckViolation):
                alpha.execute(f"UPDATE hosts SET {change} WHERE host_id = 'h-beta'".encode())


def test_the_audit_log_is_only_added_to(fleet: RowFleet) -> None:
    with fleet.connected("host-alpha", "deployment_logs") as alpha:
        last = alpha.execute("SELECT seq, hash FROM audit_log ORDER BY seq DESC LIMIT 1").fetchone()
        assert last is not None
        for seq, before in ((last[0] + 1, "made up"), (last[0] + 2, last[1])):
            with pytest.raises(psycopg.errors.CheckViolation):
                alpha.execute(
                    "INSERT INTO audit_log (seq, at, kind, subject, content, previous_hash, hash) "
                    "VALUES (%s, now(), 'bound', 'x', '{}', %s, 'h')",
                    [seq, before],
                )
        for said in ("UPDATE audit_log SET content = ''", "DELETE FROM audit_log"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                alpha.execute(said.encode())


def test_a_row_of_another_host_in_a_batch_is_kept_aside_and_the_rest_goes_in(fleet: RowFleet) -> None:
    with fleet.stores("host-alpha") as stores:
        probe = ProbeResult(service="web", kind="tcp", target="x", ok=True, detail="", checked_at=NOW)
        for name, place in (("alpha", 0), ("beta", 1), ("alpha", 2)):
            stores.writer.put_probes([replace(probe, detail=str(place))], name)
        stores.writer.flush()
    with psycopg.connect(fleet.url) as owner:
        written = owner.execute("SELECT environment FROM monitoring.probe_results").fetchall()
        kept = owner.execute("SELECT target, reason, written_by FROM monitoring.dead_letters").fetchall()
    assert written == [("alpha",), ("alpha",)]
    assert [(target, by) for target, _, by in kept] == [("probe_results", "host-alpha")]
    assert "row-level security" in kept[0][1]


def test_a_role_of_an_earlier_version_is_restricted_and_its_connections_end(fleet: RowFleet) -> None:
    fleet.server.run('CREATE ROLE "host-old" LOGIN', fleet.database)
    fleet.server.run('GRANT roas TO "host-old"', fleet.database)
    fleet.server.run('ALTER ROLE "host-old" SET role TO roas', fleet.database)
    roles = {"host-old": "h-old", "host-alpha": ALPHA.host_id, "host-never-made": "h-never"}
    with psycopg.connect(fleet.server.url(fleet.database, "host-old")) as open_before:
        assert open_before.execute("SELECT current_user").fetchone() == ("roas",)
        restrict_roles(fleet.settings(), roles)
        with pytest.raises(psycopg.OperationalError):
            open_before.execute("SELECT 1")
    restrict_roles(fleet.settings(), roles)
    with fleet.stores("host-old") as stores:
        assert stores.is_restricted
        old = HostIdentity(host_id="h-old", name="old")
        stores.hosts.report(old, version="1", engine="", backlog=0)
        assert stores.hosts.bind("theirs", old) == "h-old"
        with pytest.raises(StoreConstraintError):
            stores.heartbeats.beat("watch/beta", NOW)
    fleet.server.run('DROP OWNED BY "host-old"', fleet.database)
    fleet.server.run('DROP ROLE "host-old"', fleet.database)


def test_the_id_of_another_host_gives_no_access_to_its_rows(fleet: RowFleet) -> None:
    with pytest.raises(RoasError, match="h-beta is enrolled as host-beta already"):
        make_role(fleet.settings(), "host-thief", BETA.host_id)
    with fleet.stores() as stores:
        plane = HostIdentity(host_id="h-plane", name="plane")
        stores.hosts.report(plane, version="1", engine="", backlog=0)
    with pytest.raises(RoasError, match="h-plane is in contact by another credential"):
        make_role(fleet.settings(), "host-thief", "h-plane")


def test_a_host_does_not_upgrade_the_stores(fleet: RowFleet) -> None:
    fleet.server.run("UPDATE errors.alembic_version SET version_num = 'r0001'", fleet.database)
    with pytest.raises(StoreError, match="a host may not upgrade it") as refusal, fleet.stores("host-alpha"):
        pass
    assert "control plane first" in refusal.value.advice
