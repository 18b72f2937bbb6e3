"""PostgreSQL, MariaDB and RabbitMQ take a rotated password, also from a file or after kills, and the old one back."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import pytest

from flows.deployment.rotate import rotate_secret
from flows.deployment.startup import startup
from models.failures import BadInputError, StartFailedError
from models.operations import OperationStatus
from tests.e2e.deployments.test_rotation import FORWARD, holds, last
from tests.e2e.deployments.test_snapshots import image  # noqa: F401 - fixture
from tests.e2e.flows.conftest import Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.support.killed_flow import killed_flow
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=60)]

CHECK = "interval: 1s, timeout: 30s, retries: 30, start_interval: 500ms, start_period: 10s"
SERVERS = {
    "postgresql": (
        "command: [start-postgres]",
        "POSTGRES_USER: shop, POSTGRES_DB: shop, POSTGRES_PASSWORD: '${DB_PASSWORD}'",
        "/var/lib/postgresql/data",
        "expose: [5432]",
        "pg_isready -q -h 127.0.0.1",
        'PGPASSWORD="$$P" psql -h db -U shop -d shop -c "select 1"',
    ),
    "postgresql-file": (
        "command: [sh, -c, 'POSTGRES_PASSWORD=$$(cat $$POSTGRES_PASSWORD_FILE) exec start-postgres']",
        "POSTGRES_USER: shop, POSTGRES_DB: shop, POSTGRES_PASSWORD_FILE: /run/secrets/password",
        "/var/lib/postgresql/data",
        "expose: [5432]",
        "pg_isready -q -h 127.0.0.1",
        'PGPASSWORD="$$(cat /run/secrets/password)" psql -h db -U shop -d shop -c "select 1"',
    ),
    "rabbitmq": (
        "command: [rabbitmq-server]\n  hostname: db",
        "RABBITMQ_DEFAULT_USER: shop, RABBITMQ_DEFAULT_PASS: '${DB_PASSWORD}'",
        "/var/lib/rabbitmq",
        "expose: [5672]",
        "rabbitmq-diagnostics -q check_port_listener 5672",
        """python3 -c "import amqp, os; amqp.Connection('db', 'shop', os.environ['P']).connect()" """,
    ),
    "mariadb": (
        "command: [start-mariadb]",
        "MARIADB_USER: shop, MARIADB_DATABASE: shop, MARIADB_PASSWORD: '${DB_PASSWORD}'",
        "/var/lib/mysql",
        "expose: [3306]",
        "mariadb-admin -h 127.0.0.1 ping",
        'MYSQL_PWD="$$P" mariadb -h db -u shop shop -e "select 1"',
    ),
}


@pytest.fixture
def shop(place: Place) -> Iterator[Place]:  # noqa: F811
    yield place
    subprocess.run(
        ["docker", "rm", "-f", place.container("db"), place.container("app")], capture_output=True, check=False
    )
    subprocess.run(["docker", "volume", "rm", "-f", f"{place.project}_data"], capture_output=True, check=False)


def declare(place: Place, kind: str, *, only: str = "true") -> str:  # noqa: F811
    """The application with a server and its user, whose check also asks for `only`; its password."""
    command, variables, folder, expose, check, login = SERVERS[kind]
    asked = f"{only} && {login}".replace("'", "''")
    password, is_file = f"correct-horse-{secrets.token_hex(4)}", kind.endswith("file")
    gets = "secrets: [password]" if is_file else "labels: {none: none}"
    (place.folder / ("password" if is_file else ".env")).write_text(f"{'' if is_file else 'DB_PASSWORD='}{password}\n")
    place.declare(
        f"""
db:
  image: roas/gallery:local
  {command}
  environment: {{{variables}}}
  {expose}
  {gets}
  volumes: [data:{folder}]
  healthcheck: {{test: [CMD-SHELL, "{check}"], {CHECK}}}
app:
  image: roas/gallery:local
  init: true
  command: [sleep, "900"]
  environment: {{P: "{"none" if is_file else "${DB_PASSWORD}"}"}}
  {gets}
  depends_on: {{db: {{condition: service_healthy}}}}
  healthcheck: {{test: [CMD, sh, -c, '{asked}'], {CHECK}}}
""",
        secrets="[{name: DB_PASSWORD, file: password}]" if is_file else "[{name: DB_PASSWORD}]",
    )
    with (place.folder / "compose.yaml").open("a") as file:
        file.write("volumes: {data: {}}\n" + ("secrets: {password: {file: ./password}}\n" if is_file else ""))
    return password


def login(place: Place, kind: str, password: str) -> bool:  # noqa: F811
    command = SERVERS[kind][-1].replace("$$(cat /run/secrets/password)", "$$P").replace("$$", "$")
    words = ["docker", "exec", "-e", f"P={password}", place.container("app"), "sh", "-c", command]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def password_of(place: Place) -> str:  # noqa: F811
    file = place.folder / "password"
    return (file if file.exists() else place.folder / ".env").read_text().strip().removeprefix("DB_PASSWORD=")


@pytest.mark.parametrize("kind", SERVERS)
async def test_the_server_takes_the_new_password_and_refuses_the_old_one(shop: Place, kind: str) -> None:
    old = declare(shop, kind)
    await startup("test")
    assert login(shop, kind, old)

    await rotate_secret("test", secret="DB_PASSWORD")

    new = password_of(shop)
    assert login(shop, kind, new)
    assert not login(shop, kind, old)
    assert shop.health("app") == "healthy"
    assert holds(shop, old, new) == []
    assert last(shop).status is OperationStatus.SUCCESS
    assert all(start.kept for start in (await startup("test")).services)


@pytest.mark.parametrize("kind", ["postgresql", "rabbitmq"])
async def test_the_server_takes_the_old_password_again_where_a_user_is_unhealthy_with_the_new_one(
    shop: Place, kind: str
) -> None:
    old = declare(shop, kind, only="test $${#P} -lt 30")
    await startup("test")

    with pytest.raises(StartFailedError):
        await rotate_secret("test", secret="DB_PASSWORD")

    assert password_of(shop) == old
    assert login(shop, kind, old)
    assert shop.health("app") == "healthy"
    assert not last(shop).record.undo_failed
    await startup("test")


@pytest.mark.parametrize(("kind", "moments"), [("postgresql", FORWARD), ("rabbitmq", FORWARD[1:4])])
@pytest.mark.campaign(seconds=80)
async def test_a_rotation_that_is_killed_at_any_step_goes_on_with_the_same_password(
    shop: Place, kind: str, moments: tuple[tuple[str, str], ...]
) -> None:
    present = declare(shop, kind)
    await startup("test")

    for moment in moments:
        killed_flow("rotate-secret", {"environment": "test", "secret": "DB_PASSWORD"}, *moment)
        killed = last(shop).deployment_id
        assert holds(shop, present) == [], moment

        for _ in range(2):
            # The second time there is nothing to go on with, and nothing happens.
            with suppress(BadInputError):
                await rotate_secret("test", secret="DB_PASSWORD", deployment_id=killed)

        new = password_of(shop)
        assert new != present, moment
        assert login(shop, kind, new), moment
        assert not login(shop, kind, present), moment
        assert shop.health("app") == "healthy", moment
        present = new
    assert all(start.kept for start in (await startup("test")).services)
