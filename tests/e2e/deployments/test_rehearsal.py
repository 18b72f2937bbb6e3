"""Updates rehearsed on a real engine: a copy beside production that names who is to blame, and leaves nothing."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Collection
from pathlib import Path

import pytest

from core.deployment.rehearsal import copy_name
from flows.deployment.startup import startup
from flows.deployment.update import update
from flows.storage.snapshot import snapshot
from flows.update.rehearsal import rehearse_update
from models.failures import BadInputError, StartFailedError
from models.operations import Operation
from models.rehearsals import UpdateRehearsal
from tasks.deployment.application_copy import end_left_copy
from tasks.runtime.project import open_project
from tests.e2e.flows.conftest import HEALTH, IMAGE, Place, flows_are_recorded, place, until  # noqa: F401 - fixtures
from tests.e2e.gallery.__main__ import BUILD
from tests.support.data_application import PASSWORD, Data, compose, data_of
from tests.support.killed_flow import killed_flow
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture
from tests.support.registry import image_id, registry

pytestmark = [pytest.mark.engine, pytest.mark.flow]

ALL = ("api", "orders", "web")
MIGRATE = (
    'echo "$VERSION" >> /rows/lines; test "$VERSION" = 1 || test "$BAD" != yes || '
    '{ echo "ERROR: column total does not exist"; exit 3; }'
)


def declare(
    place: Place,  # noqa: F811
    version: int,
    bad: Collection[str] = (),
    *,
    data: bool = True,
    migrated: Collection[str] = ALL,
) -> None:
    """Three services that write into one volume, and migrations."""
    services = "".join(
        f"""
        {name}:
          image: {IMAGE}
          pull_policy: never
          init: true
          container_name: {place.project}-{name}-1
          environment: {{VERSION: "{version}", BAD: "{"yes" if name in bad else "no"}"}}
          command: [sh, -c, 'touch /tmp/well; exec sleep 600']
          healthcheck: {HEALTH}
          volumes: ['{place.project}-rows:/rows', '/var/run/docker.sock:/engine.sock']
        """
        for name in ALL
    )
    hooks = [{"name": f"migrate-{name}", "service": name, "command": ["sh", "-c", MIGRATE]} for name in migrated]
    more = {"data": json.dumps({"save": [{"kind": "files", "volume": f"{place.project}-rows"}]})} if data else {}
    place.declare(services, hooks=json.dumps({"before": hooks}), stabilisation_seconds=0, **more)
    file = place.folder / "compose.yaml"
    file.write_text(f"{file.read_text()}\nvolumes:\n  {place.project}-rows: {{}}\n")


def docker(*words: str) -> list[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout.split()


def rows(place: Place) -> str:  # noqa: F811
    command = ["docker", "exec", place.container("web"), "sh", "-c", "cat /rows/lines"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def production(place: Place) -> list[str]:  # noqa: F811
    label = f"label=com.docker.compose.project={place.project}"
    return sorted(docker("ps", "-q", "--no-trunc", "--filter", label))


def left(place: Place) -> list[str]:  # noqa: F811
    """What there is of a copy."""
    label = ("--filter", f"label=roas.copy-of={place.project}")
    of_project = ("--filter", f"label=com.docker.compose.project={copy_name(place.project)}")
    kinds = (("ps", "-aq"), ("volume", "ls", "-q"), ("network", "ls", "-q"))
    found = [name for kind in kinds for chosen in (label, of_project) for name in docker(*kind, *chosen)]
    return found + docker("images", "-q", f"roas-rehearsal/{place.project}")


def last(place: Place) -> Operation:  # noqa: F811
    with place.stores() as stores:
        return stores.operations.history(environment="test")[0]


def rehearsal(place: Place) -> UpdateRehearsal:  # noqa: F811
    found = last(place).record.rehearsal
    assert found is not None
    return found


async def test_a_bad_migration_of_one_of_three_services_is_found_and_named_beside_production(
    place: Place,  # noqa: F811
) -> None:
    declare(place, 1, data=False, migrated=["orders"])
    await startup("test")
    subprocess.run(["docker", "exec", place.container("web"), "sh", "-c", "echo mine > /rows/lines"], check=True)
    before = production(place)
    declare(place, 2, bad={"orders"}, data=False, migrated=["orders"])

    with pytest.raises(StartFailedError, match=r"orders fails alone.*column total does not exist"):
        await rehearse_update("test")

    assert (production(place), rows(place), left(place)) == (before, "mine\n", [])
    found = rehearsal(place)
    assert (found.passed, found.culprits, found.changes) == (False, ("orders",), ALL)
    assert (last(place).kind, str(last(place).status)) == ("rehearsal", "failed")
    assert any("docker.sock" in note for note in found.notes)


@pytest.mark.campaign(seconds=30)
async def test_a_good_update_passes_on_the_data_of_the_snapshot_and_changes_nothing(place: Place) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    subprocess.run(["docker", "exec", place.container("web"), "sh", "-c", "echo mine > /rows/lines"], check=True)
    before = production(place)
    declare(place, 2)

    result = await rehearse_update("test", snapshot=True)

    assert result.success
    found = rehearsal(place)
    assert found.passed
    assert sorted(found.took_seconds) == list(ALL)
    assert found.memory_bytes > 0
    assert found.snapshot
    assert (production(place), rows(place), left(place)) == (before, "mine\n", [])
    assert (await rehearse_update("test", services=["web"])).success
    assert rehearsal(place).changes == ("web",)


@pytest.mark.campaign(seconds=20)
async def test_another_project_of_the_copys_name_is_left_alone(place: Place) -> None:  # noqa: F811
    declare(place, 1, data=False)
    await startup("test")
    declare(place, 2, data=False)
    label, name = f"com.docker.compose.project={copy_name(place.project)}", copy_name(place.project)
    docker("volume", "create", "--label", label, f"{name}_rows")
    try:
        with pytest.raises(BadInputError, match="Another project on this engine is called"):
            await rehearse_update("test")
        assert docker("volume", "ls", "-q", "--filter", f"label={label}") == [f"{name}_rows"]
    finally:
        docker("volume", "rm", f"{name}_rows")


@pytest.mark.campaign(seconds=300)
@pytest.mark.parametrize("seed", range(10))
async def test_ten_of_ten_culprits_are_named(place: Place, seed: int) -> None:  # noqa: F811
    bad = random.Random(seed).choice(ALL)
    declare(place, 1, data=False)
    await startup("test")
    before = production(place)
    declare(place, 2, bad={bad}, data=False)
    with pytest.raises(StartFailedError):
        await rehearse_update("test")
    assert rehearsal(place).culprits == (bad,)
    assert (production(place), left(place)) == (before, [])


def exists(*words: str) -> bool:
    return bool(docker(*words))


KILLED_WHEN = {
    "at its first network": ("network", "ls", "-q", "--filter", "label=roas.copy-of={project}"),
    "at its first volume": ("volume", "ls", "-q", "--filter", "label=roas.copy-of={project}"),
    "at its first container": ("ps", "-aq", "--filter", "label=roas.copy-of={project}"),
    "in a hook": ("ps", "-aq", "--filter", "name={project}-rehearsal-hook"),
    "while it starts": ("ps", "-q", "--filter", "label=roas.copy-of={project}", "--filter", "health=healthy"),
}


@pytest.mark.campaign(seconds=150)
@pytest.mark.parametrize("moment", KILLED_WHEN)
async def test_a_killed_rehearsal_leaves_nothing_to_whoever_comes_next(place: Place, moment: str) -> None:  # noqa: F811
    declare(place, 1)
    await startup("test")
    await snapshot("test")
    before = production(place)
    declare(place, 2)
    words = [word.format(project=place.project) for word in KILLED_WHEN[moment]]
    killed_flow("rehearse-update", {"environment": "test"}, when=lambda: exists(*words))
    assert left(place)

    if moment == "in a hook":
        assert (await rehearse_update("test")).success
    else:
        await end_left_copy(open_project("test"))

    await until(lambda: not left(place), 20)
    assert production(place) == before
    await end_left_copy(open_project("test"))
    assert production(place) == before


def psql(name: str, statement: str) -> dict[str, object]:
    words = ["psql", "-h", "127.0.0.1", "-U", "shop", "-d", "shop", "-v", "ON_ERROR_STOP=1", "-c", statement]
    return {"name": name, "exec": {"service": "db", "command": ["env", f"PGPASSWORD={PASSWORD}", *words]}}


@pytest.mark.campaign(seconds=180)
async def test_each_kind_of_data_is_in_the_copy_and_what_a_migration_does_there_stays_there(
    place: Place,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subprocess.run([BUILD], check=True, capture_output=True)
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    services = ("db", "maria", "cache", "app")

    def declare_data(change: str, *before: object, after: Collection[object] = ()) -> None:
        hooks = json.dumps({"before": list(before), "after": list(after)})
        place.declare("", secrets="[{name: SHOP_PASSWORD}]", data=data_of(*services), hooks=hooks)
        (place.folder / "compose.yaml").write_text(compose(*services, change=change))

    declare_data("1")
    await startup("test")
    data = Data(place.project)
    data.fill("saved", services)
    await snapshot("test")
    data.fill("now", services)
    held, before = data.held(services), production(place)
    checks = [
        {"name": name, "exec": {"service": service, "command": ["sh", "-c", script]}}
        for name, service, script in (
            ("files", "app", "test -e /srv/files/only-saved && test -e /srv/state/app.db"),
            ("keys", "cache", f"REDISCLI_AUTH={PASSWORD} redis-cli get goods | grep -q saved"),
            ("tables", "maria", "mariadb -N shop -e 'select name from shown' | grep -q saved"),
        )
    ]
    declare_data("2", psql("migrate", "alter table only_saved add column price int"), after=checks)

    assert (await rehearse_update("test")).success

    assert rehearsal(place).changes == tuple(sorted(services))
    assert (data.held(services), production(place), left(place)) == (held, before, [])
    declare_data("2", psql("migrate", "insert into goods values ('saved')"))
    with pytest.raises(StartFailedError, match="duplicate key value") as failed:
        await rehearse_update("test", services=["app"])
    assert PASSWORD not in str(failed.value)
    assert (data.held(services), production(place), left(place)) == (held, before, [])


@pytest.mark.campaign(seconds=90)
async def test_images_are_pulled_and_built_without_moving_a_name_of_production(place: Place, tmp_path: Path) -> None:  # noqa: F811
    well = 'CMD ["sh", "-c", "touch /tmp/well; exec sleep 600"]'
    context = place.folder / "made"
    context.mkdir()

    def build(version: int) -> None:
        (context / "Dockerfile").write_text(f"FROM {IMAGE}\nENV VERSION={version}\n{well}\n")

    with registry(tmp_path / "registry") as images:
        for name in ("good", "poor", "job"):
            images.publish(name, "ENV VERSION=1", well)
        build(1)
        services = "".join(
            f"\n{name}:\n  init: true\n  {source}\n  healthcheck: {HEALTH}\n  {more}\n"
            for name, source, more in (
                ("good", f"image: {images.image('good')}", ""),
                ("poor", f"image: {images.image('poor')}", ""),
                ("made", "build: made", ""),
                ("job", f"image: {images.image('job')}", "profiles: [jobs]"),
            )
        )
        hooks = {"before": [{"name": "job", "service": "job", "command": ["sh", "-c", "test $VERSION -lt 3"]}]}
        place.declare(services, hooks=json.dumps(hooks), stabilisation_seconds=0)
        docker("pull", "-q", images.image("job"))
        await startup("test")
        names = [images.image(name) for name in ("good", "poor", "job")] + [f"{place.project}-made"]
        ids, before = [image_id(name) for name in names], production(place)
        for name, version in (("good", 2), ("job", 3)):
            images.publish(name, f"ENV VERSION={version}", well)
        images.publish("poor", "ENV VERSION=2", 'CMD ["sh", "-c", "echo FATAL: no licence; exit 3"]')
        build(2)

        with pytest.raises(StartFailedError):
            await rehearse_update("test")

        found = rehearsal(place)
        assert found.changes == ("good", "job", "made", "poor")
        assert found.culprits == ("job", "poor")
        assert "no licence" in found.tried["poor"]
        assert ([image_id(name) for name in names], production(place), left(place)) == (ids, before, [])

        images.publish("job", "ENV VERSION=2", well)
        with pytest.raises(StartFailedError):
            await update("test")
        assert (await rehearse_update("test")).success
        assert "poor" not in rehearsal(place).changes
        with pytest.raises(StartFailedError, match=r"poor.*no licence"):
            await rehearse_update("test", held_back=True)
        assert left(place) == []
