"""A rotated password is what the server takes and all its users have; a rotation that fails leaves the old one."""

from __future__ import annotations

import secrets
import subprocess

import pytest

from flows.deployment.rotate import rotate_secret
from flows.deployment.startup import startup
from models.failures import HalfRotatedError, PausedError, StartFailedError
from models.operations import Operation, OperationStatus
from tests.e2e.flows.conftest import Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.support.docker_command import docker_command
from tests.support.killed_flow import killed_flow
from tests.support.person_between import PAUSED_CONTAINER, STOPPED, between
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = [pytest.mark.engine, pytest.mark.flow]

NAME = "CACHE_PASSWORD"
IMAGE = "roas/redis:local"
CHECK = "interval: 1s, timeout: 30s, retries: 5, start_interval: 100ms, start_period: 10s"
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
def old(place: Place) -> str:  # noqa: F811
    """The application runs with this password, which stands between others in its file of variables."""
    password = f"correct-horse-{secrets.token_hex(4)}"
    (place.folder / ".env").write_text(f"# of the shop\nOTHER=1\n\nexport CACHE_PASSWORD='{password}'\nLAST=2\n")
    (place.folder / ".env").chmod(0o640)
    return password


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
    place: Place,  # noqa: F811
    old: str,
) -> None:
    declare(place, CACHE, APP, APART)
    await startup("test")
    before = ids(place, "apart", "cache", "app")

    result = await rotate_secret("test", secret=NAME)

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
        await rotate_secret("test", secret=NAME)

    assert (place.folder / ".env").read_text() == text
    assert ping(place, old) == "PONG"
    assert place.health("app") == "healthy"
    assert last(place).record.undone == "CACHE_PASSWORD is as before: 2 services proven"
    assert not last(place).record.undo_failed
    assert holds(place, old) == []
    await startup("test")


FORWARD = (
    ("before", "prepared"),
    ("after", "prepared"),
    ("before", "told"),
    ("after", "told"),
    ("before", "written"),
    ("after", "written"),
    ("after", "replacing"),
    ("before", "replaced"),
    ("after", "replaced"),
)
BACK = (("after", "undoing"), ("after", "told back"), ("after", "written back"), ("before", "replaced back"))


async def resume(place: Place, killed: str = "") -> None:  # noqa: F811
    """Continue the operation that was killed, as `roas resume` does."""
    await rotate_secret("test", secret=NAME, deployment_id=killed or last(place).deployment_id)


@pytest.mark.parametrize("moments", [FORWARD[:3], FORWARD[3:6], FORWARD[6:]], ids=["told", "written", "replaced"])
@pytest.mark.campaign(seconds=90)
async def test_a_killed_rotation_goes_on_with_the_same_password(
    place: Place,  # noqa: F811
    old: str,
    moments: tuple[tuple[str, str], ...],
) -> None:
    declare(place, CACHE, APP)
    await startup("test")
    present = old

    for moment in moments:
        killed_flow("rotate-secret", {"environment": "test", "secret": NAME}, *moment)
        killed = last(place).deployment_id
        if moment == ("before", "told"):
            with pytest.raises(HalfRotatedError, match="is not over"):
                await startup("test")
        assert holds(place, present) == [], moment

        if moment == ("after", "told"):
            await rotate_secret("test", secret=NAME)
        else:
            await resume(place, killed)

        new = password_of(place)
        assert new != present, moment
        assert ping(place, new) == "PONG", moment
        assert ping(place, present) != "PONG", moment
        assert place.health("app") == "healthy", moment
        present = new
    await startup("test")


@pytest.mark.parametrize("moment", BACK, ids=" ".join)
@pytest.mark.campaign(seconds=60)
async def test_a_rotation_that_is_killed_while_it_is_undone_is_only_undone(
    place: Place,  # noqa: F811
    old: str,
    moment: tuple[str, str],
) -> None:
    declare(place, CACHE, APP.replace("redis-cli -h cache", "test $${#REDISCLI_AUTH} -lt 30 && redis-cli -h cache"))
    await startup("test")
    text = (place.folder / ".env").read_text()

    killed_flow("rotate-secret", {"environment": "test", "secret": NAME}, *moment)
    with pytest.raises(StartFailedError):
        await resume(place)

    assert (place.folder / ".env").read_text() == text
    assert ping(place, old) == "PONG"
    assert place.health("app") == "healthy"
    assert not last(place).record.undo_failed
    assert holds(place, old) == []
    await startup("test")


@pytest.mark.campaign(seconds=60)
async def test_what_a_person_stopped_in_a_killed_rotation_is_started_only_where_a_person_asks(
    place: Place,  # noqa: F811
    old: str,
) -> None:
    declare(place, CACHE, APP)
    await startup("test")
    killed_flow("rotate-secret", {"environment": "test", "secret": NAME}, "after", "prepared")
    killed = last(place).deployment_id
    await between(place, STOPPED, "cache")

    with pytest.raises(PausedError, match="was stopped since"):
        await rotate_secret("test", secret=NAME, deployment_id=killed)

    assert place.containers(running=True) == []
    await rotate_secret("test", secret=NAME)
    assert ping(place, password_of(place)) == "PONG"
    assert ping(place, old) != "PONG"
    assert place.containers(running=True) == ["app", "cache"]


@pytest.mark.campaign(seconds=60)
async def test_a_killed_rotation_waits_for_what_a_person_paused(place: Place, old: str) -> None:  # noqa: F811
    declare(place, CACHE, APP)
    await startup("test")
    killed_flow("rotate-secret", {"environment": "test", "secret": NAME}, "after", "told")
    await between(place, PAUSED_CONTAINER, "cache")

    with pytest.raises(PausedError):
        await resume(place)

    docker_command("unpause", place.container("cache"))
    await resume(place)
    assert ping(place, password_of(place)) == "PONG"
    assert ping(place, old) != "PONG"
