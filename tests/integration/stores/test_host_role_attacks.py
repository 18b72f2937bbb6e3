"""What one enrolled host's role may try against the records of others, the roles and the database: nothing works."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from adapters.server.store_roles import make_role
from adapters.stores.migrate import STORES
from adapters.stores.sql import tables_of
from tests.e2e.fleet.test_row_security import ALPHA, BETA, RowFleet, by_environment, refused, seed, statements
from tests.support.postgresql_server import PostgresqlForTests

TOKEN = "secret-of-the-others"

OWNS_PG_CLASS = (
    "CREATE TEMP TABLE pg_class AS SELECT c.oid, (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = "
    "session_user) AS relowner FROM pg_catalog.pg_class c"
)
"""What a name without its schema means first is what a session has made for itself."""

BETA_ERROR = "UPDATE errors.deployment_errors SET text = 'gone' WHERE environment = 'beta'"
FORGED = (
    "INSERT INTO deployment_logs.audit_log (seq, at, kind, subject, content, previous_hash, hash) "
    "VALUES (999, now(), 'moved', 'beta', '{}', 'forged', 'forged')"
)


@dataclass(frozen=True)
class Attack:
    """Statements of host alpha, one after the other; what is refused is passed over."""

    said: tuple[str, ...]
    before: str = "SELECT"
    """What the owner does first."""
    wrong: str = "SELECT WHERE false"
    """What the owner finds afterwards if it worked, besides rows of others and the catalogs."""
    read: str = TOKEN
    """What it must not read."""


def attack(*said: str, **more: Any) -> Attack:
    return Attack(said, **more)


ATTACKS = {
    # Who it is.
    "become the owner": attack("SET ROLE roas", BETA_ERROR),
    "become the other host": attack('SET ROLE "host-beta"', BETA_ERROR),
    "become the group": attack(
        "DO $$ BEGIN EXECUTE (SELECT format('SET ROLE %I', r.rolname) FROM pg_roles r JOIN pg_auth_members m ON "
        "m.roleid = r.oid WHERE m.member = session_user::regrole); END $$",
        BETA_ERROR,
        "CREATE TABLE errors.mine (x int)",
    ),
    "be the owner's session": attack("SET SESSION AUTHORIZATION roas", BETA_ERROR),
    "be the other host's session": attack('SET SESSION AUTHORIZATION "host-beta"', BETA_ERROR),
    "switch off row security": attack("SET row_security = off", BETA_ERROR),
    "be a replica": attack("SET session_replication_role = replica", BETA_ERROR, FORGED),
    "set variables of the session": attack(
        "SET roas.host_id = 'h-beta'", "SET application_name = 'host-beta'", "SET search_path = pg_temp", BETA_ERROR
    ),
    "become a superuser": attack('ALTER ROLE "host-alpha" SUPERUSER', 'ALTER ROLE "host-alpha" BYPASSRLS', BETA_ERROR),
    "make roles": attack('ALTER ROLE "host-alpha" CREATEROLE', "CREATE ROLE mine LOGIN SUPERUSER"),
    "take the other's name": attack(
        'ALTER ROLE "host-beta" RENAME TO "host-was"', 'ALTER ROLE "host-alpha" RENAME TO "host-beta"'
    ),
    "set the other's password": attack("ALTER ROLE \"host-beta\" PASSWORD 'mine'", "ALTER ROLE roas PASSWORD 'mine'"),
    "set what others begin with": attack(
        'ALTER ROLE "host-beta" SET search_path TO pg_temp',
        "ALTER ROLE ALL SET row_security = off",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path TO pg_temp', current_database()); END $$",
    ),
    "grant itself the owner": attack('GRANT roas TO "host-alpha"', 'GRANT pg_write_all_data TO "host-alpha"'),
    "grant itself the other host": attack('GRANT "host-beta" TO "host-alpha"'),
    "grant rights": attack(
        'GRANT ALL ON ALL TABLES IN SCHEMA errors TO "host-alpha"', "GRANT ALL ON SCHEMA errors TO PUBLIC"
    ),
    "drop what another owns": attack(
        'DROP OWNED BY "host-beta"', "DROP OWNED BY roas", "REASSIGN OWNED BY roas TO PUBLIC"
    ),
    # What restricts it.
    "disable row security of a table": attack("ALTER TABLE errors.deployment_errors DISABLE ROW LEVEL SECURITY"),
    "drop a policy": attack("DROP POLICY hosts_update ON errors.deployment_errors"),
    "add a policy": attack("CREATE POLICY mine ON errors.deployment_errors USING (true) WITH CHECK (true)"),
    "disable a trigger": attack("ALTER TABLE deployment_logs.hosts DISABLE TRIGGER ALL"),
    "drop a trigger": attack("DROP TRIGGER hosts_of_others ON deployment_logs.hosts"),
    "replace a trigger's function": attack(
        "CREATE OR REPLACE FUNCTION deployment_logs.refuse_other_hosts() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RETURN NEW; END'"
    ),
    "add a trigger": attack(
        "CREATE FUNCTION pg_temp.mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER mine BEFORE INSERT ON errors.deployment_errors FOR EACH ROW EXECUTE FUNCTION pg_temp.mine()",
    ),
    "add a rule": attack("CREATE RULE mine AS ON INSERT TO errors.deployment_errors DO INSTEAD NOTHING"),
    "add an event trigger": attack(
        "CREATE FUNCTION pg_temp.mine() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE EVENT TRIGGER mine ON ddl_command_start EXECUTE FUNCTION pg_temp.mine()",
    ),
    # What it makes in the database.
    "make a table": attack(*(f"CREATE TABLE {place}.mine (x int)" for place in (*STORES, "public", "pg_catalog"))),
    "make a function": attack(
        *(f"CREATE FUNCTION {place}.now() RETURNS int LANGUAGE sql AS 'SELECT 1'" for place in (*STORES, "public"))
    ),
    "make a view": attack(*(f"CREATE VIEW {place}.mine AS SELECT 1" for place in (*STORES, "public"))),
    "make a schema": attack("CREATE SCHEMA mine", 'CREATE SCHEMA "host-beta"'),
    "make an extension": attack(*(f"CREATE EXTENSION {one}" for one in ("dblink", "file_fdw", "plpython3u", "hstore"))),
    "make a language or a server": attack("CREATE LANGUAGE plperl", "CREATE SERVER mine FOREIGN DATA WRAPPER none"),
    "make a publication": attack(
        "CREATE PUBLICATION mine FOR ALL TABLES", "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p"
    ),
    "make an index or statistics": attack(
        "CREATE INDEX mine ON errors.deployment_errors (text)",
        "CREATE STATISTICS errors.mine ON environment, text FROM errors.deployment_errors",
    ),
    "comment": attack("COMMENT ON TABLE deployment_logs.host_roles IS 'restricted already'"),
    "alter a table": attack("ALTER TABLE errors.deployment_errors ADD COLUMN mine int"),
    "drop a table": attack("DROP TABLE errors.deployment_errors CASCADE", "DROP SCHEMA errors CASCADE"),
    "truncate": attack(*(f"TRUNCATE {one} CASCADE" for one in ("errors.deployment_errors", "deployment_logs.hosts"))),
    "rewrite a table": attack("CLUSTER errors.deployment_errors", "VACUUM FULL errors.deployment_errors"),
    # Names that mean something else to its session.
    "shadow pg_class to change another's host": attack(
        OWNS_PG_CLASS, "UPDATE deployment_logs.hosts SET dismissed_at = now() WHERE host_id = 'h-beta'"
    ),
    "shadow pg_class to take an environment": attack(
        OWNS_PG_CLASS,
        "UPDATE deployment_logs.hosts SET last_contact = '2000-01-01' WHERE host_id = 'h-beta'",
        "UPDATE deployment_logs.environment_hosts SET host_id = 'h-alpha' WHERE environment = 'beta'",
        wrong="SELECT FROM deployment_logs.environment_hosts WHERE environment = 'beta' AND host_id <> 'h-beta'",
    ),
    "shadow pg_class to break the audit log": attack(
        OWNS_PG_CLASS, FORGED, wrong="SELECT FROM deployment_logs.audit_log WHERE hash = 'forged'"
    ),
    "shadow functions": attack(
        "CREATE FUNCTION pg_temp.pg_has_role(name, oid, text) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
        "CREATE FUNCTION pg_temp.to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb'",
        "CREATE FUNCTION pg_temp.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
        "SET search_path = pg_temp, pg_catalog",
        "UPDATE deployment_logs.hosts SET dismissed_at = now() WHERE host_id = 'h-beta'",
        "UPDATE deployment_logs.environment_hosts SET host_id = 'h-alpha' WHERE environment = 'beta'",
        wrong="SELECT FROM deployment_logs.environment_hosts WHERE environment = 'beta' AND host_id <> 'h-beta'",
    ),
    "shadow an operator": attack(
        "CREATE FUNCTION pg_temp.same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
        "CREATE OPERATOR pg_temp.= (FUNCTION = pg_temp.same, LEFTARG = text, RIGHTARG = text)",
        "SET search_path = pg_temp, pg_catalog",
        BETA_ERROR,
    ),
    "shadow tables of the rules": attack(
        "CREATE TEMP TABLE host_roles AS SELECT 'h-beta' AS host_id, 'host-alpha' AS role",
        "CREATE TEMP TABLE environment_hosts (environment text, host_id text)",
        "CREATE TEMP TABLE hosts AS SELECT * FROM deployment_logs.hosts WHERE false",
        "SET search_path = pg_temp, deployment_logs",
        BETA_ERROR,
    ),
    "write through a view": attack(
        "CREATE TEMP VIEW mine AS SELECT * FROM errors.deployment_errors", "UPDATE mine SET text = 'gone'"
    ),
    # Ways around a rule of rows.
    "insert or else update": attack(
        "INSERT INTO deployment_logs.environment_leases SELECT (l).* FROM (SELECT l FROM "
        "deployment_logs.environment_leases l WHERE environment = 'beta') x ON CONFLICT (environment) DO UPDATE "
        "SET owner = 'mine'",
        "INSERT INTO deployment_logs.environment_hosts VALUES ('beta', 'h-alpha', now()) "
        "ON CONFLICT (environment) DO UPDATE SET host_id = 'h-alpha'",
        wrong="SELECT FROM deployment_logs.environment_hosts WHERE environment = 'beta' AND host_id <> 'h-beta'",
    ),
    "merge": attack(
        "MERGE INTO errors.deployment_errors e USING (SELECT 'beta' AS name) n ON e.environment = n.name "
        "WHEN MATCHED THEN UPDATE SET text = 'gone'",
        "MERGE INTO errors.deployment_errors e USING (SELECT 'beta' AS name) n ON e.environment = n.name "
        "WHEN MATCHED THEN DELETE",
    ),
    "update by a join": attack(
        "UPDATE errors.deployment_errors e SET text = 'gone' FROM errors.deployment_errors o WHERE true",
        "DELETE FROM errors.deployment_errors e USING errors.deployment_errors o WHERE e.environment = 'beta'",
    ),
    "update in a query": attack(f"WITH x AS ({BETA_ERROR} RETURNING *) SELECT * FROM x"),
    "update by a cursor": attack(
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT * FROM errors.deployment_errors WHERE environment = 'beta'",
        "FETCH c",
        "UPDATE errors.deployment_errors SET text = 'gone' WHERE CURRENT OF c",
        "COMMIT",
    ),
    "prepare": attack(f"PREPARE p AS {BETA_ERROR}", "EXECUTE p"),
    "update in a block": attack(f"DO $$ BEGIN {BETA_ERROR}; END $$"),
    "update in a function of its own": attack(
        f"CREATE FUNCTION pg_temp.mine() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ {BETA_ERROR} $$",
        "SELECT pg_temp.mine()",
    ),
    "give a row away": attack("UPDATE errors.deployment_errors SET environment = 'beta' WHERE environment = 'alpha'"),
    "hang a row on another's": attack(
        "UPDATE errors.error_impact_analysis SET error_id = 'e-beta' WHERE error_id = 'e-alpha'",
        "UPDATE deployment_logs.operation_steps SET deployment_id = 'd-beta' WHERE deployment_id = 'd-alpha'",
        "UPDATE monitoring.metric_samples SET series = 902 WHERE series = 901",
    ),
    "copy rows in": attack("COPY deployment_logs.environment_hosts FROM '/etc/passwd'"),
    "lock rows": attack(
        "SELECT text || 'locked' FROM errors.deployment_errors WHERE environment = 'beta' FOR UPDATE",
        "SELECT text || 'locked' FROM errors.deployment_errors WHERE environment = 'beta' FOR KEY SHARE",
        read="locked",
    ),
    "outlive its session": attack("BEGIN", "PREPARE TRANSACTION 'mine'", wrong="SELECT FROM pg_prepared_xacts"),
    # What belongs to whom.
    "claim the system itself": attack(
        "INSERT INTO deployment_logs.environment_hosts VALUES ('roas', 'h-alpha', now())",
        "UPDATE deployment_logs.environment_hosts SET environment = 'roas' WHERE environment = 'alpha'",
        wrong="SELECT FROM deployment_logs.environment_hosts WHERE environment = 'roas'",
    ),
    "take the environment of a host in contact": attack(
        "UPDATE deployment_logs.environment_hosts SET host_id = 'h-alpha'",
        "DELETE FROM deployment_logs.environment_hosts WHERE environment = 'beta'",
        wrong="SELECT FROM (SELECT count(*) FROM deployment_logs.environment_hosts WHERE host_id = 'h-beta' "
        "AND environment = 'beta') x (n) WHERE n = 0",
    ),
    "bind in another's name": attack(
        "INSERT INTO deployment_logs.environment_hosts VALUES ('new', 'h-beta', now())",
        "UPDATE deployment_logs.environment_hosts SET host_id = 'h-beta' WHERE environment = 'alpha'",
    ),
    "be another host": attack(
        "UPDATE deployment_logs.hosts SET host_id = 'h-gamma' WHERE host_id = 'h-alpha'",
        "INSERT INTO deployment_logs.hosts SELECT * FROM deployment_logs.hosts WHERE host_id = 'h-beta' "
        "ON CONFLICT (host_id) DO UPDATE SET name = 'mine'",
    ),
    "say that another is silent, dismissed or skewed": attack(
        *(
            f"UPDATE deployment_logs.hosts SET {change} WHERE host_id = 'h-beta'"
            for change in (
                "silent_since = now()",
                "dismissed_at = now()",
                "skewed_since = now()",
                "last_contact = '2000-01-01'",
                "name = 'x'",
                "clock_skew_seconds = 99",
            )
        )
    ),
    "say that another is silent for longer": attack(
        "UPDATE deployment_logs.hosts SET silent_since = '2000-01-01' WHERE host_id = 'h-beta'",
        before="UPDATE deployment_logs.hosts SET last_contact = now() AT TIME ZONE 'UTC' - interval '2 minutes' "
        "WHERE host_id = 'h-beta'",
        wrong="SELECT FROM deployment_logs.hosts WHERE silent_since = '2000-01-01'",
    ),
    "remove another host": attack("DELETE FROM deployment_logs.hosts WHERE host_id = 'h-beta'"),
    "change whose role it is": attack(
        "INSERT INTO deployment_logs.host_roles VALUES ('h-gamma', 'host-alpha')",
        "UPDATE deployment_logs.host_roles SET host_id = 'h-beta' WHERE role = 'host-alpha'",
        "DELETE FROM deployment_logs.host_roles",
    ),
    # What the stores keep about themselves.
    "forge the audit log": attack(
        FORGED,
        "UPDATE deployment_logs.audit_log SET content = '{}'",
        "DELETE FROM deployment_logs.audit_log",
        wrong="SELECT FROM deployment_logs.audit_log WHERE hash = 'forged'",
    ),
    "write in another's name": attack(
        "INSERT INTO errors.dead_letters (buried_at, target, reason, payload, written_by) "
        "VALUES (now(), 'x', 'x', '{}', 'host-beta')",
        "INSERT INTO monitoring.spool_positions (spool, position, written_by) VALUES ('mine', 1, 'host-beta')",
    ),
    "move another's spool on": attack(
        "UPDATE monitoring.spool_positions SET position = 9999999 WHERE spool = 'beta'",
        "DELETE FROM monitoring.spool_positions WHERE spool = 'beta'",
    ),
    "move the control plane's spool on": attack(
        "UPDATE monitoring.spool_positions SET position = 9999999 WHERE spool = 'plane'",
        "DELETE FROM monitoring.spool_positions WHERE spool = 'plane'",
    ),
    "change or remove refused rows": attack(
        "UPDATE errors.dead_letters SET reason = 'x'", "DELETE FROM errors.dead_letters"
    ),
    "change what a pattern is": attack(
        "UPDATE errors.error_patterns SET enabled = false",
        "UPDATE errors.error_patterns SET recovery_script_path = '/tmp/mine'",
        "DELETE FROM errors.error_patterns",
    ),
    "pause recoveries of others": attack(
        *(
            "INSERT INTO errors.recovery_controls SELECT (jsonb_populate_record(r, jsonb_build_object('environment', "
            f"'{name}'))).* FROM errors.recovery_controls r WHERE environment = 'alpha'"
            for name in ("", "beta")
        ),
        "UPDATE errors.recovery_controls SET environment = '' WHERE environment = 'alpha'",
        wrong="SELECT FROM errors.recovery_controls WHERE environment = ''",
    ),
    "beat for another": attack(
        "UPDATE monitoring.heartbeats SET name = 'watch/beta' WHERE name LIKE '%/alpha'",
        wrong="SELECT FROM monitoring.heartbeats WHERE name = 'watch/beta'",
    ),
    "write of another in a name": attack(
        "UPDATE monitoring.performance_baselines SET service_name = 'beta/web' WHERE environment = 'alpha'",
        "UPDATE monitoring.service_dependencies SET service_name = 'beta/web' WHERE environment = 'alpha'",
    ),
    "change the revision of the stores": attack("UPDATE errors.alembic_version SET version_num = 'r0001'"),
    "set a sequence": attack(
        "SELECT setval('errors.deployment_errors_id_seq', 1)",
        "ALTER SEQUENCE errors.deployment_errors_id_seq RESTART",
        wrong="SELECT FROM errors.deployment_errors_id_seq WHERE last_value = 1",
    ),
    "take the next numbers": attack(
        "INSERT INTO monitoring.reports SELECT (jsonb_populate_record(r, jsonb_build_object('id', n))).* "
        "FROM monitoring.reports r, generate_series(100, 110) n WHERE environment = 'alpha'",
        "UPDATE monitoring.reports SET id = id + 100 WHERE environment = 'alpha'",
        "UPDATE monitoring.metric_series SET id = 100 WHERE environment = 'alpha'",
        wrong="SELECT FROM monitoring.reports WHERE id >= 100 UNION ALL "
        "SELECT FROM monitoring.metric_series WHERE id = 100",
    ),
    # Beside the tables.
    "read what others ask": attack("SELECT query FROM pg_stat_activity", "SELECT * FROM pg_stat_get_activity(NULL)"),
    "read passwords": attack(
        "SELECT rolpassword FROM pg_authid",
        "SELECT passwd FROM pg_shadow",
        "SELECT query_to_xml('SELECT * FROM pg_authid', true, true, '')",
        read="SCRAM",
    ),
    "read files of the server": attack(
        "SELECT pg_read_file('PG_VERSION') || 'read'",
        "SELECT pg_ls_dir('.') || 'read'",
        "SELECT pg_stat_file('PG_VERSION')::text || 'read'",
        "SELECT lo_import('/etc/passwd')::text || 'read'",
        "SELECT type || 'read' FROM pg_hba_file_rules",
        read="read",
    ),
    "read files by COPY": attack(
        "CREATE TEMP TABLE mine (line text)",
        "COPY mine FROM '/etc/hostname'",
        "COPY mine FROM PROGRAM 'id'",
        "SELECT line || 'read' FROM mine",
        read="read",
    ),
    "read large objects": attack(
        "SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata", "SELECT data FROM pg_largeobject"
    ),
    "change large objects": attack(
        "SELECT lo_put(oid, 0, 'mine') FROM pg_largeobject_metadata",
        "SELECT lo_unlink(oid) FROM pg_largeobject_metadata",
        wrong=f"SELECT WHERE NOT EXISTS (SELECT FROM pg_largeobject WHERE data = '{TOKEN}')",
    ),
    "end connections of others": attack(
        "SELECT pg_terminate_backend(pid)::text || 'ended' FROM pg_stat_activity WHERE usename <> session_user",
        "SELECT pg_cancel_backend(pid)::text || 'ended' FROM pg_stat_activity WHERE usename <> session_user",
        read="trueended",
    ),
    "command the server": attack(
        *(
            f"SELECT {call}::text || 'done'"
            for call in (
                "pg_reload_conf()",
                "pg_switch_wal()",
                "pg_rotate_logfile()",
                "pg_create_restore_point('x')",
                "pg_create_physical_replication_slot('mine')",
                "pg_stat_reset()",
            )
        ),
        "CHECKPOINT",
        "ALTER SYSTEM SET max_connections = 1",
        read="done",
    ),
    "reach another server": attack(
        "SELECT dblink_connect('host=/tmp')", "CREATE FOREIGN TABLE mine (x int) SERVER other", "LOAD '/tmp/mine.so'"
    ),
}


@pytest.fixture(scope="module")
def seeded(server: PostgresqlForTests, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RowFleet]:
    """Hosts alpha and beta with rows of theirs in every table; none is connected."""
    folder = tmp_path_factory.mktemp("fleet")
    with server.database() as url:
        fleet = RowFleet(server, url, folder)
        for host in (ALPHA, BETA):
            make_role(fleet.settings(), f"host-{host.name}", host.host_id)
            with fleet.stores(f"host-{host.name}") as stores:
                stores.hosts.report(host, version="1", engine="", backlog=0)
                stores.hosts.bind(host.name, host)
        seed(fleet)
        with psycopg.connect(server.url(fleet.database, "host-beta")) as beta:
            beta.execute("INSERT INTO monitoring.spool_positions (spool, position) VALUES ('beta', 1)")
        with psycopg.connect(url) as owner:
            owner.execute("INSERT INTO monitoring.spool_positions (spool, position) VALUES ('plane', 1)")
            owner.execute(
                "INSERT INTO errors.dead_letters (buried_at, target, reason, payload) VALUES (now(), '', '', '')"
            )
            owner.execute("SELECT lo_from_bytea(0, %s)", [TOKEN.encode()])
            owner.execute("UPDATE deployment_logs.hosts SET last_contact = '2100-01-01'")
        yield fleet


@pytest.fixture
def fleet(seeded: RowFleet, server: PostgresqlForTests, tmp_path: Path) -> Iterator[RowFleet]:
    """A copy, for one attack."""
    name = f"test_{secrets.token_hex(6)}"
    server.run(f"CREATE DATABASE {name} TEMPLATE {seeded.database}")
    try:
        yield RowFleet(server, server.url(name), tmp_path)
    finally:
        server.run(f"DROP DATABASE {name} WITH (FORCE)")


CATALOGS = (
    "SELECT rolname, rolsuper, rolcreaterole, rolbypassrls, rolcanlogin, rolpassword, rolconfig FROM pg_roles",
    "SELECT rolname, rolpassword FROM pg_authid",
    "SELECT roleid, member, admin_option FROM pg_auth_members",
    "SELECT oid::regprocedure, prosrc, proacl, proconfig FROM pg_proc WHERE pronamespace::regnamespace::text !~ 'temp'",
    "SELECT oid::regclass, relacl, relrowsecurity, relowner, relnatts FROM pg_class WHERE relpersistence <> 't'",
    "SELECT nspname, nspacl FROM pg_namespace WHERE nspname !~ '^pg_(temp|toast)'",
    "SELECT polname, polrelid, polqual, polwithcheck FROM pg_policy",
    "SELECT tgrelid, tgname, tgenabled FROM pg_trigger",
    "SELECT objoid, description FROM pg_description WHERE objoid >= 16384",
    "SELECT extname FROM pg_extension",
    "SELECT setdatabase, setrole, setconfig FROM pg_db_role_setting",
    "SELECT evtname FROM pg_event_trigger",
    "SELECT pubname FROM pg_publication",
    "SELECT rulename FROM pg_rules WHERE schemaname <> 'pg_catalog'",
)


def all_that_is_not_alphas(owner: psycopg.Connection[Any]) -> dict[str, set[str]]:
    """Rows of others, and what the catalogs say."""
    asked = {said: said for said in CATALOGS}
    for store in STORES:
        for name in tables_of(store):
            asked[f"{store}.{name}"] = (
                f"SELECT to_jsonb(t)::text FROM {store}.{name} t WHERE to_jsonb(t)::text !~ 'alpha|\"series\": 901'"
            )
    return {name: {str(row) for row in owner.execute(said.encode())} for name, said in asked.items()}


def test_there_are_rows_of_others_in_every_table_to_be_attacked(seeded: RowFleet) -> None:
    with psycopg.connect(seeded.url) as owner:
        found = all_that_is_not_alphas(owner)
    empty = {name for name, rows in found.items() if not rows and "." in name and " " not in name}
    assert empty <= {
        *(f"{store}.archives" for store in STORES),
        *("deployment_logs.cross_store_intents", "deployment_logs.dead_letters", "monitoring.dead_letters"),
        *("deployment_logs.spool_positions", "errors.spool_positions", "errors.audit_log"),
    }
    assert len(ATTACKS) >= 40


@pytest.mark.campaign(seconds=0.4)
@pytest.mark.parametrize("verb", ["INSERT", "UPDATE", "DELETE"])
@pytest.mark.parametrize(
    "name",
    [f"{store}.{name}" for store in STORES for name, one in tables_of(store).items() if by_environment(store, one)],
)
def test_a_row_of_another_environment_is_not_written(seeded: RowFleet, name: str, verb: str) -> None:
    store, _, table = name.partition(".")
    said, values = statements(store, tables_of(store)[table], "beta")[verb]
    with seeded.connected("host-alpha", store) as alpha:
        assert refused(lambda: alpha.execute(said.encode(), values).rowcount)


@pytest.mark.campaign(seconds=0.4)
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_of_a_host_changes_nothing_of_others_and_reads_no_secret(fleet: RowFleet, name: str) -> None:
    tried = ATTACKS[name]
    with (
        psycopg.connect(fleet.url, autocommit=True) as owner,
        psycopg.connect(fleet.server.url(fleet.database, "host-beta"), autocommit=True) as beta,
    ):
        beta.execute(f"SELECT '{TOKEN}'")
        owner.execute(tried.before.encode())
        before = all_that_is_not_alphas(owner)
        read: list[str] = []
        with psycopg.connect(fleet.server.url(fleet.database, "host-alpha"), autocommit=True) as alpha:
            for said in tried.said:
                with suppress(psycopg.Error):
                    done = alpha.execute(said.encode())
                    if done.description is not None:
                        read += map(str, done.fetchall())
            with suppress(psycopg.Error):
                alpha.execute("ROLLBACK")
        after = all_that_is_not_alphas(owner)
        assert {key: after[key] ^ before[key] for key in before if after[key] != before[key]} == {}
        assert owner.execute(tried.wrong.encode()).fetchall() == []
        assert [text for text in read if TOKEN in text or tried.read in text] == []
        assert beta.execute("SELECT 1").fetchone() == (1,)
        beta.execute(BETA_ERROR.encode())
