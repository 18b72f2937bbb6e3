"""A rotated password is what the server takes and all its users have; a rotation that fails leaves the old one."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator

import pytest

from flows.deployment.rotate import rotate_secret
from flows.deployment.startup import startup
from models.failures import StartFailedError
from models.operations import Operation, OperationStatus
from tests.e2e.flows.conftest import Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.support.docker_command import docker_command
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = [pytest.mark.engine, pytest.mark.flow]

IMAGE = "roas/redis:local"
CHECK = "interval: 1s, timeout: 30s, retries: 20, start_interval: 100ms, start_period: 30s"
CACHE = f"""
cache:
  image: {IMAGE}
  command: [redis-server, --requirepass, "${{CACHE_PASSWORD}}"]
  healthcheck: {{test: [CMD-SHELL, "redis-cli ping"], {CHECK}}}
"""
APP = f"""
app:
  image: {IMAGE}
  init: true
  command: [sleep, "600"]
  environment: {{REDISCLI_AUTH: "${{CACHE_PASSWORD}}"}}
  depends_on: {{cache: {{condition: service_healthy}}}}
  healthcheck: {{test: [CMD-SHELL, "redis-cli -h cache ping | grep PONG"], {CHECK}}}
"""
APART = f"""
apart:
  image: {IMAGE}
  init: true
  command: [sleep, "600"]
"""


@pytest.fixture
def old(place: Place) -> Iterator[str]:  # noqa: F811
    """The application runs with this password, which stands between others in its file of variables."""
    password = f"correct-horse-{secrets.token_hex(4)}"
    (place.folder / ".env").write_text(f"# of the shop\nOTHER=1\n\nexport CACHE_PASSWORD='{password}'\nLAST=2\n")
    (place.folder / ".env").chmod(0o640)
    yield password


def declare(place: Place, *services: str) -> None:  # noqa: F811
    place.declare("".join(services), secrets="[{name: CACHE_PASSWORD}]")


def password_of(place: Place) -> str:  # noqa: F811
    (line,) = (line for line in (place.folder / ".env").read_text().splitlines() if "CACHE_PASSWORD" in line)
    return line.removeprefix("export CACHE_PASSWORD=").strip("'")


def ping(place: Place, password: str, service: str = "cache") -> str:  # noqa: F811
    words = ["docker", "exec", "-e", f"REDISCLI_AUTH={password}", place.container(service), "redis-cli", "ping"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def ids(place: Place, *services: str) -> list[str]:  # noqa: F811
    return [docker_command("inspect", "--format", "{{.Id}}", place.container(name)).strip() for name in services]


def last(place: Place) -> Operation:  # noqa: F811
    with place.stores() as stores:
        return stores.operations.history(environment="test", limit=1)[0]


def holds(place: Place, *values: str) -> list[str]:  # noqa: F811
    """The files of the data folder that have a value in clear."""
    files = [file for file in (place.folder / "data").rglob("*") if file.is_file()]
    return [str(file) for file in files if any(value.encode() in file.read_bytes() for value in values)]


async def test_the_server_and_its_users_have_the_new_password_and_nobody_gets_in_with_the_old(
    place: Place,
    old: str,
) -> None:
    declare(place, CACHE, APP, APART)
    await startup("test")
    before = ids(place, "apart", "cache", "app")

    result = await rotate_secret("test", secret="CACHE_PASSWORD")

    new = password_of(place)
    assert new != old
    assert ping(place, new) == "PONG"
    assert ping(place, old) != "PONG"
    assert ping(place, old, "app") != "PONG"
    assert result.success
    assert {start.service for start in result.services} == {"cache", "app"}
    after = ids(place, "apart", "cache", "app")
    assert after[0] == before[0]
    assert not set(after[1:]) & set(before[1:])
    text = (place.folder / ".env").read_text()
    assert text == f"# of the shop\nOTHER=1\n\nexport CACHE_PASSWORD={new}\nLAST=2\n"
    assert (place.folder / ".env").stat().st_mode & 0o777 == 0o640
    assert last(place).kind == "rotation"
    assert last(place).status is OperationStatus.SUCCESS
    assert holds(place, old, new) == []
    # Nothing differs from what a start would make.
    (kept,) = [start for start in (await startup("test")).services if start.service == "cache"]
    assert kept.kept


@pytest.mark.campaign(seconds=30)
async def test_a_rotation_after_which_a_user_is_unhealthy_is_undone_whole(place: Place, old: str) -> None:  # noqa: F811
    # It takes no password that is as long as a new one.
    declare(place, CACHE, APP.replace("redis-cli -h cache", "test $${#REDISCLI_AUTH} -lt 30 && redis-cli -h cache"))
    await startup("test")
    text = (place.folder / ".env").read_text()

    with pytest.raises(StartFailedError):
        await rotate_secret("test", secret="CACHE_PASSWORD")

    assert (place.folder / ".env").read_text() == text
    assert ping(place, old) == "PONG"
    assert place.health("app") == "healthy"
    assert last(place).record.undone == "CACHE_PASSWORD is as before: 2 services proven"
    assert not last(place).record.undo_failed
    assert holds(place, old) == []
    await startup("test")
